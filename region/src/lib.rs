//! The region service: runs imports, stores organizations, and asks control to decide what must be unique across
//! regions.
//!
//! A module uses only modules above it in this list:
//!
//! 1. plain types: `error`, `limits`, `holder`, `replica`, `registration`, `metrics`, `decryption_key`, the types of
//!    [`import`]; `convert`, from and to messages of the contract; and [`throttle`], which holds imports back;
//! 2. `store`: the SQL, one file for each table;
//! 3. `context`: what all parts share (database, catalog, environment, control client, limits, backoff), with
//!    `lifecycle` and `control_client`, which makes all calls to control; control never calls a region; then
//!    `permits` (turns and places of imports), `primaries` (confirmed slugs, for the follower), and `probing`, which keeps
//!    the throttle up to date;
//! 4. the parts: `register`, `follower`, `reconcile`, `report`, and [`import`] with its engine. They do not use each
//!    other, except that a comparison uses the follower and looks at imports, that reports are about imports, and that
//!    all of them register. `instructions` has those that come with the answer to a report carried out. Each state of an import is a file in
//!    `import/steps`;
//! 5. `measured`: what metrics show of all parts;
//! 6. `grpc`: decodes a request, calls one of the parts, encodes the answer.

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
mod instructions;
mod lifecycle;
mod limits;
mod measured;
mod metrics;
mod permits;
mod primaries;
mod probing;
mod reconcile;
mod register;
mod registration;
mod replica;
mod report;
// Public only for the doc examples of `store::lease_transaction`, one of which must not compile.
#[doc(hidden)]
pub mod store;
pub mod throttle;

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use causeway_audit::Audit;
use causeway_client::{Backoff, Client, ClientTls, InvalidUrl, Service, Timeouts};
use causeway_proto::page::PageKey;
use causeway_relocation::{
    catalog::{Catalog, CatalogError},
    encrypted::{KeyError, PrivateKey},
    schema,
};
use causeway_silo::{
    db::{self, Db, DbError},
    env::Environment,
    region_name, transact,
};
pub use error::Error;
pub use limits::{ControlBatch, Limits};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    context::{Context, Shared},
    control_client::ControlClient,
    decryption_key::DecryptionKeys,
    follower::Follower,
    holder::Holder,
    import::{Engine, ImportContext, Imports},
    lifecycle::Lifecycle,
    metrics::RegionMetrics,
    reconcile::Reconciler,
    registration::Registration,
    report::Reporter,
    store::product_db::ProductDb,
    throttle::{Throttle, ThrottleStatus},
};

/// The failpoints of a region: places between two writes where a test can make the process fail or die. The trials in
/// `tests/faults/steps.rs` reach all of them.
pub const FAILPOINTS: &[&str] = &[
    "region.receive.spooled",
    "region.receive.accepted",
    "region.plan.logged",
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
    "region.report.answered",
    "region.report.noted",
    "region.resume.resumed",
    "region.revert.begun",
    "region.revert.closed",
    "region.revert.adopted",
    "region.revert_chunk.ready",
    "region.revert_chunk.recorded",
    "region.revert_chunk.committed",
    "region.revert_control_chunk.answered",
    "region.revert_control_chunk.noted",
    "region.revert.reported",
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
    "region.reconcile.slugs_written",
    "region.reconcile.freed",
    "region.reconcile.reported",
    "region.reconcile.replica_discarded",
];

/// Failpoints of a region that those trials do not reach, each with the file of a test that does.
pub const FAILPOINTS_OF_OTHER_TESTS: &[(&str, &str)] = &[
    // Reached only while another import waits for the turn. Nothing is written there.
    ("region.turn.passed", "tests/import/turns.rs"),
    // Nothing is written there.
    ("region.slugs.asking", "tests/import/slug_turns.rs"),
    // Reached only by a dry run, which writes no rows.
    ("region.check.page_checked", "tests/import/turns.rs"),
    // Reached only while somebody watches. Nothing is written there.
    ("region.watch.read", "tests/import/watches.rs"),
    // Reached only in a database of the product.
    ("region.finish.rows_announced", "tests/import/product_tables/made.rs"),
    ("region.reconcile.product_prepared", "tests/import/product_tables/compared.rs"),
    // Reached only if another organization has got the slug of one whose reservation control has forgotten.
    ("region.reconcile.other_reserved", "tests/restored/taken.rs"),
    ("region.reconcile.other_confirmed", "tests/restored/taken.rs"),
    ("region.reconcile.product_announced", "tests/import/product_tables/compared.rs"),
    // Reached only by calls of operators, not by an import.
    ("region.pause.prepared", "tests/import/pause.rs"),
    ("region.pause.committed", "tests/import/pause.rs"),
    ("region.unpause.prepared", "tests/import/pause.rs"),
    ("region.unpause.committed", "tests/import/pause.rs"),
    ("region.instruction.prepared", "tests/import/instructions.rs"),
    ("region.instruction.noted", "tests/import/instructions.rs"),
    ("region.throttle.prepared", "tests/import/throttle.rs"),
    ("region.throttle.committed", "tests/import/throttle.rs"),
];

