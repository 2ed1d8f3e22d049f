//! The work in each state of an import, one file for each state.

mod check;
mod finish;
mod plan;
mod report;
mod resolve_slugs;
mod revert;
mod write;
