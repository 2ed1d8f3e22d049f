//! A second process of a region.

use std::net::Ipv4Addr;

use anyhow::ensure;
use causeway::serve::{Running, Settings, serve_region};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

use super::{Cluster, Node, RegionApi, Silo, Store, builder::derived, options};

/// What another process of a region would be, in this one: on the same database, with a port and a spool directory of
/// its own. No link lies between it and the controls, and no failpoint acts in it.
#[derive(Debug)]
pub struct SecondProcess {
    // Fields are dropped in order: the service before what it stands on.
    running: Running,
    api: RegionApi,
    _spool: TempDir,
}

impl SecondProcess {
    /// Calls to it.
    #[must_use]
    pub fn region(&self) -> &RegionApi {
        &self.api
    }

    /// Stops it softly. That is to be done before the cluster stops.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

impl Cluster {
    /// Starts another process of a region.
    ///
    /// # Errors
    /// If it does not start, or on SQLite, which is for one process.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn start_beside(&self, region: usize) -> anyhow::Result<SecondProcess> {
        ensure!(self.store() == Store::Postgres, "several processes need a database that they may share");
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
        let channel = Endpoint::from_shared(url.clone())?.tcp_nodelay(true).connect_lazy();
        Ok(SecondProcess { running, api: RegionApi::new(node.name(), url, channel, env), _spool: spool })
    }
}
