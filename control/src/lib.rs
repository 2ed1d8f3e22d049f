//! The control service: owns what must be unique everywhere.
//!
//! The crate has floors, and imports run downwards only:
//!
//! 1. [`model`]: plain types;
//! 2. `store`: the SQL, one file for each table or question;
//! 3. use cases: [`regions`], [`feed`], [`slug`], [`directory`], [`import`];
//! 4. `grpc`: decodes a request, calls one use case, encodes the answer. [`error`](Error) and its gRPC code stand in one
//!    table.

pub mod directory;
mod error;
pub mod feed;
mod grpc;
pub mod import;
pub mod model;
pub mod regions;
pub mod slug;
// Public for the examples of `store::feed_transaction` that must not compile. Nobody else calls it.
#[doc(hidden)]
pub mod store;
mod validate;

use std::sync::Arc;

use causeway_proto::page::PageKey;
use causeway_relocation::{
    catalog::{Catalog, CatalogError, Silo},
    schema,
};
use causeway_silo::{
    db::{self, Db},
    env::Environment,
};

pub use causeway_silo::page::{Page, PageRequest};
pub use error::Error;

use crate::{
    directory::Directory,
    feed::Feeds,
    import::write::ControlImports,
    regions::Regions,
    slug::{bulk_intake, reservations::SlugReservations},
};

/// How a control is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its database.
    pub database_url: String,
    /// The pool of connections to it.
    pub database: db::Options,
    /// Where its users reach it, as a URL; stands in auth tokens that are made anew.
    pub address: String,
    /// The feeds of the regions.
    pub feed: feed::Options,
    /// What is in hand of bulk creations.
    pub bulk: bulk_intake::Options,
}

/// Places where a test may let a control fail or die: before and after each commit that a region waits for. See
/// [`Environment::failpoint`].
pub const FAILPOINTS: &[&str] = &[
    "control.import_models.recorded",
    "control.import_models.committed",
    "control.revert.closed",
    "control.revert_chunk.recorded",
    "control.revert_chunk.committed",
    "control.bulk_create.looked",
    "control.bulk_create.prepared",
    "control.bulk_create.committed",
    "control.bulk_create.part_committed",
    "control.confirm.prepared",
    "control.confirm.committed",
    "control.confirm.part_committed",
    "control.release.prepared",
    "control.release.committed",
    "control.release.part_committed",
    "control.release_organizations.prepared",
    "control.release_organizations.committed",
    "control.rename.looked",
    "control.rename.prepared",
    "control.rename.committed",
];

/// A control service. Cheap to clone; clones share its connections. It holds no state beside its database, so that
/// several of them may serve the same one.
#[derive(Debug, Clone)]
pub struct Control {
    db: Db,
    regions: Regions,
    slug_reservations: SlugReservations,
    feeds: Feeds,
    directory: Directory,
    imports: ControlImports,
    page_key: PageKey,
}

impl Control {
    /// The full names of the gRPC services, for health.
    pub const SERVICES: [&str; 5] = [
        "causeway.relocation.v1.VersionService",
        "causeway.control.v1.RegionService",
        "causeway.control.v1.SlugReservationService",
        "causeway.control.v1.DirectoryService",
        "causeway.control.v1.ControlImportService",
    ];

    /// Opens and migrates the database.
    ///
    /// # Errors
    /// If it cannot be used, or a model table is not what the catalog says.
    pub async fn start(options: Options, env: Environment) -> Result<Self, StartError> {
        let db = Db::connect(&options.database_url, &options.database).await?;
        let catalog = Catalog::load()?;
        // Before anything is made: a refused start leaves the database as it was.
        let wrong = schema::differences(&db, &catalog, Silo::Control).await?;
        if !wrong.is_empty() {
            return Err(StartError::Schema(wrong.join("; ")));
        }
        db.migrate(store::MIGRATIONS).await?;
        schema::create_missing_tables(&db, &catalog, Silo::Control).await?;
        let page_key = store::page_key(&db).await?;
        let catalog = Arc::new(catalog);
        let regions = Regions::new(db.clone(), env.clone(), Arc::clone(&catalog));
        let feeds = Feeds::start(db.clone(), options.feed);
        let slug_reservations = SlugReservations::new(db.clone(), env.clone(), feeds.clone(), options.bulk);
        Ok(Self {
            imports: ControlImports::new(
                db.clone(),
                env.clone(),
                catalog,
                regions.clone(),
                slug_reservations.clone(),
                options.address,
            ),
            regions,
            slug_reservations,
            directory: Directory::new(db.clone(), env, feeds.clone()),
            feeds,
            page_key,
            db,
        })
    }

    /// The regions, and their ids.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The slug reservations.
    #[must_use]
    pub fn slug_reservations(&self) -> &SlugReservations {
        &self.slug_reservations
    }

    /// The feeds of the regions.
    #[must_use]
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// The directory of organizations.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The imports of the regions, as far as they concern control.
    #[must_use]
    pub fn imports(&self) -> &ControlImports {
        &self.imports
    }

    /// What its page tokens are made with.
    pub(crate) fn page_key(&self) -> &PageKey {
        &self.page_key
    }

    /// Adds the services.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        grpc::add_services(self, routes);
    }

    /// Whether the database takes what is written, waiting no longer than `patience` for a turn.
    ///
    /// # Errors
    /// If it does not, or, as contention, if others were writing all the time.
    pub async fn check_writable(&self, patience: std::time::Duration) -> Result<(), db::DbError> {
        self.db.check_writable(patience).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), db::DbError> {
        self.db.ping().await
    }

    /// Ends the feeds and closes the database.
    pub async fn stop(&self) {
        self.feeds.stop().await;
        self.db.close().await;
    }
}

/// Why a control does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] db::ConnectError),
    /// The database is that of another service or of a newer release, or cannot be brought up to date.
    #[error(transparent)]
    Migrate(#[from] db::MigrateError),
    /// The database.
    #[error("the database cannot be used")]
    Database(#[from] db::DbError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Tables that are not what the catalog says.
    #[error(
        "tables of the database are not as this release of Causeway knows them: {0}. Nothing was changed. Give another \
         --database-url, or start a release that knows these tables"
    )]
    Schema(String),
}
