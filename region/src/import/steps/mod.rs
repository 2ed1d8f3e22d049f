//! What is done in each state of an import. One file for each state, by its name.

mod check;
mod finish;
mod plan;
mod report;
mod resolve_slugs;
mod revert;
mod write;
