//! One service: its port, its database, and its life, which is a runtime of its own in this process, or a process.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use causeway::serve::Running;
use causeway_silo::db::{self, Db};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::{Notify, OnceCell},
    time::{Instant, timeout},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::process::send;

/// How long a process may take until it serves, and to end softly.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(5);
/// How long what a killed service has in hand, such as a statement in a thread of SQLite, may take to end.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// A service that is alive, or not.
#[derive(Debug, Default)]
pub(super) struct Life {
    alive: Mutex<Option<Alive>>,
    /// Threads that kill it from within. It cannot live again before they have ended.
    killers: Mutex<Vec<JoinHandle<()>>>,
    /// Told when it was killed.
    killed: Arc<Notify>,
}

#[derive(Debug)]
enum Alive {
    /// In this process, on a runtime of its own; without `running` as long as it starts.
    Here { runtime: Runtime, running: Option<Box<Running>> },
    /// A process.
    Process(Child),
}

impl Alive {
    /// Ends it at once. Blocks.
    fn kill(self) {
        match self {
            Self::Here { runtime, running } => {
                // The runtime first: the other way round the server would notice, and end in good order.
                runtime.shutdown_timeout(LAST_BREATH);
                drop(running);
            }
            Self::Process(mut child) => {
                let _gone_already = child.kill();
                let _reaped = child.wait();
            }
        }
    }
}

impl Life {
    fn alive(&self) -> MutexGuard<'_, Option<Alive>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self) -> bool {
        match &mut *self.alive() {
            None => false,
            Some(Alive::Here { .. }) => true,
            Some(Alive::Process(child)) => matches!(child.try_wait(), Ok(None)),
        }
    }

    /// Ends it at once. In this process, nothing of it goes on when this returns, but for a statement that its database
    /// had in hand. Blocks.
    fn kill(&self) {
        if let Some(alive) = self.alive().take() {
            alive.kill();
            self.killed.notify_one();
        }
    }

    /// Kills it from within, where nothing may block. From now on it is not alive.
    pub(super) fn kill_soon(&self) {
        if let Some(alive) = self.alive().take() {
            let killed = Arc::clone(&self.killed);
            let killer = std::thread::spawn(move || {
                alive.kill();
                killed.notify_one();
            });
            self.killers.lock().unwrap_or_else(PoisonError::into_inner).push(killer);
        }
    }

    /// Waits until what was killed from within is gone. Blocks.
    fn bury(&self) {
        let killers = std::mem::take(&mut *self.killers.lock().unwrap_or_else(PoisonError::into_inner));
        for killer in killers {
            let _it_cannot_panic = killer.join();
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        match self.alive().take() {
            None => {}
            // A runtime must not wait where it is dropped by another one.
            Some(Alive::Here { runtime, running }) => {
                runtime.shutdown_background();
                drop(running);
            }
            Some(Alive::Process(mut child)) => {
                let _gone_already = child.kill();
                let _reaped = child.wait();
            }
        }
    }
}

/// A service of a cluster.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    database_url: String,
    channel: Channel,
    pub(super) life: Arc<Life>,
    /// One start or stop at a time.
    changing: tokio::sync::Mutex<()>,
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

/// Listens on a port that is ours. What listened on it before may have closed it without being gone yet.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let until = Instant::now() + LAST_BREATH;
    loop {
        match socket(address).and_then(|socket| socket.listen(1024)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(LOOK).await;
            }
            listening => return listening,
        }
    }
}

