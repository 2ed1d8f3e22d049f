//! What both kinds of silo, control and region, stand on. Knows no export and no gRPC.

pub mod db;
pub mod env;
pub mod page;
pub mod region_name;

use serde::Deserialize;

/// One of the two kinds of service. Each has a database of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silo {
    /// The one control silo.
    Control,
    /// Each region, for its own organizations.
    Region,
}
