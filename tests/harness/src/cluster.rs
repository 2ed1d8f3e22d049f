//! One or more controls and some regions. Each has its own database (all controls share one) and serves on a real port
//! of the loopback interface, in this process or in a process of its own.
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
//! You can stop or kill a service and start it again; it comes back on the same port with the same database. In this
//! process each service has its own runtime. Killing it drops that runtime: no task of the service takes another step.
//! There is one difference from a killed process: a statement that the database already executes is finished, on SQLite
//! too.
//!
//! A region calls control over its own [link](LinkState), on which calls can be [lost, repeated or
//! delayed](CallFaults). Tests can use a link too ([`Cluster::region_by_link`]). Dropping the cluster stops everything.

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

use causeway::serve::{Settings, Tls, serve_control, serve_region};
use causeway_client::{Client, ClientTls, Timeouts};
use causeway_silo::{db::Db, env::Environment};
use causeway_tls::{IdentityTable, Role, TableEntry};
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
use options::{Configure, ConfigureControl};
pub use second_process::SecondProcess;
use trace::PrintOnPanic;
pub use trace::{Trace, Wait};

use crate::{
    pki::{Pki, TRUST_DOMAIN},
    process,
};

/// How often a service with TLS checks whether its certificates have changed: a test waits for that.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The database that each silo of a cluster uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// One SQLite file per silo, in a temporary directory.
    Sqlite,
    /// One PostgreSQL server for the cluster, with one database per silo.
    Postgres,
}

/// One database of a cluster. All controls share one; each region has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silo {
    /// Control's database, which all controls share.
    Control,
    /// The database of the region with this index, in the order in which the builder named the regions.
    Region(usize),
}

/// One service of a cluster, in this process or in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The control with this index. 0 is the first.
    Control(usize),
    /// The region with this index, in the order in which the builder named the regions.
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

/// A running cluster: one or more controls and any number of regions. Dropping it stops everything.
#[derive(Debug)]
pub struct Cluster {
    // Rust drops fields in this order: first the trace is printed, then the services go, then what they depend on.
    _print_on_panic: PrintOnPanic,
    regions: Vec<Node>,
    controls: Vec<Node>,
    /// The links from each region to each control, by region index and then control index.
    links: Vec<Vec<Link>>,
    /// The links from a test to each service: the controls first, then the regions.
    client_links: Vec<Link>,
    env: Environment,
    failpoints: Failpoints,
    changes_a_transaction: Option<usize>,
    product_interval: Duration,
    configure_control: ConfigureControl,
    trace: Trace,
    killed: Arc<Notify>,
    program: Option<PathBuf>,
    arguments: Vec<String>,
    configure: Configure,
    pki: Option<Arc<Pki>>,
    simulated_regions: Vec<String>,
    directory: TempDir,
    database_server: Arc<DatabaseServer>,
}

fn client_of(
    service: causeway_client::Service,
    url: &str,
    caller: &Arc<ClientTls>,
) -> anyhow::Result<Client> {
    Ok(Client::with_tls(service, &[url.to_owned()], Timeouts::default(), Some(Arc::clone(caller)))?)
}

impl Cluster {
    /// Starts to describe a cluster. It runs once [`ClusterBuilder::start`] is called.
    pub fn builder(store: Store) -> ClusterBuilder {
        ClusterBuilder::new(store)
    }

    /// Starts one control and regions with these names, in this process.
    ///
    /// # Errors
    /// If a service or PostgreSQL does not start.
    pub async fn start(store: Store, regions: &[&str]) -> anyhow::Result<Self> {
        regions.iter().fold(Self::builder(store), |builder, name| builder.region(name)).start().await
    }

    /// Which kind of database the silos use.
    #[must_use]
    pub fn store(&self) -> Store {
        self.database_server.store()
    }

    /// The number of regions. Region indices run from 0 to one less.
    #[must_use]
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// The number of controls. Control indices run from 0 to one less.
    #[must_use]
    pub fn control_count(&self) -> usize {
        self.controls.len()
    }

    /// All services: first the controls, then the regions.
    pub fn services(&self) -> impl Iterator<Item = Service> + use<> {
        let controls = (0..self.controls.len()).map(Service::Control);
        controls.chain((0..self.regions.len()).map(Service::Region))
    }

