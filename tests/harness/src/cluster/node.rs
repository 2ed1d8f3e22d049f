//! One service of a cluster: its port, its database, and its life. It lives on a runtime of its own in this process, or
//! as a process.

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
use causeway_client::{Client, ClientTls, Service, Timeouts};
use causeway_silo::{
    Silo,
    db::{self, Db},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::{Notify, OnceCell},
    time::{Instant, timeout},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::process::send;

/// How long a process may take to start serving, and to stop gracefully.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long work in progress of a killed service may take to end, such as a statement in a thread of SQLite.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The life of a service: whether it runs, and how.
#[derive(Debug, Default)]
pub(super) struct Life {
    alive: Mutex<Option<Alive>>,
    /// Threads that kill the service from within. It cannot start again before they have ended.
    killers: Mutex<Vec<JoinHandle<()>>>,
    /// Notified when the service has been killed.
    killed: Arc<Notify>,
}

#[derive(Debug)]
enum Alive {
    /// In this process, on a runtime of its own. `running` is `None` while the service starts.
    Here { runtime: Runtime, running: Option<Box<Running>> },
    /// A process of its own, from the `causeway` program.
    Process(Child),
}

impl Alive {
    /// Kills the service at once. Blocks.
    fn kill(self) {
        match self {
            Self::Here { runtime, running } => {
                // The runtime first: the other way round the server would notice, and shut down cleanly.
                runtime.shutdown_timeout(KILL_TIMEOUT);
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

    /// Kills the service at once. When this returns, nothing of a service in this process still runs, except a
    /// statement that its database was executing. Blocks.
    fn kill(&self) {
        if let Some(alive) = self.alive().take() {
            alive.kill();
            self.killed.notify_one();
        }
    }

    /// Kills the service from within, where nothing may block. From now on the service does not count as alive.
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

    /// Waits until the threads that kill the service have ended. Blocks.
    fn join_killers(&self) {
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
            // A runtime must not block where another runtime drops it.
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

/// A service of a cluster, whether it runs or not.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    service: Service,
    database_url: String,
    client: Client,
    pub(super) life: Arc<Life>,
    /// Allows one start or stop at a time.
    changing: tokio::sync::Mutex<()>,
    /// Connections for tests that read the database, opened on first use.
    db: OnceCell<Db>,
    address: SocketAddr,
    /// Bound but never listening. It keeps the port from going to another program while the service is stopped, and a
    /// client that connects then is refused, as if no service were there.
    _port: TcpSocket,
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listens on a port that the node owns. Retries, because a listener that was closed there before may not be gone yet.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let until = Instant::now() + KILL_TIMEOUT;
    loop {
        match socket(address).and_then(|socket| socket.listen(1024)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            listening => return listening,
        }
    }
}

impl Node {
    /// Creates a service that does not run yet, with a port of its own. `killed` is notified when the service has been
    /// killed.
    pub(super) fn new(
        service: Service,
        name: &str,
        database_url: String,
        killed: Arc<Notify>,
        tls: Option<Arc<ClientTls>>,
    ) -> anyhow::Result<Self> {
        let port = socket((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let client = Client::with_tls(service, &[format!("{scheme}://{address}")], Timeouts::default(), tls)?;
        Ok(Self {
            name: name.to_owned(),
            service,
            database_url,
            client,
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
        self.client.urls().first().cloned().unwrap_or_default()
    }

    pub(super) fn console_url(&self) -> Option<String> {
        match &*self.life.alive() {
            Some(Alive::Here { running: Some(running), .. }) => running.console_url(),
            _ => None,
        }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Opens new connections to the database, separate from those of the service.
    pub(super) async fn connect(&self) -> anyhow::Result<Db> {
        let options = db::Options { max_connections: 2, ..db::Options::default() };
        let db = Db::connect(&self.database_url, &options).await?;
        let silo = match self.service {
            Service::Control => Silo::Control,
            Service::Region => Silo::Region,
        };
        Ok(db.in_its_schema(silo).await?)
    }

    /// Connections that are opened once and then shared.
    pub(super) async fn shared_db(&self) -> anyhow::Result<Db> {
        Ok(self.db.get_or_try_init(|| self.connect()).await?.clone())
    }

    /// Closes the shared connections.
    pub(super) async fn close_db(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().await;
        }
    }

    /// Whether the service runs.
    pub(super) fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// Starts the service in this process, on its port. Does nothing if it runs.
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
        tokio::task::spawn_blocking(move || life.join_killers()).await?;
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

    /// Starts the service as a process and waits until it serves. Its log goes into a file.
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
                let asked =
                    HealthClient::new(self.client.channel()).check(HealthCheckRequest::default()).await;
                if asked.is_ok() {
                    return true;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
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

    /// Sends a signal to the process of the service.
    pub(super) fn signal(&self, signal: &str) -> anyhow::Result<()> {
        match &*self.life.alive() {
            Some(Alive::Process(child)) => ensure!(send(child, signal)?.success(), "{} is gone", self.name),
            _ => bail!("{} is not a process that runs", self.name),
        }
        Ok(())
    }

    /// Waits until the process of the service has ended, without ending it, and returns its exit status.
    pub(super) async fn ended(&self) -> anyhow::Result<ExitStatus> {
        let ended = async {
            loop {
                match &mut *self.life.alive() {
                    Some(Alive::Process(child)) => {
                        if let Some(status) = child.try_wait()? {
                            return anyhow::Ok(status);
                        }
                    }
                    _ => bail!("{} is not a process that runs", self.name),
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let ended = timeout(PATIENCE, ended).await;
        let status = ended.with_context(|| format!("{} has not ended in {PATIENCE:?}", self.name))??;
        self.life.alive().take();
        Ok(status)
    }

    /// Stops the service gracefully.
    pub(super) async fn stop(&self) {
        let _changing = self.changing.lock().await;
        let alive = self.life.alive().take();
        match alive {
            None => {}
            Some(Alive::Here { runtime, running }) => {
                // Whoever waits for the end may be gone before it, and a runtime must not be dropped in a task.
                let mut owned = InBackground(Some(runtime));
                let Some(runtime) = &owned.0 else { return };
                if let Some(running) = running {
                    // This runs on the service's own runtime. If the service ends by itself, it has stopped too.
                    let _stopped = runtime.spawn(running.stop()).await;
                }
                // Wait for the whole runtime, so that nothing listens on the port any more when the service starts
                // again. That blocks.
                let Some(runtime) = owned.0.take() else { return };
                let _gone = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(KILL_TIMEOUT)).await;
            }
            Some(Alive::Process(mut child)) => {
                let _gone_already = send(&child, "TERM");
                let ended = async {
                    while let Ok(None) = child.try_wait() {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                };
                if timeout(PATIENCE, ended).await.is_err() {
                    let _gone_already = child.kill();
                    let _reaped = child.wait();
                }
            }
        }
    }

    /// Kills the service and waits until it is gone.
    pub(super) async fn kill(&self) {
        let _changing = self.changing.lock().await;
        let life = Arc::clone(&self.life);
        let killing = tokio::task::spawn_blocking(move || {
            life.kill();
            life.join_killers();
        });
        // This fails if the test's own runtime ends, and the services with it.
        let _ended = killing.await;
    }
}

/// A runtime that, if it is dropped, ends without being waited for.
struct InBackground(Option<Runtime>);

impl Drop for InBackground {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
