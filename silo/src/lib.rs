//! The base of both kinds of silo, control and region. Contains no code for exports or gRPC.

pub mod db;
pub mod env;
pub mod page;
pub mod region_name;
pub mod size;

use serde::Deserialize;

/// The two kinds of service. Each service has a database of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silo {
    /// Control, of which there is only one.
    Control,
    /// A region, with the rows of its own organizations.
    Region,
}
