//! Everything that control and the regions do with an export. Contains no gRPC code, and does not depend on which silo
//! runs it.

pub mod catalog;
pub mod chunk;
pub mod encrypted;
pub mod export;
pub mod finding;
pub mod generate;
pub mod inspect;
pub mod keys;
pub mod mapping;
pub mod meant;
mod nested_ids;
pub mod plan;
pub mod revert;
pub mod schema;
pub mod slug;
mod spill;
pub mod value;
pub mod writer;
