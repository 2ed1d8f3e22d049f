//! Tests with faults: services are killed, calls get lost or arrive twice, databases go away, at every step and at
//! random. The tests check that nothing is lost, done twice or half done. See `docs/testing.md`.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod acting;
mod answers;
mod challenges;
mod driver;
mod history;
mod listed;
mod observer;
pub(crate) mod outsider;
#[cfg(feature = "failpoints")]
mod processes;
mod reconcile;
mod renames;
mod router;
mod scenario;
mod seeds;
mod steps;
mod watcher;
