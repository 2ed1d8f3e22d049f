//! What a silo does with an export. Knows no gRPC and not which silo it is in.

pub mod ambient;
pub mod db;
