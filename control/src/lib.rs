//! The control service: owns what must be unique across all regions.
//!
//! The crate has five layers, the lowest first. A layer never imports from a higher one:
//!
//! 1. [`model`]: plain types;
//! 2. `store`: the SQL, one file for each table or query topic;
//! 3. use cases: [`regions`], [`feed`], [`slug`], [`directory`], [`import`], [`reports`],
//!    [`instructions`], which are a part of each report;
//! 4. `measured`: what metrics show of them;
//! 5. `grpc`: decodes a request, calls one use case, encodes the answer. One table maps each [`error`](Error) to its
//!    gRPC code.

pub mod directory;
mod error;
pub mod feed;
mod grpc;
pub mod import;
pub mod instructions;
mod measured;
pub mod model;
pub mod regions;
pub mod reports;
pub mod restored;
pub mod slug;
// Public only because the `compile_fail` examples of `store::feed_transaction` need access. Nobody else calls it.
#[doc(hidden)]
pub mod store;
mod validate;

use std::sync::Arc;

use causeway_audit::Audit;
use causeway_proto::page::PageKey;
use causeway_relocation::{
    catalog::{Catalog, CatalogError},
    schema,
};
use causeway_silo::{
    Silo,
    db::{self, Db, Readers},
    env::Environment,
};

pub use causeway_silo::page::{Page, PageRequest};
pub use error::Error;

use crate::{
    directory::Directory,
    feed::Feeds,
    import::{fitted::Fitted, write::ControlImports},
    instructions::Instructions,
    model::region::AcceptRegions,
    regions::Regions,
    reports::Reports,
    slug::{
        bulk_intake, product_renames::ProductRenames, renames::Renames, reservations::SlugReservations,
        waiting::Waiting,
    },
    store::product_tables::ProductDb,
};

/// Configuration of a control service.
#[derive(Debug, Clone)]
pub struct Options {
    /// URL of its database.
    pub database_url: db::DatabaseUrl,
    /// Options of the connection pool for that database.
    pub database: db::Options,
    /// A replica for reads that may be old, if there is one.
    pub replica: Option<db::ReplicaOptions>,
    /// URL under which users reach this control. Control writes it into each auth token that it generates.
    pub address: String,
    /// Options for the feeds of the regions.
    pub feed: feed::Options,
    /// Limits for bulk creations in progress.
    pub bulk: bulk_intake::Options,
    /// Which regions it lets register.
    pub accept_regions: AcceptRegions,
    /// How long entries of the audit log are stored.
    pub audit: causeway_audit::Options,
}

/// Places where a test can make a control fail or die: before and after each commit that a region waits for. See
/// [`Environment::failpoint`]. The trials in `tests/faults/steps.rs` reach all of them.
pub const FAILPOINTS: &[&str] = &[
    "control.import_models.recorded",
    "control.import_models.committed",
    "control.revert.closed",
    "control.revert_chunk.recorded",
    "control.revert_chunk.committed",
    "control.bulk_create.checked",
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
    "control.rename.checked",
    "control.rename.prepared",
    "control.rename.committed",
];

/// Failpoints of a control that those trials do not reach, each with the file of a test that does.
pub const FAILPOINTS_OF_OTHER_TESTS: &[(&str, &str)] = &[
    // Reached only by a control whose database is an old copy.
    ("control.era.committed", "tests/control_store/eras.rs"),
    // Reached only if another operation takes an organization between two parts of one that is then undone in parts.
    ("control.bulk_create.part_withdrawn", "tests/control_store/parts.rs"),
    // Reached only in a database of the product, after very many rows.
    ("control.release_organizations.part_forgotten", "tests/import/product_tables/reverted.rs"),
];

/// A control service. Cheap to clone; clones share its connections. All lasting state is in the database, so several
/// controls can serve the same database.
#[derive(Debug, Clone)]
pub struct Control {
    db: Db,
    env: Environment,
    regions: Regions,
    slug_reservations: SlugReservations,
    renames: Renames,
    product_renames: ProductRenames,
    feeds: Feeds,
    directory: Directory,
    imports: ControlImports,
    reports: Reports,
    instructions: Instructions,
    audit: Audit,
    page_key: PageKey,
    readers: Readers,
}

impl Control {
    /// The full names of the gRPC services, for the health service.
    pub const SERVICES: [&str; 7] = [
        "causeway.relocation.v1.AuditService",
        "causeway.relocation.v1.VersionService",
        "causeway.control.v1.RegionService",
        "causeway.control.v1.SlugReservationService",
        "causeway.control.v1.DirectoryService",
        "causeway.control.v1.ControlImportService",
        "causeway.control.v1.ReportService",
    ];

