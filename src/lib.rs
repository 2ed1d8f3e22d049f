//! Causeway imports organizations from an export file into one region of a multi-region product, and makes their
//! slugs unique across all regions by asking one control service.
//!
//! The crates `causeway-control` and `causeway-region` do the work. This library has what the `causeway` command and
//! the tests share around them:
//!
//! - [`serve`] serves a control or a region on a port: services, health, reflection, soft and hard shutdown.
//! - [`certs`] makes certificates for development.
//! - [`embedded`] runs a control and a region in this process, on SQLite files in one directory.

pub mod certs;
pub mod embedded;
pub mod serve;
