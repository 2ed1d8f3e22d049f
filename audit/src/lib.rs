//! The audit log of a silo: who changed what, when and from where. Control and regions both have one.
//!
//! A use case [`append`]s a row in the transaction of its change, so that there is a row if and only if the change was
//! committed. It learns from the current [`Call`] who made it. A call that fails gets a row from [`Audit::failed`], in
//! a transaction of its own.
//!
//! Rows are never changed. About a second after its commit, each row gets the next position in a chain of
//! hashes, so that [`chain::Verifier`] can find out whether somebody has changed, added or removed rows in
//! the database. Writers do not wait for each other because of that: one background task seals rows that are
//! committed.

mod call;
pub mod chain;
mod convert;
mod entries;
mod entry;
mod failures;
mod grpc;
mod keeper;
pub mod store;
mod subject;

pub use call::{Call, about, current_request_id, in_current_call, scope};
pub use convert::InvalidEntry;
pub use entries::EntryPosition;
pub use entry::{Entry, StoredLink};
pub use keeper::{Audit, Options};
pub use store::{append, append_each, append_failure};
pub use subject::Subject;
