//! One or more controls and some regions, each on a database of its own and served on a real port of the loopback
//! interface: in this process, or as processes.
//!
//! ```no_run
//! # async fn example(export: &[u8]) -> anyhow::Result<()> {
//! use causeway_harness::cluster::{Cluster, ImportOptions, LinkState, Service, Store};
//!
//! let cluster = Cluster::builder(Store::Sqlite).region("us").region("de").start().await?;
//! let begun = cluster.region(0).begin(export, &ImportOptions::default()).await?;
//! // The region cannot reach control, and is killed; then all is well again.
//! cluster.set_link_state(0, LinkState::Cut);
//! cluster.kill(Service::Region(0)).await;
//! cluster.heal().await?;
//! let import = cluster.region(0).wait(&begun.import.unwrap_or_default().import_id).await?;
//! println!("{:?}: {} organizations", import.state(), import.organization_count);
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! A service can be stopped, or killed, and started again; it comes back on the same port with the same database. In
//! this process each service has a runtime of its own. To kill it is to drop that: no task of it takes another step.
//! What differs from a process that is killed: a statement that its database has in hand is finished, also on SQLite.
//!
//! A region calls control over a [link](LinkState) of its own, on which calls can be [lost, repeated or held](CallFaults).
//! Tests may use one too ([`Cluster::region_by_link`]). Dropping the cluster stops everything.

mod api;
mod builder;
mod database_server;
mod direct;
mod failpoints;
mod hang;
mod link;
mod node;
mod options;
mod quiet;
mod second_process;
#[cfg(test)]
mod tests;
mod trace;

use std::{
    fmt,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use causeway::serve::{Settings, serve_control, serve_region};
use causeway_silo::{db::Db, env::Environment};
use tempfile::TempDir;
use tokio::sync::Notify;

pub use api::{ControlApi, ImportOptions, RegionApi};
pub use builder::ClusterBuilder;
pub use database_server::DatabaseServer;
pub use direct::{bulk_create_messages, upload_messages};
pub use failpoints::{Act, Failpoints};
use link::Link;
pub use link::{CallFaults, LinkState};
use node::Node;
use options::Configure;
pub use second_process::SecondProcess;
use trace::LastWords;
pub use trace::{Trace, Wait};

use crate::process;

/// What the silos of a cluster keep their data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file for each silo, in a temporary directory.
    Sqlite,
    /// A PostgreSQL server for the cluster, with a database for each silo.
    Postgres,
}

/// One database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silo {
    /// That of control.
    Control,
    /// That of the region of this number, in the order in which they were named.
    Region(usize),
}

/// One service, in this process or a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The control of this number.
    Control(usize),
    /// The region of this number, in the order in which they were named.
    Region(usize),
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(index) => write!(f, "control {index}"),
            Self::Region(index) => write!(f, "region {index}"),
        }
    }
}

/// Controls and regions.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in order: what happened is told, then services go before what they stand on.
    _last_words: LastWords,
    regions: Vec<Node>,
    controls: Vec<Node>,
    /// The ways of each region to each control.
    links: Vec<Vec<Link>>,
    /// The ways of a test to the controls and then the regions.
    client_links: Vec<Link>,
    env: Environment,
    failpoints: Failpoints,
    changes_a_transaction: Option<usize>,
    trace: Trace,
    killed: Arc<Notify>,
    program: Option<PathBuf>,
    arguments: Vec<String>,
    configure: Configure,
    directory: TempDir,
    database_server: Arc<DatabaseServer>,
}

impl Cluster {
    /// A cluster to be described further.
    pub fn builder(store: Store) -> ClusterBuilder {
        ClusterBuilder::new(store)
    }

    /// Starts a control and regions of these names, in this process.
    ///
    /// # Errors
    /// If a service or PostgreSQL does not start.
    pub async fn start(store: Store, regions: &[&str]) -> anyhow::Result<Self> {
        regions.iter().fold(Self::builder(store), |builder, name| builder.region(name)).start().await
    }

    /// What its silos keep their data in.
    #[must_use]
    pub fn store(&self) -> Store {
        self.database_server.store()
    }

    /// How many regions there are.
    #[must_use]
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// How many controls there are.
    #[must_use]
    pub fn control_count(&self) -> usize {
        self.controls.len()
    }

    /// All services: the controls, then the regions.
    pub fn services(&self) -> impl Iterator<Item = Service> + use<> {
        let controls = (0..self.controls.len()).map(Service::Control);
        controls.chain((0..self.regions.len()).map(Service::Region))
    }

    /// All databases: that of control, then those of the regions.
    pub fn silos(&self) -> impl Iterator<Item = Silo> + use<> {
        [Silo::Control].into_iter().chain((0..self.regions.len()).map(Silo::Region))
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The failpoints of its services.
    #[must_use]
    pub fn failpoints(&self) -> &Failpoints {
        &self.failpoints
    }

    /// Where the first control is reached. It stays the same when control is stopped and started.
    #[must_use]
    pub fn control_url(&self) -> String {
        self.controls[0].url()
    }

    /// Where a service is reached. It stays the same when the service is stopped and started.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn url(&self, service: Service) -> String {
        self.node(service).url()
    }

