//! Measures Causeway, and makes exports of any size to measure it with. Not shipped.

pub mod directory;
mod directory_database;
mod fill;
pub mod generate;
pub mod import;
pub mod machine;
mod plain;
pub mod report;
pub mod reserve;
pub mod resolve;
pub mod rig;
pub mod start;
pub mod tls;
mod unary;