/// The settings of a region.
#[derive(Debug, Clone)]
pub struct Options {
    /// The region's name. Control knows the region by it, and the region's database keeps it for good.
    pub name: String,
    /// What the product calls the region, for its own tables; by default its name, or `--monolith--` if control has the
    /// same database.
    pub product_name: Option<String>,
    /// The URL at which users reach the region. The region registers it with control.
    pub address: String,
    /// The URL of the region's database.
    pub database_url: db::DatabaseUrl,
    /// The settings of the connection pool.
    pub database: db::Options,
    /// The URLs of control; several if several control processes serve its database.
    pub control_urls: Vec<String>,
    /// Timeouts of calls to control.
    pub control_timeouts: Timeouts,
    /// The certificates for calls to control, if its URLs begin with `https://`.
    pub control_tls: Option<Arc<ClientTls>>,
    /// The directory where uploads are stored until their import has ended. Created if absent.
    pub spool_dir: PathBuf,
    /// The pauses between attempts: by default 20 ms at first, 15 s at most.
    pub backoff: Backoff,
    /// How long a comparison with control waits for another one to end; 30 s by default, because a dead
    /// process may leave a lease that lasts that long.
    pub comparison_wait: Duration,
    /// Bounds on uploads, findings, watches and work at the same time.
    pub limits: Limits,
    /// How often the region reports its imports to control, 2 s by default, if something has changed. Zero means never.
    pub report_every: Duration,
    /// How often the region compares its organizations with control, 1 h by default. The first time is 10 s after the
    /// start at the latest. Zero means never.
    pub reconcile_every: Duration,
    /// The private keys that open encrypted exports. New exports are encrypted for the first one; the others open what
    /// was encrypted before. Without any, the region refuses encrypted exports.
    pub decryption_keys: Vec<Arc<PrivateKey>>,
    /// Whether importers may use `merge_users`. Callers whose role is not known, and operators, always may.
    pub allow_merge: bool,
    /// Whether to refuse what operators ask for through control: to resume or revert an import.
    pub refuse_instructions: bool,
    /// How long entries of the audit log are stored.
    pub audit: causeway_audit::Options,
    /// What holds imports back.
    pub throttle: throttle::Options,
}

impl Options {
    /// Options with these values, which have no default. All others get their default.
    #[must_use]
    pub fn new(
        name: String,
        address: String,
        database_url: impl Into<db::DatabaseUrl>,
        control_urls: Vec<String>,
        spool_dir: PathBuf,
    ) -> Self {
        Self {
            name,
            product_name: None,
            address,
            database_url: database_url.into(),
            database: db::Options::default(),
            control_urls,
            control_timeouts: Timeouts { call: Duration::from_secs(60), ..Timeouts::default() },
            control_tls: None,
            spool_dir,
            // Most transient errors have passed after 20 ms, and a service that is killed again and again has no time
            // to lose.
            backoff: Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(15) },
            comparison_wait: Duration::from_secs(30),
            limits: Limits::default(),
            report_every: Duration::from_secs(2),
            reconcile_every: Duration::from_secs(3600),
            decryption_keys: Vec::new(),
            allow_merge: false,
            refuse_instructions: false,
            audit: causeway_audit::Options::default(),
            throttle: throttle::Options::default(),
        }
    }
}

/// A running region. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Region {
    engine: Engine,
    imports: Imports,
    follower: Follower,
    reconciler: Reconciler,
    audit: Audit,
    page_key: PageKey,
}

