//! What a silo does with an export. Knows no gRPC and not which silo it is in.

pub mod catalog;
pub mod chunk;
pub mod db;
pub mod encrypted;
pub mod env;
pub mod export;
pub mod finding;
pub mod generate;
pub mod keys;
pub mod mapping;
pub mod page;
pub mod plan;
pub mod region_name;
pub mod revert;
pub mod schema;
pub mod slug;
pub mod value;
pub mod writer;