    /// Opens and migrates the database, creates missing model tables, and starts the background tasks of the feeds.
    ///
    /// # Errors
    /// If the database cannot be used, or a model table differs from the catalog.
    pub async fn start(options: Options, env: Environment) -> Result<Self, StartError> {
        let db = Db::connect(options.database_url.secret(), &options.database).await?;
        let catalog = Catalog::load()?;
        let db = schema::prepare(db, &catalog, store::MIGRATIONS).await?;
        let readers = match options.replica {
            Some(replica) => Readers::with_replica(db.clone(), Silo::Control, options.database, replica)?,
            None => Readers::of(db.clone()),
        };
        let page_key = store::page_key(&db).await?;
        let catalog = Arc::new(catalog);
        let fitted = Fitted::new(&db, &catalog).await?;
        let regions = Regions::new(db.clone(), env.clone(), Arc::clone(&catalog), options.accept_regions);
        let audit = Audit::start(db.clone(), "control", env.clone(), options.audit, page_key.clone());
        let product_db = ProductDb::find(&db).await?;
        let feeds = Feeds::start(db.clone(), env.clone(), catalog, product_db, options.feed);
        let waiting = Waiting::default();
        let renames = Renames::new(db.clone(), env.clone(), feeds.clone(), waiting.clone());
        let slug_reservations = SlugReservations::new(
            db.clone(),
            readers.clone(),
            env.clone(),
            feeds.clone(),
            options.bulk,
            waiting,
        );
        let product_renames = ProductRenames::new(db.clone(), env.clone(), feeds.clone());
        if feeds.product_db().is_some() {
            feeds.background(product_renames.clone().follow_product_forever());
        }
        Ok(Self {
            imports: ControlImports::new(
                db.clone(),
                env.clone(),
                fitted,
                regions.clone(),
                slug_reservations.clone(),
                options.address,
            ),
            regions,
            slug_reservations,
            renames,
            product_renames,
            reports: Reports::new(db.clone(), env.clone()),
            instructions: Instructions::new(db.clone(), env.clone()),
            directory: Directory::new(db.clone(), readers.clone(), env.clone(), feeds.clone()),
            feeds,
            audit,
            page_key,
            readers,
            db,
            env,
        })
    }

    /// Use cases of regions, and of the ids that they lease.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Use cases of slugs: reservations and operations.
    #[must_use]
    pub fn slug_reservations(&self) -> &SlugReservations {
        &self.slug_reservations
    }

    /// Use cases of renames.
    #[must_use]
    pub fn renames(&self) -> &Renames {
        &self.renames
    }

    /// Follows the renames of a product whose database is control's.
    pub(crate) fn product_renames(&self) -> &ProductRenames {
        &self.product_renames
    }

    /// The feeds of the regions, for readers.
    #[must_use]
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// The directory of the organizations of all regions.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Writes and reverts chunks of models of the control silo for the imports of regions.
    #[must_use]
    pub fn imports(&self) -> &ControlImports {
        &self.imports
    }

    /// What regions report about their own work.
    #[must_use]
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What operators tell regions to do about their imports.
    #[must_use]
    pub fn instructions(&self) -> &Instructions {
        &self.instructions
    }

    /// The audit log in control's database, which records each change.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The key for the checksums of page tokens. All controls on one database share it.
    #[must_use]
    pub fn page_key(&self) -> &PageKey {
        &self.page_key
    }

    /// The region that owns an organization, by its slugs; `None` if control has no slug of it.
    ///
    /// # Errors
    /// If the database does not answer, as the status for the caller.
    pub async fn region_of_organization(
        &self,
        organization_id: i64,
    ) -> Result<Option<String>, tonic::Status> {
        Ok(self.slug_reservations.region_of(organization_id).await?)
    }

    /// Adds the gRPC services to `routes`. `insecure` if they are served without TLS where other machines can reach them.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder, insecure: bool) {
        grpc::add_services(self, routes, insecure);
    }

    /// Checks that the database accepts writes. Waits at most `patience` for its turn to write.
    ///
    /// # Errors
    /// If it does not, or with the kind `Contention` if others were writing all that time.
    pub async fn check_writable(&self, patience: std::time::Duration) -> Result<(), db::DbError> {
        self.db.check_writable(patience).await
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), db::DbError> {
        self.db.ping().await
    }

    /// Ends the feeds and other background tasks, then closes the database.
    pub async fn stop(&self) {
        self.feeds.stop().await;
        self.audit.stop().await;
        self.readers.stop().await;
        self.db.close().await;
    }
}

/// The extensions of PostgreSQL that control's tables need.
const EXTENSIONS: [&str; 1] = ["citext"];

/// Looks at a database as a control with these options would find it, and changes nothing. The database must exist: a
/// SQLite file is created otherwise.
///
/// # Errors
/// If the database cannot be reached or queried, or is that of another service or of a newer release.
pub async fn examine(
    database_url: &db::DatabaseUrl,
    options: &db::Options,
) -> Result<schema::Examination, StartError> {
    let catalog = Catalog::load()?;
    let db = Db::connect(database_url.secret(), options).await?;
    let (db, examination) = schema::examine(db, &catalog, store::MIGRATIONS, &EXTENSIONS).await?;
    db.close().await;
    Ok(examination)
}

/// Why a control does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] db::ConnectError),
    /// A query failed while control prepared the database.
    #[error("the database cannot be used")]
    Database(#[from] db::DbError),
    /// The built-in catalog of models cannot be loaded.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The replica can never be used.
    #[error(transparent)]
    Replica(#[from] db::ReplicaError),
    /// The database may not be used, or cannot be made fit for this release.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
}
