//! Slugs: which ones are valid and how control picks one ([`rules`], [`operation`]), which organization has which
//! ([`reservations`]), and how an organization gets another one ([`renames`], [`product_renames`]).
//!
//! An operation passes through these states. Work in progress is done in parts, each in one transaction that has the
//! lock of the region's feed. If it ends half way, for whatever reason, the same call continues it.
//!
//! | state | in progress | what exists | what continues it |
//! | --- | --- | --- | --- |
//! | reserved | reserving | some temporary reservations, not yet answered | the same bulk creation; a release |
//! | reserved | withdrawing | some of those; the last part deletes the operation | the same bulk creation; a release |
//! | reserved | | a temporary reservation for each organization, and the answer | a confirmation; a release |
//! | reserved | confirming | the first ones are primary, and their events exist | the same confirmation; a release |
//! | confirmed | | all are primary | a release |
//! | released | releasing | some reservations, no answer | the same release |
//! | released | | none | nothing |
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | some slugs were reserved | reserving | the region asks again: the organizations without a slug get theirs |
//! | all were, and some of the answer was stored | reserving | the region asks again, and the rest is stored |
//! | some were freed, because of a conflict | withdrawing | asked again: the rest is freed, then it begins as if new |
//! | some were confirmed | confirming; their organizations are not visible yet | confirmed again: the rest follows |
//! | some were freed | releasing | released again; a region's comparison releases operations that nobody works on |
//!
//! A conflict is an organization that already has a slug from another operation, or that belongs to another region. An
//! organization that has got a slug keeps it when the region asks again.

mod bulk_creation;
pub mod bulk_intake;
mod confirmation;
pub mod lookup;
pub mod operation;
pub mod product_renames;
pub mod renames;
pub mod reservations;
pub mod rules;
pub(crate) mod waiting;
