//! The region service: runs imports, holds organizations, asks control for what must be unique everywhere.

use std::path::PathBuf;

use causeway_relocation::{ambient::Ambient, db};

/// How a region is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// Where its users reach it, as a URL; told to control.
    pub address: String,
    /// Its database.
    pub database_url: String,
    /// The pool of connections to it.
    pub database: db::Options,
    /// Where control is, as a URL.
    pub control_url: String,
    /// Where uploads are kept until their import has ended. Made if absent.
    pub spool_dir: PathBuf,
}

/// A region that runs.
#[derive(Debug, Clone)]
pub struct Region {}

impl Region {
    /// The full names of the gRPC services, for health.
    pub const SERVICES: [&str; 2] =
        ["causeway.region.v1.ImportService", "causeway.region.v1.OrganizationService"];

    /// Opens and migrates the database and goes on with unfinished imports. Control need not be there yet.
    ///
    /// # Errors
    /// If the database or the spool directory cannot be used.
    pub async fn start(options: Options, ambient: Ambient) -> Result<Self, StartError> {
        let _ = (options, ambient);
        Ok(Self {})
    }

    /// Adds the services.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        let _ = routes;
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), db::DbError> {
        Ok(())
    }

    /// Stops: refuses new uploads, lets the chunk in hand be finished, ends streams, closes the database.
    pub async fn stop(&self) {}
}

/// Why a region does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database cannot be used")]
    Database(#[from] db::DbError),
}