    /// Calls to the first control.
    #[must_use]
    pub fn control(&self) -> ControlApi {
        self.control_number(0)
    }

    /// Calls to a control.
    ///
    /// # Panics
    /// If there is no control of this number.
    #[must_use]
    pub fn control_number(&self, index: usize) -> ControlApi {
        ControlApi::new(self.controls[index].channel())
    }

    /// Calls to a region.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region(&self, index: usize) -> RegionApi {
        let node = &self.regions[index];
        RegionApi::new(node.name(), node.url(), node.channel(), self.env.clone())
    }

    /// Calls to a region over a link, with the faults of all links.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region_by_link(&self, index: usize) -> RegionApi {
        let (node, client_link) = (&self.regions[index], &self.client_links[self.controls.len() + index]);
        RegionApi::new(node.name(), client_link.url().to_owned(), client_link.channel(), self.env.clone())
    }

    /// Calls to a control over a link, with the faults of all links.
    ///
    /// # Panics
    /// If there is no control of this number.
    #[must_use]
    pub fn control_by_link(&self, index: usize) -> ControlApi {
        ControlApi::new(self.client_links[index].channel())
    }

    /// A look into the database of a silo, beside its service, on connections of its own.
    ///
    /// # Errors
    /// If it cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.database_of(silo).connect().await
    }

    /// The same on connections that are there already, for those who look often. They are the cluster's: not to be closed.
    ///
    /// # Errors
    /// If it cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn shared_db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.database_of(silo).shared_db().await
    }

    /// A service on this database.
    fn database_of(&self, silo: Silo) -> &Node {
        match silo {
            Silo::Control => &self.controls[0],
            Silo::Region(index) => &self.regions[index],
        }
    }

    fn node(&self, service: Service) -> &Node {
        match service {
            Service::Control(index) => &self.controls[index],
            Service::Region(index) => &self.regions[index],
        }
    }

    /// The name of a region.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region_name(&self, index: usize) -> &str {
        self.regions[index].name()
    }

    /// Whether a service runs.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn is_running(&self, service: Service) -> bool {
        self.node(service).is_alive()
    }

    /// Starts a service, or nothing if it runs.
    ///
    /// # Errors
    /// If its port has been taken, its database cannot be used, or it is killed before it serves.
    ///
    /// # Panics
    /// If there is none of this number.
    pub async fn start_service(&self, service: Service) -> anyhow::Result<()> {
        let node = self.node(service);
        if node.is_alive() {
            return Ok(());
        }
        self.trace.note(format!("{service}: start"));
        let env = builder::derived(&self.env);
        let hook =
            self.failpoints.hook(service, Arc::clone(&node.life), builder::derived(&env), self.trace.clone());
        let env = env.with_failpoints(hook);
        match (&self.program, service) {
            (Some(program), _) => {
                node.start_process(self.command(program, service), self.log_file(service)).await
            }
            (None, Service::Control(_)) => {
                let mut options = options::control(node.database_url().to_owned(), node.url());
                if let Some(count) = self.changes_a_transaction {
                    options.feed.changes_a_transaction = count;
                }
                node.start(move |listener| serve_control(listener, options, Settings::default(), env)).await
            }
            (None, Service::Region(index)) => {
                let url = node.database_url().to_owned();
                let mut options = options::region(
                    node.name(),
                    url,
                    node.url(),
                    self.control_urls(index),
                    self.spool_dir(index),
                );
                (self.configure.0)(&mut options);
                node.start(move |listener| serve_region(listener, options, Settings::default(), env)).await
            }
        }
    }

    fn control_urls(&self, region: usize) -> Vec<String> {
        self.links[region].iter().map(|link| link.url().to_owned()).collect()
    }

    /// Changes the options that regions in this process are started with from now on. One that runs stays as it is until
    /// it is stopped and started again.
    pub fn configure_regions(
        &mut self,
        configure: impl Fn(&mut causeway_region::Options) + Send + Sync + 'static,
    ) {
        self.configure = Configure(Box::new(configure));
    }

    /// Where a region keeps uploads, unless something else was configured.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn spool_dir(&self, region: usize) -> PathBuf {
        self.directory.path().join(format!("spool-{}", self.regions[region].name()))
    }

    fn log_file(&self, service: Service) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.node(service).name()))
    }

    /// What the processes of a service have logged so far, in all their lives.
    ///
    /// # Errors
    /// If the service has not been a process.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn log(&self, service: Service) -> std::io::Result<String> {
        std::fs::read_to_string(self.log_file(service))
    }

    /// Sends a signal to the process of a service, e.g. `TERM`.
    ///
    /// # Errors
    /// If the service is no process, or does not run.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn signal(&self, service: Service, signal: &str) -> anyhow::Result<()> {
        self.trace.note(format!("{service}: SIG{signal}"));
        self.node(service).signal(signal)
    }

    /// Waits until the process of a service has ended by itself, and says how.
    ///
    /// # Errors
    /// If the service is no process, or has not ended after half a minute.
    ///
    /// # Panics
    /// If there is none of this number.
    pub async fn ended(&self, service: Service) -> anyhow::Result<ExitStatus> {
        self.node(service).ended().await
    }

    /// The command that is a service.
    fn command(&self, program: &PathBuf, service: Service) -> Command {
        let node = self.node(service);
        let mut command = process::command(program);
        command.env("CAUSEWAY_FAILPOINTS", self.failpoints.to_environment());
        match service {
            Service::Control(_) => command.arg("control"),
            Service::Region(index) => command
                .args(["region", "--name", node.name(), "--spool-dir"])
                .arg(self.spool_dir(index))
                .args(["--control", &self.control_urls(index).join(",")]),
        };
        command.args(["--database-url", node.database_url(), "--listen", &node.address().to_string()]);
        command.args(&self.arguments);
        command
    }

    /// Stops a service softly: it ends the chunk in hand and forgets all that is not in its database.
    ///
    /// # Panics
    /// If there is none of this number.
    pub async fn stop_service(&self, service: Service) {
        self.trace.note(format!("{service}: stop"));
        self.node(service).stop().await;
    }

    /// Kills a service. A process gets SIGKILL; for a service in this process see the [module](self).
    ///
    /// # Panics
    /// If there is none of this number.
    pub async fn kill(&self, service: Service) {
        self.trace.note(format!("{service}: kill"));
        self.node(service).kill().await;
    }

    /// Waits until a service has been killed, by [`kill`](Self::kill) or a failpoint, since this was last asked.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Opens or closes the ways of a region to all controls.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub fn set_link_state(&self, region: usize, link_state: LinkState) {
        for link in &self.links[region] {
            link.set_link_state(link_state);
        }
    }

    /// Opens or closes the way of a region to one control.
    ///
    /// # Panics
    /// If there is no region or control of this number.
    pub fn set_link_state_to(&self, region: usize, control: usize, link_state: LinkState) {
        self.links[region][control].set_link_state(link_state);
    }

    fn all_links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten().chain(&self.client_links)
    }

    /// Sets which faults happen to calls on all links.
    pub fn set_call_faults(&self, call_faults: CallFaults) {
        self.trace.note(format!("{call_faults:?}"));
        for link in self.all_links() {
            link.set_call_faults(call_faults);
        }
    }

    /// Ends the database server as a crash does, and starts it again after `down`. Does nothing on SQLite.
    ///
    /// # Errors
    /// If it does not start again.
    pub async fn crash_database(&self, down: Duration) -> anyhow::Result<()> {
        self.trace.note(format!("the database crashes, and is down for {down:?}"));
        self.database_server.crash_database(down).await
    }

    /// Stops the database server in good order, so that it is away until it is [started](Self::start_database). Does
    /// nothing on SQLite.
    ///
    /// # Errors
    /// If it cannot be stopped.
    pub async fn stop_database(&self) -> anyhow::Result<()> {
        self.trace.note("the database stops");
        self.database_server.stop_database().await
    }

    /// Starts the database server again. Does nothing on SQLite.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_database(&self) -> anyhow::Result<()> {
        self.trace.note("the database starts");
        self.database_server.start_database().await
    }

    /// Ends all faults: no failpoint acts, all links are open, no call has a fault, all services run.
    ///
    /// # Errors
    /// If a service does not start.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.failpoints.disarm();
        for link in self.all_links() {
            link.set_call_faults(CallFaults::default());
            link.set_link_state(LinkState::Open);
        }
        self.trace.note("all is healed");
        self.revive().await
    }

    /// Starts all services that do not run.
    ///
    /// # Errors
    /// If one does not start, or is killed while it does.
    pub async fn revive(&self) -> anyhow::Result<()> {
        for service in self.services() {
            self.start_service(service).await?;
        }
        Ok(())
    }

    /// Starts the first control, or nothing if it runs.
    ///
    /// # Errors
    /// As [`start_service`](Self::start_service).
    pub async fn start_control(&mut self) -> anyhow::Result<()> {
        self.start_service(Service::Control(0)).await
    }

    /// Stops the first control softly. Until it is started again, nobody listens on its port.
    pub async fn stop_control(&mut self) {
        self.stop_service(Service::Control(0)).await;
    }

    /// Starts a region, or nothing if it runs.
    ///
    /// # Errors
    /// As [`start_service`](Self::start_service).
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn start_region(&mut self, index: usize) -> anyhow::Result<()> {
        self.start_service(Service::Region(index)).await
    }

    /// Stops a region softly.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn stop_region(&mut self, index: usize) {
        self.stop_service(Service::Region(index)).await;
    }

    /// Stops everything softly: the regions first, for they need control to come to a good end.
    pub async fn stop(mut self) {
        for node in self.regions.iter_mut().chain(&mut self.controls) {
            node.stop().await;
            node.close_db().await;
        }
        for silo in self.silos() {
            let url = self.database_of(silo).database_url();
            if let Err(error) = self.database_server.forget(url).await {
                tracing::warn!(%error, "a database of a test is left over");
            }
        }
    }
}
