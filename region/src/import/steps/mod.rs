//! The work in each state of an import, one file for each state. Each file says first what is left when the process
//! dies, then has `run`, which the engine calls, and what that uses. `run` can be called again after any failure. The
//! transaction that ends the work of a state also moves the import to its next state; that of SUCCEEDED, the last
//! one, marks it as reported. RESOLVING_SLUGS takes several calls of `run`.

pub(super) mod checking;
pub(super) mod finishing;
pub(super) mod planning;
pub(super) mod resolving_slugs;
pub(super) mod reverting;
pub(super) mod succeeded;
pub(super) mod writing;
