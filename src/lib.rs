//! Causeway imports organizations from an export file into one region of a multi-region product, and makes their
//! slugs unique across all regions by asking one control service.
//!
//! The work is done by the crates `causeway-control` and `causeway-region`. This library is what the `causeway`
//! command and the tests share around them:
//!
//! - [`serve`] puts a control or a region on a port: services, health, reflection, soft and hard shutdown.
//! - [`embedded`] runs a control and a region in this process, on SQLite files in one directory.
//! - [`client`] talks to a service that runs: connecting, uploading an export, watching its import.

pub mod client;
pub mod embedded;
pub mod serve;
