//! Slugs: which ones are valid and how one is picked ([`rules`], [`operation`]), who has one ([`reservations`]), and how an
//! organization gets another one ([`renames`]).
//!
//! An operation goes through these states. What is under way is done in parts, each in one transaction that has the lock of
//! the region's feed; whatever ends it half way, the same call goes on with it.
//!
//! | state | under way | what is there | what takes it on |
//! | --- | --- | --- | --- |
//! | reserved | reserving | some temporary reservations, of which nobody has heard | the same bulk creation; a release |
//! | reserved | withdrawing | some of those; the operation goes with the last one | the same bulk creation; a release |
//! | reserved | | a temporary reservation for each organization, and the answer | a confirmation; a release |
//! | reserved | confirming | the first ones are primary, and their events are there | the same confirmation; a release |
//! | confirmed | | all are primary | a release |
//! | released | releasing | some reservations, no answer | the same release |
//! | released | | none | nothing |
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | some slugs were reserved | reserving | the region asks again: each organization keeps the slug that it has, the others get theirs |
//! | all were, and some of the answer was kept | reserving | asked again, the rest is kept |
//! | some were freed again, for an organization had a slug by another operation | withdrawing | asked again, the rest is freed, and it is asked for as if for the first time |
//! | some were confirmed | confirming: no organization of them is visible yet | the region confirms again, and the others become primary |
//! | some were freed | releasing | released again; the comparison of a region releases what nobody works on |

mod bulk_creation;
pub mod bulk_intake;
mod confirmation;
pub mod operation;
pub mod renames;
pub mod reservations;
pub mod rules;
mod waiting;
