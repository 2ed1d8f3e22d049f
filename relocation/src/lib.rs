//! What a silo does with an export. Knows no gRPC and not which silo it is in.

pub mod catalog;
pub mod chunk;
pub mod encrypted;
pub mod export;
pub mod finding;
pub mod generate;
pub mod keys;
pub mod mapping;
pub mod plan;
pub mod revert;
pub mod schema;
pub mod slug;
pub mod value;
pub mod writer;
