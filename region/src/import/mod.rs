//! Imports: what callers can do with them, and how they move from state to state.
//!
//! A file uses only files above it in this list:
//!
//! 1. [`state`] and [`types`];
//! 2. `context`: what the parts of an import share, with `lease`, `spool`, `findings` and `fitted`;
//! 3. `run`: what one process has in memory of an import that it runs, with `running`, the part that watchers see;
//! 4. what the steps do with records: `plan`, `keys`, `batches`, `mapped`, `follow`, `chunks`, `dry_run`, `writes`;
//!    and with organizations: `owners`, `changed_slug`, `counts`;
//! 5. `steps`: the work in each state, one file for each;
//! 6. `engine`: the loop that goes from step to step, and `left_over`, which continues what a former process left;
//! 7. `calls`: what callers can do.

// First, because the other modules use its macro `transact_leased!`.
#[macro_use]
mod lease;

mod batches;
mod calls;
mod changed_slug;
mod chunks;
mod context;
mod counts;
mod dry_run;
mod engine;
mod findings;
mod fitted;
mod follow;
mod keys;
mod leased_ids;
mod left_over;
mod mapped;
mod owners;
mod pace;
mod plan;
mod run;
mod running;
mod spool;
mod state;
mod steps;
mod types;
mod writes;

pub use calls::{Announced, ImportView, ModelKey, Requester, Upload};
pub(crate) use calls::{Approved, Imports};
pub(crate) use context::ImportContext;
pub(crate) use engine::Engine;
pub use lease::Lease;
pub(crate) use pace::Pace;
pub use running::Progress;
pub use state::{ImportState, Worker};
pub use types::{Failure, Import, ImportedOrganization, ModelCounts, Parameters, SlugPlan, Waiting};
