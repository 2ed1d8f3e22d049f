//! Serving a control or a region over gRPC.
//!
//! Without [`Tls`] a port speaks plaintext. Which addresses that is allowed on is for the caller to decide.
//!
//! At start, the caller binds the port first, so that a port that is in use is noticed before any database is
//! touched; then the service opens and migrates its database; then it answers calls. At shutdown, health
//! reports `NOT_SERVING`, the port is closed, calls in flight and the current chunk get time to end, the
//! service stops, and connections that are still open are cut.

mod access;
mod audited;
mod calls;
mod certificates;
mod connection_limiter;
mod connections;
mod console;
mod health;
mod identities;
mod limits;
mod metrics;
pub mod open_files;
mod reflection;
#[cfg(test)]
mod tests;
mod traced;
mod transport;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use causeway_audit::Audit;
use causeway_client::ClientTls;
use causeway_control::Control;
use causeway_metrics::{Reading, Registry, Sample, http};
use causeway_region::Region;
use causeway_silo::{
    db::{DbError, PoolUse},
    env::Environment,
};
use futures::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, service::RoutesBuilder, transport::Server};
use tracing::{debug, info, warn};

use access::{Access, Owned, Owner, Owners};
use audited::Audited;
use calls::Calls;
use certificates::Certificates;
use console::RunningConsole;
use health::Health;
use identities::Identities;

pub use certificates::Tls;
pub use connection_limiter::Limits as ConnectionLimits;
pub use console::{ConsolePort, serve_control_with_console};
pub use http::Port as MetricsPort;
pub use limits::Limits as CallerLimits;

/// How long calls in flight get to end at shutdown, unless the caller sets another time with [`Running::stop_within`].
pub const SOFT_STOP: Duration = Duration::from_secs(10);

/// How long the peer of a silent connection may take to answer a ping. Without this, a peer on a dead machine would keep
/// its streams for ever.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The most calls in progress on one connection. A client with more waits, or opens another connection.
const MAX_STREAMS: u32 = 1_000;

/// What this module needs from a service to serve it.
trait ServedService: Send + Sync + 'static {
    /// The full names of its gRPC services, for health.
    const SERVICES: &'static [&'static str];

    /// Those of them that are of use only while control knows the silo. Health reports `NOT_SERVING` for them at other
    /// times.
    const NEED_REGISTRATION: &'static [&'static str] = &[];

    /// Whether control knows the silo, and changes of that. A silo that does not register is always known.
    fn registration(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    /// Adds its gRPC services. `insecure` if they are served without TLS where other machines can reach them.
    fn add_services(&self, routes: &mut RoutesBuilder, insecure: bool);

    /// Its audit log, if it has one.
    fn audit(&self) -> Option<&Audit> {
        None
    }

    /// Shows what it counts.
    fn register_metrics(&self, _registry: &mut Registry) {}

    /// What its metrics show without asking anybody.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }

    /// What its metrics show that is read when somebody scrapes.
    fn readings(&self) -> Vec<Arc<Reading>> {
        Vec::new()
    }

    /// The connections to its database.
    fn pool_use(&self) -> Vec<PoolUse> {
        Vec::new()
    }

    /// Whether its database answers.
    fn ping(&self) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Whether its database accepts writes. Fails with contention if others were writing for all of `patience`.
    fn check_writable(&self, patience: Duration) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Asks its background tasks to end. Calls are still answered meanwhile.
    fn begin_stop(&self) {}

    /// Ends its background tasks and closes its database.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}

impl ServedService for Control {
    const SERVICES: &'static [&'static str] = &Self::SERVICES;

    fn add_services(&self, routes: &mut RoutesBuilder, insecure: bool) {
        Self::add_services(self, routes, insecure);
    }

    fn audit(&self) -> Option<&Audit> {
        Some(Self::audit(self))
    }

    fn register_metrics(&self, registry: &mut Registry) {
        Self::register_metrics(self, registry);
    }

    fn samples(&self) -> Vec<Sample> {
        Self::samples(self)
    }

    fn readings(&self) -> Vec<Arc<Reading>> {
        Self::readings(self)
    }

    fn pool_use(&self) -> Vec<PoolUse> {
        Self::pool_use(self)
    }

    async fn ping(&self) -> Result<(), DbError> {
        Self::ping(self).await
    }

    async fn check_writable(&self, patience: Duration) -> Result<(), DbError> {
        Self::check_writable(self, patience).await
    }

    async fn stop(&self) {
        Self::stop(self).await;
    }
}