    /// All databases: first control's, then those of the regions.
    pub fn silos(&self) -> impl Iterator<Item = Silo> + use<> {
        [Silo::Control].into_iter().chain((0..self.regions.len()).map(Silo::Region))
    }

    /// The trace: what happened to the cluster so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The failpoints that all services of the cluster share.
    #[must_use]
    pub fn failpoints(&self) -> &Failpoints {
        &self.failpoints
    }

    /// The URL of the first control. It stays the same when control is stopped and started.
    #[must_use]
    pub fn control_url(&self) -> String {
        self.controls[0].url()
    }

    /// The URL of a service. It stays the same when the service is stopped and started.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn url(&self, service: Service) -> String {
        self.node(service).url()
    }

    /// The certificate with which the test calls services; `None` in a cluster without TLS.
    ///
    /// # Errors
    /// If it cannot be issued.
    pub fn caller(&self) -> anyhow::Result<Option<Arc<ClientTls>>> {
        self.pki.as_ref().map(|pki| pki.operator()).transpose()
    }

    /// A client of the first control. Its calls go directly to control, without a link.
    #[must_use]
    pub fn control(&self) -> ControlApi {
        self.control_number(0)
    }

    /// A client of the control with this index. Its calls go directly to control, without a link.
    ///
    /// # Panics
    /// If there is no control of this number.
    #[must_use]
    pub fn control_number(&self, index: usize) -> ControlApi {
        ControlApi::new(self.controls[index].client())
    }

    /// A client of the region with this index. Its calls go directly to the region, without a link.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region(&self, index: usize) -> RegionApi {
        let node = &self.regions[index];
        RegionApi::new(node.name(), node.client(), self.env.clone())
    }

    /// A client of the region with this index, with these certificates.
    ///
    /// # Errors
    /// If it has no usable URL.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub fn region_as(&self, index: usize, caller: &Arc<ClientTls>) -> anyhow::Result<RegionApi> {
        let node = &self.regions[index];
        let client = client_of(causeway_client::Service::Region, &node.url(), caller)?;
        Ok(RegionApi::new(node.name(), client, self.env.clone()))
    }

    /// A client of the first control, with these certificates.
    ///
    /// # Errors
    /// If it has no usable URL.
    pub fn control_as(&self, caller: &Arc<ClientTls>) -> anyhow::Result<ControlApi> {
        Ok(ControlApi::new(client_of(causeway_client::Service::Control, &self.control_url(), caller)?))
    }

    /// A client of a region over a link, so that its calls meet the faults that are set for all links.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region_by_link(&self, index: usize) -> RegionApi {
        let (node, client_link) = (&self.regions[index], &self.client_links[self.controls.len() + index]);
        RegionApi::new(node.name(), client_link.client(), self.env.clone())
    }

    /// A client of a control over a link, so that its calls meet the faults that are set for all links.
    ///
    /// # Panics
    /// If there is no control of this number.
    #[must_use]
    pub fn control_by_link(&self, index: usize) -> ControlApi {
        ControlApi::new(self.client_links[index].client())
    }

    /// Opens new connections to the database of a silo, separate from those of its service.
    ///
    /// # Errors
    /// If the database cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.database_of(silo).connect().await
    }

    /// Like [`db`](Self::db), on connections that the cluster opens once and keeps. For callers that query often. The
    /// cluster owns the connections: do not close them.
    ///
    /// # Errors
    /// If the database cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn shared_db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.database_of(silo).shared_db().await
    }

    /// A service that uses this database. For control it is the first control.
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

    /// The name that a region has been given in the builder.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region_name(&self, index: usize) -> &str {
        self.regions[index].name()
    }

    /// Whether a service runs at this moment.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn is_running(&self, service: Service) -> bool {
        self.node(service).is_alive()
    }

    /// Starts a service. Does nothing if it runs already.
    ///
    /// # Errors
    /// If the port of the service is in use, its database cannot be used, or the service is killed before it
    /// serves.
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
                node.start_process(self.command(program, service)?, self.log_file(service)).await
            }
            (None, Service::Control(_)) => {
                let mut options = options::control(node.database_url().to_owned(), node.url());
                options.feed.product_interval = self.product_interval;
                if let Some(count) = self.changes_a_transaction {
                    options.feed.changes_a_transaction = count;
                }
                (self.configure_control.0)(&mut options);
                let settings = self.settings(Role::Control, node.name())?;
                node.start(move |listener| serve_control(listener, options, settings, env)).await
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
                if let Some(pki) = &self.pki {
                    options.control_tls = Some(pki.client(Some(pki.pair(Role::Region, node.name())?))?);
                }
                (self.configure.0)(&mut options);
                let settings = self.settings(Role::Region, node.name())?;
                node.start(move |listener| serve_region(listener, options, settings, env)).await
            }
        }
    }

    /// How a service in this process is served.
    fn settings(&self, role: Role, name: &str) -> anyhow::Result<Settings> {
        let tls = match &self.pki {
            Some(pki) => {
                let identities = Arc::new(self.identities()?);
                Some(Tls { look_every: POLL_INTERVAL, identities, ..pki.server(pki.pair(role, name)?)? })
            }
            None => None,
        };
        Ok(Settings { tls, ..Settings::default() })
    }

    /// What the operator of the tests is in addition to that: whatever it takes to make every call.
    fn identity_entries(&self) -> impl Iterator<Item = String> {
        let regions = self.regions.iter().map(|region| format!("region/{}", region.name()));
        let simulated = self.simulated_regions.iter().map(|name| format!("region/{name}"));
        let roles = regions.chain(simulated).chain(["router/me".to_owned(), "importer/me".to_owned()]);
        roles.map(|role| format!("spiffe://{TRUST_DOMAIN}/operator/me={role}"))
    }

    fn identities(&self) -> anyhow::Result<IdentityTable> {
        self.identity_entries().map(|entry| entry.parse::<TableEntry>().map_err(anyhow::Error::msg)).collect()
    }

    /// Replaces the certificates of all services, links and of the test, as somebody does whose certificates end. Does
    /// nothing in a cluster without TLS.
    ///
    /// # Errors
    /// If files cannot be written.
    pub fn rotate_certificates(&self) -> anyhow::Result<()> {
        let Some(pki) = &self.pki else { return Ok(()) };
        for control in &self.controls {
            pki.pair(Role::Control, control.name())?;
        }
        for region in &self.regions {
            pki.pair(Role::Region, region.name())?;
        }
        pki.pair(Role::Control, "link")?;
        pki.pair(Role::Operator, "me")?;
        self.trace.note("all certificates are replaced");
        Ok(())
    }

    fn control_urls(&self, region: usize) -> Vec<String> {
        self.links[region].iter().map(|link| link.url().to_owned()).collect()
    }

    /// Changes the options with which regions in this process are started from now on. A running region keeps its
    /// options until it is stopped and started again.
    pub fn configure_regions(
        &mut self,
        configure: impl Fn(&mut causeway_region::Options) + Send + Sync + 'static,
    ) {
        self.configure = Configure(Box::new(configure));
    }

    /// The directory in which a region keeps uploads, unless [`configure_regions`](Self::configure_regions) set another
    /// one.
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

    /// Everything that the processes of a service have logged so far, over all restarts.
    ///
    /// # Errors
    /// If the service has never been a process.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn log(&self, service: Service) -> std::io::Result<String> {
        std::fs::read_to_string(self.log_file(service))
    }

    /// Sends a signal to the process of a service, e.g. `TERM`.
    ///
    /// # Errors
    /// If the service is not a process, or does not run.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn signal(&self, service: Service, signal: &str) -> anyhow::Result<()> {
        self.trace.note(format!("{service}: SIG{signal}"));
        self.node(service).signal(signal)
    }

    /// Waits until the process of a service has ended, without ending it, and returns its exit status.
    ///
    /// # Errors
    /// If the service is not a process, or has not ended after 30 seconds.
    ///
    /// # Panics
    /// If there is none of this number.
    pub async fn ended(&self, service: Service) -> anyhow::Result<ExitStatus> {
        self.node(service).ended().await
    }

    /// The command line that starts a service as a process.
    fn command(&self, program: &PathBuf, service: Service) -> anyhow::Result<Command> {
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
        if let Some(pki) = &self.pki {
            let role = match service {
                Service::Control(_) => Role::Control,
                Service::Region(_) => Role::Region,
            };
            let pair = pki.pair(role, node.name())?;
            command.arg("--tls-cert").arg(pair.cert).arg("--tls-key").arg(pair.key);
            command.arg("--tls-client-ca").arg(pki.ca()).args(["--trust-domain", TRUST_DOMAIN]);
            for entry in self.identity_entries() {
                command.args(["--identity", &entry]);
            }
            if matches!(service, Service::Control(_)) {
                command.args(["--accept-regions", "any"]);
            }
        }
        command.args(&self.arguments);
        Ok(command)
    }

    /// Stops a service gracefully: it finishes the current chunk. Everything that is not in its database is lost.
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

    /// Waits until [`kill`](Self::kill) or a failpoint kills a service. Returns at once if one was killed since the
    /// last call.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Sets the state of the links from a region to all controls.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub fn set_link_state(&self, region: usize, link_state: LinkState) {
        for link in &self.links[region] {
            link.set_link_state(link_state);
        }
    }

    /// Sets the state of the link from a region to one control.
    ///
    /// # Panics
    /// If there is no region or control of this number.
    pub fn set_link_state_to(&self, region: usize, control: usize, link_state: LinkState) {
        self.links[region][control].set_link_state(link_state);
    }

    fn all_links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten().chain(&self.client_links)
    }

    /// Sets the faults that calls on all links meet.
    pub fn set_call_faults(&self, call_faults: CallFaults) {
        self.trace.note(format!("{call_faults:?}"));
        for link in self.all_links() {
            link.set_call_faults(call_faults);
        }
    }

    /// Crashes the database server and starts it again after `down`. Does nothing on SQLite.
    ///
    /// # Errors
    /// If the server does not start again.
    pub async fn crash_database(&self, down: Duration) -> anyhow::Result<()> {
        self.trace.note(format!("the database crashes, and is down for {down:?}"));
        self.database_server.crash_database(down).await
    }

    /// Shuts the database server down cleanly. It stays down until [`start_database`](Self::start_database). Does
    /// nothing on SQLite.
    ///
    /// # Errors
    /// If the server cannot be stopped.
    pub async fn stop_database(&self) -> anyhow::Result<()> {
        self.trace.note("the database stops");
        self.database_server.stop_database().await
    }

    /// Starts the database server again. Does nothing on SQLite.
    ///
    /// # Errors
    /// If the server does not start.
    pub async fn start_database(&self) -> anyhow::Result<()> {
        self.trace.note("the database starts");
        self.database_server.start_database().await
    }

    /// Ends all faults: disarms all failpoints, opens all links, removes all call faults, and starts all services that
    /// do not run.
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

    /// Starts all services that do not run at the moment.
    ///
    /// # Errors
    /// If a service does not start, or is killed while it starts.
    pub async fn revive(&self) -> anyhow::Result<()> {
        for service in self.services() {
            self.start_service(service).await?;
        }
        Ok(())
    }

    /// Starts the first control. Does nothing if it runs already.
    ///
    /// # Errors
    /// As [`start_service`](Self::start_service).
    pub async fn start_control(&mut self) -> anyhow::Result<()> {
        self.start_service(Service::Control(0)).await
    }

    /// Stops the first control gracefully. Until it is started again, nobody listens on its port.
    pub async fn stop_control(&mut self) {
        self.stop_service(Service::Control(0)).await;
    }

    /// Starts a region. Does nothing if it runs already.
    ///
    /// # Errors
    /// As [`start_service`](Self::start_service).
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn start_region(&mut self, index: usize) -> anyhow::Result<()> {
        self.start_service(Service::Region(index)).await
    }

    /// Stops a region gracefully.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn stop_region(&mut self, index: usize) {
        self.stop_service(Service::Region(index)).await;
    }

    /// Stops everything gracefully. The regions go first, because they need control to shut down cleanly.
    pub async fn stop(mut self) {
        for node in self.regions.iter_mut().chain(&mut self.controls) {
            node.stop().await;
            node.close_db().await;
        }
        for silo in self.silos() {
            let url = self.database_of(silo).database_url();
            if let Err(error) = self.database_server.forget(url).await {
                tracing::warn!(%error, "cannot remove the database of a test");
            }
        }
    }
}
