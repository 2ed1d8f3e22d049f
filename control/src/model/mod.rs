//! What control speaks of, in plain types: no SQL, no contract, no decision. Everything else in the crate stands on them.

pub mod directory;
pub mod feed;
pub mod import;
pub mod operation;
pub mod region;
pub mod rename;
pub mod reservation;