impl ServedService for Region {
    const SERVICES: &'static [&'static str] = &Self::SERVICES;
    const NEED_REGISTRATION: &'static [&'static str] = &Self::SERVICES_THAT_NEED_REGISTRATION;

    fn registration(&self) -> watch::Receiver<bool> {
        Self::registration(self)
    }

    fn begin_stop(&self) {
        Self::begin_stop(self);
    }

    fn add_services(&self, routes: &mut RoutesBuilder, insecure: bool) {
        Self::add_services(self, routes, insecure);
    }

    fn audit(&self) -> Option<&Audit> {
        Some(Self::audit(self))
    }

    fn register_metrics(&self, registry: &mut Registry) {
        Self::register_metrics(self, registry);
    }

    fn samples(&self) -> Vec<Sample> {
        Self::samples(self)
    }

    fn readings(&self) -> Vec<Arc<Reading>> {
        Self::readings(self)
    }

    fn pool_use(&self) -> Vec<PoolUse> {
        Self::pool_use(self)
    }

    async fn ping(&self) -> Result<(), DbError> {
        Self::ping(self).await
    }

    async fn check_writable(&self, patience: Duration) -> Result<(), DbError> {
        Self::check_writable(self, patience).await
    }

    async fn stop(&self) {
        Self::stop(self).await;
    }
}

impl Owners for Control {
    fn owner(self: Arc<Self>, of: Owned) -> BoxFuture<'static, Result<Owner, Status>> {
        Box::pin(async move {
            match of {
                Owned::Organization(id) => {
                    Ok(self.region_of_organization(id).await?.map_or(Owner::Absent, Owner::Named))
                }
                Owned::Import(_) => Ok(Owner::Absent),
            }
        })
    }
}

impl Owners for Region {
    fn owner(self: Arc<Self>, of: Owned) -> BoxFuture<'static, Result<Owner, Status>> {
        Box::pin(async move {
            match of {
                Owned::Import(id) => Ok(match self.import_begun_by(id).await? {
                    None => Owner::Absent,
                    Some(None) => Owner::Nobody,
                    Some(Some(uri)) => Owner::Named(uri),
                }),
                Owned::Organization(_) => Ok(Owner::Absent),
            }
        })
    }
}

/// How to serve a control or a region.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between two checks of the database.
    pub health_interval: Duration,
    /// How long the database may take to answer, and again as long to accept a write, before it counts as unusable.
    pub health_timeout: Duration,
    /// How long calls are still accepted at shutdown after health reports `NOT_SERVING`, so that load balancers notice
    /// first.
    pub drain: Duration,
    /// How long connections get to send their last bytes after the service has stopped, before they are cut.
    pub flush_timeout: Duration,
    /// Limits on open connections, in all and from each address.
    pub connections: ConnectionLimits,
    /// Limits on each caller with an identity.
    pub callers: CallerLimits,
    /// TLS. Without it, the port speaks plaintext.
    pub tls: Option<Tls>,
    /// Where metrics can be scraped, by plain HTTP; `None` for nowhere.
    pub metrics: Option<MetricsPort>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            health_interval: Duration::from_secs(3),
            health_timeout: Duration::from_secs(3),
            drain: Duration::ZERO,
            flush_timeout: Duration::from_secs(1),
            connections: ConnectionLimits::default(),
            callers: CallerLimits::default(),
            tls: None,
            metrics: None,
        }
    }
}

/// Starts a control service and answers calls on `listener`.
///
/// # Errors
/// If its database cannot be opened or migrated.
pub async fn serve_control(
    listener: TcpListener,
    options: causeway_control::Options,
    settings: Settings,
    env: Environment,
) -> anyhow::Result<Running> {
    let control = Control::start(options, env.clone()).await.context("control cannot start")?;
    serve_started_control(listener, control, settings, env).await
}

