//! Plain types: no SQL, no gRPC, no decisions. All other modules of the crate use them.

pub mod directory;
pub mod feed;
pub mod import;
pub mod instruction;
pub mod lookup;
pub mod operation;
pub mod region;
pub mod rename;
pub mod report;
pub mod reservation;