impl Region {
    /// The full names of the gRPC services, for health checks.
    pub const SERVICES: [&str; 6] = [
        "causeway.relocation.v1.AuditService",
        "causeway.relocation.v1.VersionService",
        "causeway.region.v1.ImportService",
        "causeway.region.v1.OrganizationService",
        "causeway.region.v1.ReconciliationService",
        "causeway.region.v1.ThrottleService",
    ];

    /// The services that work only after the region has registered with control: before that, an import can only wait.
    pub const SERVICES_THAT_NEED_REGISTRATION: [&str; 1] = ["causeway.region.v1.ImportService"];

    /// Opens and migrates the database, then continues unfinished imports and follows control's feed. Control may be
    /// down.
    ///
    /// # Errors
    /// If the database or the spool directory cannot be used, a model table differs from the catalog, or an option is
    /// invalid.
    pub async fn start(options: Options, env: Environment) -> Result<Self, StartError> {
        if !region_name::is_valid(&options.name) {
            return Err(StartError::Name(options.name));
        }
        let keys = DecryptionKeys::new(options.decryption_keys).map_err(StartError::DecryptionKey)?;
        let catalog = Catalog::load()?;
        let db = Db::connect(options.database_url.secret(), &options.database).await?;
        let db = schema::prepare(db, &catalog, store::MIGRATIONS).await?;
        let page_key = store::page_key(&db).await?;
        let lock = lock_spool(&options.spool_dir).await?;
        let holder = Holder::new(&env, &options.spool_dir)
            .map_err(|error| StartError::Spool { path: options.spool_dir.clone(), error })?;
        let instance = store::instance(&db, env.uuid(), &options.name).await?;
        if instance.name != options.name {
            return Err(StartError::OtherRegion { name: options.name, was: instance.name });
        }
        let tls = options.control_tls;
        let client = Client::with_tls(Service::Control, &options.control_urls, options.control_timeouts, tls)
            .map_err(|InvalidUrl(url)| StartError::ControlUrl(url))?
            .with_request_ids(causeway_audit::current_request_id)
            .with_trace_context(causeway_traces::current_trace_parent);
        let control = ControlClient::new(client, &options.name);
        let product_db = ProductDb::find(&db).await?;
        let audit = Audit::start(db.clone(), &options.name, env.clone(), options.audit, page_key.clone());
        let context = Context::new(Shared {
            db,
            product_db,
            product_name: options.product_name,
            catalog: Arc::new(catalog),
            env,
            control,
            region: options.name,
            address: options.address,
            instance_id: instance.id,
            limits: options.limits,
            throttle: Throttle::new(options.throttle),
            allow_merge: options.allow_merge,
            refuse_instructions: options.refuse_instructions,
            backoff: options.backoff,
            comparison_wait: options.comparison_wait,
            holder,
            metrics: RegionMetrics::default(),
            registration: Registration::default(),
            lifecycle: Lifecycle::default(),
        });
        // The database may be an old copy, and then ids of its blocks have been given out since.
        let given_up = transact!(DbError, context.db, |tx| { store::id_block::forget(tx).await? });
        given_up.map_err(StartError::Database)?;
        let engine = Engine::new(ImportContext::new(&context, options.spool_dir, lock, keys));
        context.throttle.choose(store::throttle::get(&context.db).await?);
        engine.recover().await.map_err(StartError::Resume)?;
        engine.look_for_unpaused();
        probing::start(&context);
        context.register_in_background();
        let imports = Imports::new(engine.clone());
        let follower = Follower::start(&context);
        let reconciler = Reconciler::new(&context, &follower, &engine);
        reconciler.start(options.reconcile_every);
        Reporter::start(&imports, reconciler.last(), options.report_every);
        Ok(Self { engine, imports, follower, reconciler, audit, page_key })
    }

