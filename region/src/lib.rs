//! The region service: runs imports, holds organizations, asks control for what must be unique everywhere.
//!
//! Imports run downwards only:
//!
//! 1. plain types: `error`, `limits`, `holder`, `replica`, `registration`, the types of [`import`];
//! 2. `store`: the SQL, one file for each table;
//! 3. `context`: what all parts share (database, catalog, environment, control client, limits, backoff), with `lifecycle`
//!    and `control_client`, through which all calls to control go; control never calls a region;
//! 4. the parts, which do not know each other but for the replica that a comparison looks at: `register`, `follower`,
//!    `reconcile`, and [`import`] with its engine. Each state of an import is a file in `import/steps`;
//! 5. `grpc`: decodes a request, calls one of them, encodes the answer.

mod backoff;
mod context;
mod control_client;
mod convert;
mod decryption_key;
mod error;
mod follower;
mod grpc;
#[doc(hidden)]
pub mod holder;
pub mod import;
mod lifecycle;
mod limits;
mod permits;
mod primaries;
mod reconcile;
mod register;
mod registration;
mod replica;
// Public for the examples of `store::lease_transaction` that must not compile. Nobody else calls it.
#[doc(hidden)]
pub mod store;

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use backoff::Backoff;
use causeway_proto::page::PageKey;
use causeway_relocation::{
    catalog::{Catalog, CatalogError, Silo},
    encrypted::{KeyError, PrivateKey},
    schema,
};
use causeway_silo::{
    db::{self, Db},
    env::Environment,
    region_name,
};
pub use control_client::{ControlError, ControlTimeouts};
pub use error::Error;
pub use limits::Limits;
use tokio::sync::watch;

use crate::{
    context::{Context, Shared},
    control_client::ControlClient,
    decryption_key::DecryptionKey,
    follower::Follower,
    holder::Holder,
    import::Engine,
    lifecycle::Lifecycle,
    reconcile::Reconciler,
    registration::Registration,
};

/// The places between two writes of a region where a test may let it fail or die.
pub const FAILPOINTS: &[&str] = &[
    "region.receive.spooled",
    "region.receive.taken",
    "region.plan.kept",
    "region.plan.made",
    "region.plan.stored",
    "region.ids.leased",
    "region.ids.noted",
    "region.chunk.ready",
    "region.chunk.recorded",
    "region.chunk.committed",
    "region.control_chunk.ready",
    "region.control_chunk.answered",
    "region.control_chunk.noted",
    "region.models.written",
    "region.models.noted",
    "region.slugs.chosen",
    "region.slugs.answered",
    "region.slugs.page_written",
    "region.slugs.written",
    "region.slugs.confirmed",
    "region.slugs.final",
    "region.finish.counted",
    "region.finish.part_shown",
    "region.finish.visible",
    "region.approve.prepared",
    "region.approve.committed",
    "region.report.told",
    "region.report.noted",
    "region.resume.taken_up",
    "region.revert.begun",
    "region.revert.closed",
    "region.revert.adopted",
    "region.revert_chunk.ready",
    "region.revert_chunk.recorded",
    "region.revert_chunk.committed",
    "region.revert_control_chunk.answered",
    "region.revert_control_chunk.noted",
    "region.revert.told",
    "region.revert.released",
    "region.revert.ended",
    "region.feed.prepared",
    "region.feed.applied",
    "region.rename.answered",
    "region.rename.prepared",
    "region.rename.noted",
    "region.reconcile.operation_ended",
    "region.reconcile.reserved",
    "region.reconcile.confirmed",
    "region.reconcile.slugs_prepared",
    "region.reconcile.slugs_taken",
    "region.reconcile.freed",
    "region.reconcile.reported",
    "region.reconcile.replica_given_up",
];

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
    /// Where control is, as URLs; several if several serve its database.
    pub control_urls: Vec<String>,
    /// How long calls to control may take.
    pub control_timeouts: ControlTimeouts,
    /// Where uploads are kept until their import has ended. Made if absent.
    pub spool_dir: PathBuf,
    /// How long it waits before it tries something again.
    pub backoff: Backoff,
    /// What is bounded.
    pub limits: Limits,
    /// How often it compares its organizations with what control holds, for the first time 10 s after it starts; never if zero.
    pub reconcile_every: Duration,
    /// What it opens encrypted exports with; without it, it refuses them.
    pub decryption_key: Option<Arc<PrivateKey>>,
}

impl Options {
    /// A region with what it cannot do without; all else has its default.
    #[must_use]
    pub fn new(
        name: String,
        address: String,
        database_url: String,
        control_urls: Vec<String>,
        spool_dir: PathBuf,
    ) -> Self {
        Self {
            name,
            address,
            database_url,
            database: db::Options::default(),
            control_urls,
            control_timeouts: ControlTimeouts::default(),
            spool_dir,
            backoff: Backoff::default(),
            limits: Limits::default(),
            reconcile_every: Duration::from_secs(3600),
            decryption_key: None,
        }
    }
}

/// A region that runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Region {
    engine: Engine,
    follower: Follower,
    reconciler: Reconciler,
    page_key: PageKey,
}

impl Region {
    /// The full names of the gRPC services, for health.
    pub const SERVICES: [&str; 4] = [
        "causeway.relocation.v1.VersionService",
        "causeway.region.v1.ImportService",
        "causeway.region.v1.OrganizationService",
        "causeway.region.v1.ReconciliationService",
    ];

    /// Those of them that need control to know the region: an import of one that cannot register only waits.
    pub const SERVICES_THAT_NEED_REGISTRATION: [&str; 1] = ["causeway.region.v1.ImportService"];