async fn serve_started_control(
    listener: TcpListener,
    control: Control,
    settings: Settings,
    env: Environment,
) -> anyhow::Result<Running> {
    serve(listener, Arc::new(control), Calls::new(None, env), None, settings).await
}

/// Starts a region service and answers calls on `listener`.
///
/// # Errors
/// If its database cannot be opened or migrated, or its spool directory cannot be used.
pub async fn serve_region(
    listener: TcpListener,
    options: causeway_region::Options,
    settings: Settings,
    env: Environment,
) -> anyhow::Result<Running> {
    let (name, control_tls) = (options.name.clone(), options.control_tls.clone());
    let region = Region::start(options, env.clone()).await.context("the region cannot start")?;
    serve(listener, Arc::new(region), Calls::new(Some(name), env), control_tls, settings).await
}

async fn serve<S: ServedService + Owners>(
    listener: TcpListener,
    silo: Arc<S>,
    calls: Calls,
    control_tls: Option<Arc<ClientTls>>,
    settings: Settings,
) -> anyhow::Result<Running> {
    let address = listener.local_addr().context("the port is not bound")?;
    let (health, health_service) = Health::new(S::SERVICES, S::NEED_REGISTRATION, settings.clone());
    let state = health.begin(silo.as_ref()).await;

    let mut routes = RoutesBuilder::default();
    silo.add_services(&mut routes, settings.tls.is_none() && !address.ip().is_loopback());
    routes.add_service(health_service);
    reflection::add(&mut routes, S::SERVICES)?;

    let tls = settings.tls.clone();
    let required = tls.as_ref().is_some_and(|tls| tls.identities().is_some());
    let access = Access::new(Arc::clone(&silo) as Arc<dyn Owners>).context("the contract is broken")?;
    let limits = limits::CallerLimits::new(settings.callers).context("the contract is broken")?;
    let closing = CancellationToken::new();
    let cut = CancellationToken::new();
    let server = tokio::spawn(
        Server::builder()
            .http2_keepalive_interval(Some(settings.connections.keepalive))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(Some(MAX_STREAMS))
            .layer(calls.clone())
            .layer(Identities { required })
            .layer(Audited(silo.audit().cloned()))
            .layer(limits)
            .layer(access)
            .add_routes(routes.routes())
            .serve_with_incoming_shutdown(
                connections::incoming(listener, settings.connections, tls.clone(), cut.clone()),
                closing.clone().cancelled_owned(),
            ),
    );

    let stopping = CancellationToken::new();
    let health_task = tokio::spawn({
        let (health, silo, stopping) = (health.clone(), Arc::clone(&silo), stopping.clone());
        async move { health.follow(silo.as_ref(), state, stopping).await }
    });

    let certificates = Certificates { server: tls, client: control_tls };
    let metrics_stop = CancellationToken::new();
    let metrics_address = settings.metrics.as_ref().map(|port| port.address);
    if let Some(port) = settings.metrics.clone() {
        let shown = metrics::exposition(Arc::clone(&silo), &calls, health.clone(), certificates.clone());
        let serving = port.serve(shown, http::Limits::default());
        tokio::spawn(metrics_stop.clone().run_until_cancelled_owned(serving));
    }
    tokio::spawn(stopping.clone().run_until_cancelled_owned(certificates.follow()));

    Ok(Running {
        address,
        metrics_address,
        metrics_stop: metrics_stop.drop_guard(),
        console: None,
        server: Some(server),
        health_task,
        health,
        calls,
        begin_stop: Box::new({
            let silo = Arc::clone(&silo);
            move || silo.begin_stop()
        }),
        stop_silo: Box::new(move || Box::pin(async move { silo.stop().await })),
        settings,
        stopping: stopping.drop_guard(),
        closing: closing.drop_guard(),
        cut: cut.drop_guard(),
    })
}

type Served = Result<(), tonic::transport::Error>;