    /// Adds the region's gRPC services to `routes`. `insecure` if they are served without TLS where other machines can
    /// reach them.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder, insecure: bool) {
        grpc::add_services(&self.imports, &self.follower, &self.reconciler, &self.page_key, routes, insecure);
        routes.add_service(self.audit.service());
    }

    /// The audit log in the region's database, which records each change.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What holds the imports of this process back now, and how much they have written, for its metrics.
    #[must_use]
    pub fn throttle(&self) -> ThrottleStatus {
        self.engine.context().throttle.status()
    }

    /// Checks that the database accepts a write. Waits at most `patience` for its turn to write.
    ///
    /// # Errors
    /// If the database refuses the write; a contention error if others were writing all the time.
    pub async fn check_writable(&self, patience: Duration) -> Result<(), db::DbError> {
        self.engine.context().db.check_writable(patience).await
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn ping(&self) -> Result<(), db::DbError> {
        self.engine.context().db.ping().await
    }

    /// Who began an import, as the URI of an identity: `Some(None)` if that is not known, and `None` if there is no
    /// such import.
    ///
    /// # Errors
    /// If the database does not answer, as the status for the caller.
    pub async fn import_begun_by(&self, import_id: Uuid) -> Result<Option<Option<String>>, tonic::Status> {
        let begun_by = store::import::begun_by(&self.engine.context().db, import_id).await;
        begun_by.map_err(|error| Error::from(error).into())
    }

    /// Watches whether control knows this region: `false` until it has registered, and while another region
    /// has its name.
    #[must_use]
    pub fn registration(&self) -> watch::Receiver<bool> {
        self.engine.context().registration.follow()
    }

    /// Begins to stop: new uploads are refused, and each import ends after its current chunk. Calls are still answered.
    pub fn begin_stop(&self) {
        self.engine.context().lifecycle.begin_stop();
    }

    /// Stops: refuses new uploads, lets imports finish their current chunk, ends streams, closes the database.
    pub async fn stop(&self) {
        self.engine.stop().await;
        self.audit.stop().await;
        self.engine.context().db.close().await;
    }
}

/// What the database of a region says of the region.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The region's name when the database was first opened. A region of another name does not start on it.
    pub name: String,
    /// The version of control's feed that the region has applied; 0 if it has applied nothing.
    pub feed_version: i64,
    /// When control last reported that there is nothing more in the feed; `None` if it never did.
    pub up_to_date_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Looks at a database as a region with these options would find it, and changes nothing. The database must exist: a
/// SQLite file is created otherwise. What the database says of its region is there once a region has started on it.
///
/// # Errors
/// If the database cannot be reached or queried, or is that of another service or of a newer release.
pub async fn examine(
    database_url: &db::DatabaseUrl,
    options: &db::Options,
) -> Result<(schema::Examination, Option<Recorded>), StartError> {
    let catalog = Catalog::load()?;
    let db = Db::connect(database_url.secret(), options).await?;
    let (db, examination) = schema::examine(db, &catalog, store::MIGRATIONS, &[]).await?;
    let recorded = match examination.migration {
        Some(_) => store::recorded_name(&db).await?,
        None => None,
    };
    let recorded = match recorded {
        Some(name) => {
            let cursor = store::replica::cursor(&db).await?;
            Some(Recorded { name, feed_version: cursor.version, up_to_date_at: cursor.heard_at })
        }
        None => None,
    };
    db.close().await;
    Ok((examination, recorded))
}

/// How long a starting region waits for a former process to release the spool directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// Creates the spool directory, readable by nobody else, and locks it for this process: two processes that run the same
/// imports would disturb each other.
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

/// Why a region cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The catalog cannot be loaded.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] db::ConnectError),
    /// The database refused a statement, or could not be reached.
    #[error("the database cannot be used")]
    Database(#[from] db::DbError),
    /// The database may not be used, or cannot be made fit for this release.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// The private key is not suitable for encrypted exports.
    #[error("the private key cannot be a region's: {0}")]
    DecryptionKey(#[source] KeyError),
    /// The spool directory cannot be created, read or written.
    #[error(
        "the spool directory {} cannot be used: {error}; it must be a directory that this user can write in, or can make \
         (--spool-dir)", path.display()
    )]
    Spool {
        /// The path of the spool directory, as it was given.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// Another process has locked the spool directory.
    #[error("another region process uses the spool directory {}; stop it first", .0.display())]
    SpoolInUse(PathBuf),
    /// The name is not valid for a region.
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
    /// A URL of control is invalid.
    #[error("`{0}` is not a URL of a control")]
    ControlUrl(String),
    /// The work that a former process left cannot be continued.
    #[error("what a former process left cannot be taken up")]
    Resume(#[source] Error),
}