impl Node {
    /// A service that does not run yet, with a port of its own. `killed` is told when it was killed.
    pub(super) fn new(name: &str, database_url: String, killed: Arc<Notify>) -> anyhow::Result<Self> {
        let port = socket((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        // Connects when it is used, and again when the connection is lost.
        let channel = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect_lazy();
        Ok(Self {
            name: name.to_owned(),
            database_url,
            channel,
            life: Arc::new(Life { alive: Mutex::default(), killers: Mutex::default(), killed }),
            changing: tokio::sync::Mutex::default(),
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

    pub(super) fn address(&self) -> SocketAddr {
        self.address
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

    /// Whether it runs.
    pub(super) fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// Serves on the port of this service, in this process, unless it is being served.
    pub(super) async fn start<F>(
        &self,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<Running>> + Send,
    {
        let _changing = self.changing.lock().await;
        if self.is_alive() {
            return Ok(());
        }
        let life = Arc::clone(&self.life);
        tokio::task::spawn_blocking(move || life.bury()).await?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(&self.name)
            .enable_all()
            .build()?;
        let address = self.address;
        let starting = runtime.spawn(async move { serve(listen(address).await?).await });
        *self.life.alive() = Some(Alive::Here { runtime, running: None });
        let started = starting.await;
        let mut alive = self.life.alive();
        match (started, &mut *alive) {
            (Ok(Ok(service)), Some(Alive::Here { running, .. })) => {
                *running = Some(Box::new(service));
                Ok(())
            }
            (Ok(Err(error)), alive) => {
                if let Some(Alive::Here { runtime, .. }) = alive.take() {
                    runtime.shutdown_background();
                }
                Err(error)
            }
            _ => bail!("{} was killed while it started", self.name),
        }
    }

    /// The same as a process, and waits until it serves. Its log goes into a file.
    pub(super) async fn start_process(
        &self,
        mut command: std::process::Command,
        log: PathBuf,
    ) -> anyhow::Result<()> {
        let _changing = self.changing.lock().await;
        if self.is_alive() {
            return Ok(());
        }
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{command:?} cannot be run"))?;
        *self.life.alive() = Some(Alive::Process(child));
        let serves = async {
            while self.is_alive() {
                let asked = HealthClient::new(self.channel()).check(HealthCheckRequest::default()).await;
                if asked.is_ok() {
                    return true;
                }
                tokio::time::sleep(LOOK).await;
            }
            false
        };
        if !timeout(PATIENCE, serves).await.unwrap_or(false) {
            self.life.alive().take();
            let log = std::fs::read_to_string(log).unwrap_or_default();
            bail!("the process of {} ended while it started, or does not serve; its log:\n{log}", self.name);
        }
        Ok(())
    }

    /// Sends a signal to the process that it is.
    pub(super) fn signal(&self, signal: &str) -> anyhow::Result<()> {
        match &*self.life.alive() {
            Some(Alive::Process(child)) => ensure!(send(child, signal)?.success(), "{} is gone", self.name),
            _ => bail!("{} is no process that runs", self.name),
        }
        Ok(())
    }

    /// Waits until the process that it is has ended by itself, and says how.
    pub(super) async fn ended(&self) -> anyhow::Result<ExitStatus> {
        let ended = async {
            loop {
                match &mut *self.life.alive() {
                    Some(Alive::Process(child)) => {
                        if let Some(status) = child.try_wait()? {
                            return anyhow::Ok(status);
                        }
                    }
                    _ => bail!("{} is no process that runs", self.name),
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let ended = timeout(PATIENCE, ended).await;
        let status = ended.with_context(|| format!("{} has not ended in {PATIENCE:?}", self.name))??;
        self.life.alive().take();
        Ok(status)
    }

    /// Stops it softly.
    pub(super) async fn stop(&self) {
        let _changing = self.changing.lock().await;
        let alive = self.life.alive().take();
        match alive {
            None => {}
            Some(Alive::Here { runtime, running }) => {
                if let Some(running) = running {
                    // On its own runtime. If it ends by itself, it has stopped too.
                    let _stopped = runtime.spawn(running.stop()).await;
                }
                // All of it, so that nothing listens on its port any more when it is started again. That blocks.
                let _gone = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LAST_BREATH)).await;
            }
            Some(Alive::Process(mut child)) => {
                let _gone_already = send(&child, "TERM");
                let ended = async {
                    while let Ok(None) = child.try_wait() {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                if timeout(PATIENCE, ended).await.is_err() {
                    let _gone_already = child.kill();
                    let _reaped = child.wait();
                }
            }
        }
    }

    /// Kills it.
    pub(super) async fn kill(&self) {
        let _changing = self.changing.lock().await;
        let life = Arc::clone(&self.life);
        let killing = tokio::task::spawn_blocking(move || {
            life.kill();
            life.bury();
        });
        // It fails if the test's own runtime ends, and the services with it.
        let _ended = killing.await;
    }
}