    /// Opens and migrates the database and goes on with unfinished imports and control's feed. Control need not be there yet.
    ///
    /// # Errors
    /// If the database or the spool directory cannot be used, or a model table is not what the catalog says.
    pub async fn start(options: Options, env: Environment) -> Result<Self, StartError> {
        if !region_name::is_valid(&options.name) {
            return Err(StartError::Name(options.name));
        }
        let key =
            options.decryption_key.map(DecryptionKey::new).transpose().map_err(StartError::DecryptionKey)?;
        let catalog = Catalog::load()?;
        let db = Db::connect(&options.database_url, &options.database).await?;
        // Before anything is made: a refused start leaves the database as it was.
        let wrong = schema::differences(&db, &catalog, Silo::Region).await?;
        if !wrong.is_empty() {
            return Err(StartError::Schema(wrong.join("; ")));
        }
        db.migrate(store::MIGRATIONS).await?;
        schema::create_missing_tables(&db, &catalog, Silo::Region).await?;
        let page_key = store::page_key(&db).await?;
        let lock = lock_spool(&options.spool_dir).await?;
        let holder = Holder::new(&env, &options.spool_dir)
            .map_err(|error| StartError::Spool { path: options.spool_dir.clone(), error })?;
        let instance = store::instance(&db, env.uuid(), &options.name).await?;
        if instance.name != options.name {
            return Err(StartError::OtherRegion { name: options.name, was: instance.name });
        }
        let control = ControlClient::new(&options.control_urls, &options.name, options.control_timeouts)
            .map_err(StartError::ControlUrl)?;
        let context = Context::new(Shared {
            db,
            catalog: Arc::new(catalog),
            env,
            control,
            region: options.name,
            address: options.address,
            instance_id: instance.id,
            limits: options.limits,
            backoff: options.backoff,
            holder,
            registration: Registration::default(),
            lifecycle: Lifecycle::default(),
        });
        let engine = Engine::new(&context, options.spool_dir, lock, key);
        engine.resume().await.map_err(StartError::Resume)?;
        let follower = Follower::start(&context);
        let reconciler = Reconciler::new(&context, &follower);
        reconciler.start(options.reconcile_every);
        Ok(Self { engine, follower, reconciler, page_key })
    }

    /// Adds the services.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        grpc::add_services(&self.engine, &self.follower, &self.reconciler, &self.page_key, routes);
    }

    /// Whether the database takes what is written, waiting no longer than `patience` for a turn.
    ///
    /// # Errors
    /// If it does not, or, as contention, if others were writing all the time.
    pub async fn check_writable(&self, patience: Duration) -> Result<(), db::DbError> {
        self.engine.context().db.check_writable(patience).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), db::DbError> {
        self.engine.context().db.ping().await
    }

    /// Follows whether control knows this region: `false` until it has registered, and while its name is taken.
    #[must_use]
    pub fn registration(&self) -> watch::Receiver<bool> {
        self.engine.context().registration.follow()
    }

    /// Begins to stop: new uploads are refused and imports end behind the chunk in hand, while calls are still answered.
    pub fn begin_stop(&self) {
        self.engine.context().lifecycle.begin_stop();
    }

    /// Stops: refuses new uploads, lets the chunk in hand be finished, ends streams, closes the database.
    pub async fn stop(&self) {
        self.engine.stop().await;
        self.engine.context().db.close().await;
    }
}

/// How long a starting region waits for the one before it to let go of the spool directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// Makes the spool directory, readable by nobody else, and takes it for this process: two processes that run the same
/// imports would be in each other's way.
async fn lock_spool(dir: &Path) -> Result<File, StartError> {
    let unusable = |error| StartError::Spool { path: dir.to_owned(), error };
    let mut make = DirBuilder::new();
    make.recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    let file = File::create(dir.join("lock")).map_err(unusable)?;
    let taken = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(LOCK_PATIENCE, taken)
        .await
        .map_err(|_| StartError::SpoolInUse(dir.to_owned()))??;
    Ok(file)
}

/// Why a region does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] db::ConnectError),
    /// The database is that of another service or of a newer release, or cannot be brought up to date.
    #[error(transparent)]
    Migrate(#[from] db::MigrateError),
    /// The database.
    #[error("the database cannot be used")]
    Database(#[from] db::DbError),
    /// Tables that are not what the catalog says.
    #[error(
        "tables of the database are not as this release of Causeway knows them: {0}. Nothing was changed. Give another \
         --database-url, or start a release that knows these tables"
    )]
    Schema(String),
    /// The private key.
    #[error("the private key cannot be a region's: {0}")]
    DecryptionKey(#[source] KeyError),
    /// The spool directory.
    #[error(
        "the spool directory {} cannot be used: {error}; it must be a directory that this user can write in, or can make \
         (--spool-dir)", path.display()
    )]
    Spool {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Another process has the spool directory.
    #[error("another region process uses the spool directory {}; stop it first", .0.display())]
    SpoolInUse(PathBuf),
    /// The name.
    #[error("`{0}` cannot be a region's name, which is {rule}", rule = region_name::RULE)]
    Name(String),
    /// The database belongs to a region of another name.
    #[error("the database belongs to the region {was}, not {name}; a region keeps its name for good")]
    OtherRegion {
        /// The name that was given.
        name: String,
        /// The name of the region that the database belongs to.
        was: String,
    },
    /// The URL of control.
    #[error("`{0}` is no URL of a control")]
    ControlUrl(String),
    /// What a former process left.
    #[error("what a former process left cannot be taken up")]
    Resume(#[source] Error),
}
