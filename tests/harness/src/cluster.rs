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
mod clients;
mod database_server;
mod direct;
mod failpoints;
mod hang;
mod link;
mod node;
mod options;
mod outages;
mod processes;
mod quiet;
mod second_process;
#[cfg(test)]
mod tests;
mod trace;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use causeway_client::{Client, ClientTls, Timeouts};
use causeway_silo::env::Environment;
use causeway_tls::Role;
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

use crate::pki::Pki;

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
    /// The programs of services that do not run with the one above.
    programs: BTreeMap<Service, PathBuf>,
    arguments: Vec<String>,
    configure: Configure,
    pki: Option<Arc<Pki>>,
    simulated_regions: Vec<String>,
    console: bool,
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

    /// The directory in which a region keeps uploads, unless [`configure_regions`](Self::configure_regions) set another
    /// one.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn spool_dir(&self, region: usize) -> PathBuf {
        self.directory.path().join(format!("spool-{}", self.regions[region].name()))
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
