//! Imports: what callers can do with them, and how they move from state to state.
//!
//! A file uses only files before it in this list:
//!
//! 1. [`state`] and [`types`]; `instruction`; and `pace`, which uses none of the others;
//! 2. `context`: what the parts of an import share, with `lease`, `spool`, `findings` and `fitted`;
//! 3. chunks: `leased_ids`, `batches`, `chunks`, `mapped`; and `traced`, the spans of an import in its trace;
//! 4. `running`, the part of a run that watchers see, and `run`: what one process has in memory of an import;
//! 5. what the steps do with records: `plan`, `keys`, `copied_columns`, `dry_run_chunk`, `writes`; and with organizations: `owners`,
//!    `changed_slug`, `counts`, `at_control`;
//! 6. `steps`: the work in each state, one file for each; REVERTING also uses the operation ids of RESOLVING_SLUGS;
//! 7. `engine`: the loop that goes from step to step, and `recovery`, which continues what a former process left;
//! 8. `calls`: what callers can do.

// First, because the other modules use its macro `transact_leased!`.
#[macro_use]
mod lease;

pub(crate) mod at_control;
mod batches;
mod calls;
mod changed_slug;
mod chunks;
mod context;
mod copied_columns;
mod counts;
mod dry_run_chunk;
mod engine;
mod findings;
mod fitted;
mod instruction;
mod keys;
mod leased_ids;
mod mapped;
mod owners;
mod pace;
mod plan;
mod recovery;
mod run;
mod running;
mod spool;
mod state;
mod steps;
mod traced;
mod types;
mod writes;

pub(crate) use calls::Imports;
pub use calls::{Announced, ImportView, ModelKey, Requester, Upload};
pub(crate) use context::ImportContext;
pub(crate) use engine::Engine;
pub(crate) use instruction::{Answer, Instruction, InstructionKind, Refusal};
pub(crate) use pace::Pace;
pub use running::{Progress, Throttled};
pub use state::{ImportState, Worker};
pub(crate) use steps::resolving_slugs::operation_id as slug_operation_id;
pub(crate) use types::{Approved, Begun};
pub use types::{
    Failure, Import, ImportedOrganization, Lease, ModelCounts, Parameters, Pause, SlugPlan, Waiting,
};