/// A service that answers calls. If it is dropped without [`stop`](Running::stop), its port closes and its connections
/// are cut at once, as in a crash.
pub struct Running {
    /// The address that it listens on, with the actual port.
    pub address: SocketAddr,
    /// Where its metrics can be scraped, with the actual port; `None` for nowhere.
    pub metrics_address: Option<SocketAddr>,
    metrics_stop: DropGuard,
    console: Option<RunningConsole>,
    server: Option<JoinHandle<Served>>,
    health_task: JoinHandle<()>,
    health: Health,
    calls: Calls,
    begin_stop: Box<dyn FnOnce() + Send + Sync>,
    stop_silo: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + Sync>,
    settings: Settings,
    stopping: DropGuard,
    closing: DropGuard,
    cut: DropGuard,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Running {
    /// The address that it listens on, as a URL that begins with `https://` if it speaks TLS, else with `http://`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(self.address)
    }

    /// The URL of a port that speaks TLS if the service does.
    fn url_of(&self, address: SocketAddr) -> String {
        let scheme = if self.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    fn with_console(self, console: RunningConsole) -> Self {
        Self { console: Some(console), ..self }
    }

    /// The URL of its console, if it has one.
    #[must_use]
    pub fn console_url(&self) -> Option<String> {
        self.console.as_ref().map(|console| self.url_of(console.address))
    }

    /// Waits until the service ends by itself, which it never should, and returns why it did. It must still be stopped
    /// then. Cancel safe.
    pub async fn wait(&mut self) -> anyhow::Error {
        let Some(server) = self.server.as_mut() else { return anyhow!("the service has ended") };
        let ended = server.await;
        self.server = None;
        why_it_ended(ended)
    }

    /// Stops softly, and cuts what is not done after [`SOFT_STOP`].
    pub async fn stop(self) {
        self.stop_within(SOFT_STOP).await;
    }

    /// Stops softly: reports `NOT_SERVING`, waits for load balancers, closes the port, lets the calls in flight and the
    /// current chunk end, stops the service. Cuts what is not done after `soft`.
    pub async fn stop_within(self, soft: Duration) {
        let begun = Instant::now();
        let deadline = begun + soft;

        // Load balancers must know before the first call is refused.
        self.stopping.disarm().cancel();
        if let Err(error) = self.health_task.await {
            warn!(%error, "the health check has failed");
        }
        if !self.settings.drain.is_zero() {
            sleep_until(begun + self.settings.drain.min(soft)).await;
        }
        // First, so that whoever sees that the port is closed knows that nothing new is begun.
        (self.begin_stop)();
        self.closing.disarm().cancel();

        // A call that does not end must not use up the time that the service needs to stop: a quarter is
        // reserved for it.
        let for_calls = deadline - deadline.duration_since(Instant::now()) / 4;
        if let Some(console) = self.console {
            console.stop_at(for_calls).await;
        }
        if timeout_at(for_calls, self.calls.none_open()).await.is_err() {
            warn!(address = %self.address, open = self.calls.open(), "calls did not end in time and are cut");
        }
        // Metrics read the database, which is about to be closed.
        self.metrics_stop.disarm().cancel();
        if timeout_at(deadline, (self.stop_silo)()).await.is_err() {
            warn!(address = %self.address, "the service did not stop in time and is cut");
        }

        // Nothing can be answered any more. Only streams without an end of their own are left.
        self.health.end().await;
        if let Some(mut server) = self.server {
            let soft_end = timeout(self.settings.flush_timeout, &mut server).await;
            let ended = match soft_end {
                Ok(ended) => Some(ended),
                Err(_) => {
                    debug!(address = %self.address, "connections are cut");
                    self.cut.disarm().cancel();
                    timeout(self.settings.flush_timeout, &mut server).await.ok()
                }
            };
            match ended {
                Some(Ok(Ok(()))) => {}
                Some(ended) => warn!(error = %why_it_ended(ended), "the server did not end cleanly"),
                None => server.abort(),
            }
        }
        info!(address = %self.address, "stopped");
    }
}

fn why_it_ended(ended: Result<Served, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the service has stopped accepting connections"),
        Ok(Err(error)) => anyhow::Error::new(error).context("the service has failed"),
        Err(error) => anyhow::Error::new(error).context("the service has failed by a defect"),
    }
}
