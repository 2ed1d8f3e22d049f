//! One control and some regions, in this process, each on a database of its own and served on a real port of the
//! loopback interface.
//!
//! ```no_run
//! # async fn example(export: &[u8]) -> anyhow::Result<()> {
//! use causeway_harness::cluster::{Cluster, ImportOptions, Store};
//!
//! let cluster = Cluster::start(Store::Sqlite, &["us", "de"]).await?;
//! let import = cluster.region(0).import(export, &ImportOptions::default()).await?;
//! println!("{:?}: {} organizations", import.state(), import.organization_count);
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! A service can be stopped and started again; it comes back on the same port with the same database. Dropping the
//! cluster stops everything.

mod api;
mod node;

use anyhow::Context as _;
use causeway::serve::{serve_control, serve_region};
use causeway_relocation::{
    ambient::Ambient,
    db::{self, Db},
};
use tempfile::TempDir;

pub use api::{ControlApi, ImportOptions, RegionApi};
use node::Node;

use crate::postgres::{self, Postgres};

/// What the silos of a cluster keep their data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file for each silo, in a temporary directory.
    Sqlite,
    /// A PostgreSQL server for the cluster, with a database for each silo.
    Postgres,
}

/// One service with its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silo {
    /// The control.
    Control,
    /// The region of this number, in the order in which they were named.
    Region(usize),
}

/// A control and its regions.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in order: services before what they stand on.
    regions: Vec<Node>,
    control: Node,
    ambient: Ambient,
    _postgres: Option<Postgres>,
    directory: TempDir,
}

impl Cluster {
    /// Starts a control and regions of these names.
    ///
    /// # Errors
    /// If a service or PostgreSQL does not start.
    pub async fn start(store: Store, regions: &[&str]) -> anyhow::Result<Self> {
        // Every commit on SQLite waits for the disk, and a test has hundreds.
        let directory = postgres::directory("causeway-cluster-")?;
        let postgres = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(Postgres::start().await?),
        };
        let mut nodes = Vec::with_capacity(regions.len());
        for name in regions {
            nodes.push(Node::new(name, database(postgres.as_ref(), &directory, "region", name).await?)?);
        }
        let control = Node::new("control", database(postgres.as_ref(), &directory, "control", "").await?)?;
        let mut cluster =
            Self { regions: nodes, control, ambient: Ambient::system(), _postgres: postgres, directory };
        cluster.start_control().await?;
        for index in 0..regions.len() {
            cluster.start_region(index).await?;
        }
        Ok(cluster)
    }

    /// How many regions there are.
    #[must_use]
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// Where control is reached. It stays the same when control is stopped and started.
    #[must_use]
    pub fn control_url(&self) -> String {
        self.control.url()
    }

    /// Calls to control.
    #[must_use]
    pub fn control(&self) -> ControlApi {
        ControlApi::new(self.control.channel())
    }

    /// Calls to a region.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region(&self, index: usize) -> RegionApi {
        let node = &self.regions[index];
        RegionApi::new(node.name(), node.url(), node.channel(), self.ambient.clone())
    }

    /// A look into the database of a silo, beside its service, on connections of its own.
    ///
    /// # Errors
    /// If it cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.node(silo).connect().await
    }

    /// The same on connections that are there already, for those who look often. They are the cluster's: not to be closed.
    pub(crate) async fn shared_db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.node(silo).shared_db().await
    }

    fn node(&self, silo: Silo) -> &Node {
        match silo {
            Silo::Control => &self.control,
            Silo::Region(index) => &self.regions[index],
        }
    }

    /// Starts control, or nothing if it runs.
    ///
    /// # Errors
    /// If its port has been taken or its database cannot be used.
    pub async fn start_control(&mut self) -> anyhow::Result<()> {
        let options = causeway_control::Options {
            database_url: self.control.database_url().to_owned(),
            database: db::Options::default(),
            address: self.control.url(),
        };
        let ambient = self.ambient.clone();
        self.control.start(|listener| serve_control(listener, options, ambient)).await
    }

    /// Stops control softly. Until it is started again, nobody listens on its port.
    pub async fn stop_control(&mut self) {
        self.control.stop().await;
    }

    /// Starts a region, or nothing if it runs.
    ///
    /// # Errors
    /// If its port has been taken or its database cannot be used.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn start_region(&mut self, index: usize) -> anyhow::Result<()> {
        let control_url = self.control.url();
        let node = &mut self.regions[index];
        let options = causeway_region::Options {
            name: node.name().to_owned(),
            address: node.url(),
            database_url: node.database_url().to_owned(),
            database: db::Options::default(),
            control_url,
            spool_dir: self.directory.path().join(format!("spool-{}", node.name())),
            pauses: causeway_region::Pauses::default(),
        };
        let ambient = self.ambient.clone();
        node.start(|listener| serve_region(listener, options, ambient)).await
    }

    /// Stops a region softly: it ends the chunk in hand and forgets all that is not in its database.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn stop_region(&mut self, index: usize) {
        self.regions[index].stop().await;
    }

    /// Stops everything softly: the regions first, for they need control to come to a good end.
    pub async fn stop(mut self) {
        for node in self.regions.iter_mut().chain([&mut self.control]) {
            node.stop().await;
            node.close_db().await;
        }
    }
}

/// The URL of a new database.
async fn database(
    postgres: Option<&Postgres>,
    directory: &TempDir,
    kind: &str,
    name: &str,
) -> anyhow::Result<String> {
    let name = if name.is_empty() { kind.to_owned() } else { format!("{kind}_{}", name.replace('-', "_")) };
    match postgres {
        Some(postgres) => postgres.create_database(&name).await,
        None => {
            let path = directory.path().join(format!("{name}.db"));
            Ok(format!("sqlite:{}", path.to_str().context("the temporary directory is not UTF-8")?))
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::{GetRegionRequest, ListRegionsRequest};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn services_come_back_where_they_were_and_leave_nothing() {
        let mut cluster = Cluster::start(Store::Sqlite, &["us", "de"]).await.unwrap();
        let directory = cluster.directory.path().to_owned();
        let (control, us) = (cluster.control_url(), cluster.region(0).url().to_owned());
        let knock = async |url: &str| TcpStream::connect(url.trim_start_matches("http://")).await;

        cluster.stop_control().await;
        cluster.stop_region(0).await;
        knock(&control).await.unwrap_err();
        knock(&us).await.unwrap_err();
        cluster.start_region(0).await.unwrap();
        cluster.start_control().await.unwrap();
        cluster.start_control().await.unwrap();
        assert_eq!((cluster.control_url(), cluster.region(0).url()), (control, us.as_str()));

        // A client that was there before need not notice. Regions register when they find control.
        let import = cluster.region(0).import(b"[]", &ImportOptions::default()).await.unwrap();
        assert_eq!(import.region, "us");
        let mut regions = cluster.control().regions();
        let asked = regions.get_region(GetRegionRequest { name: "us".to_owned() }).await.unwrap();
        assert_eq!(asked.into_inner().region.unwrap().address, us);
        regions.list_regions(ListRegionsRequest::default()).await.unwrap();

        cluster.stop().await;
        knock(&us).await.unwrap_err();
        assert!(!directory.exists());
    }
}
