//! A second process of a region.

use std::net::Ipv4Addr;

use anyhow::ensure;
use causeway::serve::{Running, Settings, serve_region};
use causeway_client::{Client, Timeouts};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{Cluster, Node, RegionApi, Silo, Store, builder::derived, options};

/// Replaces another process of a region: a service in this process, on the same database, with a port and a
/// spool directory of its own. It calls the controls directly, without a link, and has no failpoints.
#[derive(Debug)]
pub struct SecondProcess {
    // Rust drops fields in this order: the service before its spool directory.
    running: Running,
    api: RegionApi,
    _spool: TempDir,
}

impl SecondProcess {
    /// A client of this process of the region.
    #[must_use]
    pub fn region(&self) -> &RegionApi {
        &self.api
    }

    /// Stops it gracefully. Do this before the cluster stops.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

impl Cluster {
    /// Starts another process of a region.
    ///
    /// # Errors
    /// If it does not start, or on SQLite, which only one process can use.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn start_second_process(&self, region: usize) -> anyhow::Result<SecondProcess> {
        ensure!(self.store() == Store::Postgres, "several processes need a database that they may share");
        ensure!(self.pki.is_none(), "a second process gets no certificate");
        let node = self.database_of(Silo::Region(region));
        let spool = tempfile::tempdir_in(self.directory.path())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut options = options::region(
            node.name(),
            node.database_url().to_owned(),
            url.clone(),
            self.controls.iter().map(Node::url).collect(),
            spool.path().to_owned(),
        );
        (self.configure.0)(&mut options);
        let env = derived(&self.env);
        let running = serve_region(listener, options, Settings::default(), env.clone()).await?;
        let client = Client::new(causeway_client::Service::Region, &[url], Timeouts::default())?;
        Ok(SecondProcess { running, api: RegionApi::new(node.name(), client, env), _spool: spool })
    }
}
