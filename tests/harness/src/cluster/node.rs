//! One service: its port, its database, and the server while it runs.

use std::net::{Ipv4Addr, SocketAddr};

use causeway::serve::Running;
use causeway_relocation::db::{self, Db};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Handle,
    sync::OnceCell,
};
use tonic::transport::{Channel, Endpoint};

/// A service of a cluster.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    database_url: String,
    channel: Channel,
    running: Option<Running>,
    /// Connections for whoever looks; made when the first one does.
    db: OnceCell<Db>,
    address: SocketAddr,
    /// Bound and never listening: keeps the port from being given to anybody else while the service is stopped, and
    /// whoever connects then is refused, as by a service that is not there.
    _port: TcpSocket,
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Node {
    /// A service that does not run yet, with a port of its own.
    pub(super) fn new(name: &str, database_url: String) -> anyhow::Result<Self> {
        let port = socket((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        // Connects when it is used, and again when the connection is lost.
        let channel = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect_lazy();
        Ok(Self {
            name: name.to_owned(),
            database_url,
            channel,
            running: None,
            db: OnceCell::new(),
            address,
            _port: port,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn database_url(&self) -> &str {
        &self.database_url
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// New connections to the database, beside the service.
    pub(super) async fn connect(&self) -> anyhow::Result<Db> {
        let options = db::Options { max_connections: 2, ..db::Options::default() };
        Ok(Db::connect(&self.database_url, &options).await?)
    }

    /// Connections that are made once.
    pub(super) async fn shared_db(&self) -> anyhow::Result<Db> {
        Ok(self.db.get_or_try_init(|| self.connect()).await?.clone())
    }

    /// Closes the connections of those who looked.
    pub(super) async fn close_db(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().await;
        }
    }

    /// Serves on the port of this service, unless it is being served.
    pub(super) async fn start<F>(&mut self, serve: impl FnOnce(TcpListener) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<Running>>,
    {
        if self.running.is_none() {
            let listener = socket(self.address)?.listen(1024)?;
            self.running = Some(serve(listener).await?);
        }
        Ok(())
    }

    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

impl Drop for Node {
    /// A service that is only dropped goes on with its imports as long as the runtime lives.
    fn drop(&mut self) {
        if let (Some(running), Ok(runtime)) = (self.running.take(), Handle::try_current()) {
            runtime.spawn(running.stop());
        }
    }
}
