//! What `control` and `region` have in common: a port, a database, and a shutdown.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use causeway::serve::{CallerLimits, ConnectionLimits, MetricsPort, Running, Settings, Tls, open_files};
use causeway_silo::db::{self, DatabaseUrl};
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use super::{keys, outcome::Outcome, signals::Signals, tls::ServerTlsArgs};
use crate::settings::{
    FileArgs,
    units::{self, Size},
};

#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    pub(super) tls: ServerTlsArgs,
    /// The database: postgres://USER:PASSWORD@HOST/NAME, with several hosts A:5432,B:5432, or sqlite:FILE. This or --database-url-file is needed
    #[arg(long, value_name = "URL", env = "CAUSEWAY_DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: Option<DatabaseUrl>,
    /// A file with the URL of the database and nothing else, so that its password is neither an argument nor a
    /// variable. It should be one that only the server's user can read, such as a credential of systemd
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_DATABASE_URL_FILE")]
    pub(super) database_url_file: Option<PathBuf>,
    /// The most connections to the database at once
    #[arg(
        long,
        value_name = "N",
        default_value = "10",
        value_parser = clap::value_parser!(u32).range(2..=1000),
        env = "CAUSEWAY_DATABASE_MAX_CONNECTIONS"
    )]
    database_max_connections: u32,
    /// How long to wait for a database connection before the database counts as unavailable
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_DATABASE_ACQUIRE_TIMEOUT"
    )]
    database_acquire_timeout: Duration,
    /// How long entries of the audit log are kept. Older ones are deleted, and the chain begins after them
    #[arg(
        long,
        value_name = "TIME",
        default_value = "400d",
        value_parser = units::retention,
        env = "CAUSEWAY_AUDIT_RETENTION"
    )]
    audit_retention: Duration,
    /// The most streams of WatchImport, WatchSlugReservations and WatchAllSlugReservations at once; a further one is
    /// refused. The feeds of regions do not count
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        env = "CAUSEWAY_MAX_WATCHES"
    )]
    max_watches: u32,
    /// The most connections of callers at once; a further one is closed at once. Lowered to what the process's limit on
    /// open files (ulimit -Hn) allows, less some files for its own use
    #[arg(
        long,
        value_name = "N",
        default_value = "2000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        env = "CAUSEWAY_MAX_CONNECTIONS"
    )]
    max_connections: u32,
    /// The most connections at once from one address; a further one is closed at once. Behind a proxy, all callers have
    /// one address
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        env = "CAUSEWAY_MAX_CONNECTIONS_PER_ADDRESS"
    )]
    max_connections_per_address: u32,
    /// The most calls in progress of one caller, as its certificate names it, for each kind of call: those that read,
    /// those that change something, and streams. A further one is refused, and clients of Causeway try again. This and
    /// the other limits of a caller apply only with --trust-domain
    #[arg(
        long,
        value_name = "N",
        default_value = "200",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        env = "CAUSEWAY_MAX_CALLS_PER_CALLER"
    )]
    max_calls_per_caller: u32,
    /// The most calls of each kind that one caller may begin in a second
    #[arg(long, value_name = "N", default_value = "5000", env = "CAUSEWAY_MAX_CALL_RATE")]
    max_call_rate: NonZeroU32,
    /// The most calls of FindRows and CheckSlugs, which reveal what exists, that one caller may begin in a second
    #[arg(long, value_name = "N", default_value = "20", env = "CAUSEWAY_MAX_QUESTION_RATE")]
    max_question_rate: NonZeroU32,
    /// The most uploads and bulk creations in progress of one caller
    #[arg(
        long,
        value_name = "N",
        default_value = "4",
        value_parser = clap::value_parser!(u32).range(1..=10_000),
        env = "CAUSEWAY_MAX_UPLOADS_PER_CALLER"
    )]
    max_uploads_per_caller: u32,
    /// The most bytes of requests in progress of one caller, for each kind of call. Uploads and bulk creations have
    /// limits of their own
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = units::size(4 << 20, 1 << 40),
        env = "CAUSEWAY_MAX_BYTES_PER_CALLER"
    )]
    max_bytes_per_caller: Size,
    /// How long a connection may have no call before it is closed; it may take up to twice as long
    #[arg(
        long,
        value_name = "TIME",
        default_value = "15m",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_CONNECTION_IDLE_TIMEOUT"
    )]
    connection_idle_timeout: Duration,
    /// The URL at which others reach this service [default: http://ADDR of --listen, with TLS https://ADDR]
    #[arg(long, value_name = "URL", env = "CAUSEWAY_ADVERTISE_URL", value_parser = super::target::service_url)]
    pub(super) advertise: Option<String>,
    /// The address at which metrics can be scraped, at http://ADDR/metrics; port 0 takes a free port. It is plain HTTP
    /// for everybody who reaches it, so any address but loopback needs --insecure. Without this, there are no metrics
    #[arg(long, value_name = "ADDR", env = "CAUSEWAY_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// How often to check the database
    #[arg(
        long,
        value_name = "TIME",
        default_value = "3s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_HEALTH_INTERVAL"
    )]
    health_interval: Duration,
    /// How long the database may take to answer, and to accept a small write, before health reports NOT_SERVING
    #[arg(
        long,
        value_name = "TIME",
        default_value = "3s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_HEALTH_TIMEOUT"
    )]
    health_timeout: Duration,
    /// How long to accept calls at shutdown after health reports NOT_SERVING, so that load balancers notice first
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        value_parser = units::duration,
        env = "CAUSEWAY_SHUTDOWN_DRAIN"
    )]
    shutdown_drain: Duration,
    /// How long calls and the current chunk may take to end at shutdown before they are cut. --shutdown-drain is part
    /// of it
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = units::duration,
        env = "CAUSEWAY_SHUTDOWN_TIMEOUT"
    )]
    shutdown_timeout: Duration,
}

/// A bound port, and the URL at which others reach it.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) advertised: String,
}

impl ServerArgs {
    /// Checks the database URL, and settings against each other. A file with a secret is read only if `reads_files`: a
    /// server that starts reads it once.
    pub(super) fn check(&self, listen: SocketAddr, reads_files: bool) -> anyhow::Result<()> {
        self.tls.check(listen)?;
        if let Some(address) = self.metrics_listen
            && !address.ip().is_loopback()
            && !self.tls.is_insecure()
        {
            bail!(
                "{address} of --metrics-listen can be reached from other machines, and metrics are shown to everybody \
                 without TLS: listen on loopback, or give --insecure to let whoever reaches the port read them"
            );
        }
        if reads_files || self.database_url_file.is_none() || self.database_url.is_some() {
            self.database_url()?;
        }
        if self.shutdown_drain > self.shutdown_timeout {
            bail!(
                "--shutdown-drain ({:?}) is part of --shutdown-timeout ({:?}) and cannot be longer",
                self.shutdown_drain,
                self.shutdown_timeout
            );
        }
        Ok(())
    }

    /// The URL of the database, from the option or the file.
    ///
    /// # Errors
    /// If there is none or there are two, the file cannot be read, or what is there is no URL of a database.
    pub(super) fn database_url(&self) -> anyhow::Result<DatabaseUrl> {
        database_url(OPTIONS, self.database_url.as_ref(), self.database_url_file.as_deref())?
            .with_context(no_database)
    }

    /// How many watches may be open at once.
    pub(super) fn max_watches(&self) -> anyhow::Result<usize> {
        usize::try_from(self.max_watches).context("--max-watches")
    }

    /// The options of the audit log.
    pub(super) fn audit(&self) -> causeway_audit::Options {
        causeway_audit::Options { retention: self.audit_retention }
    }

    /// The options of the database connections.
    pub(super) fn database(&self) -> db::Options {
        db::Options {
            max_connections: self.database_max_connections,
            acquire_timeout: self.database_acquire_timeout,
            statement_timeout: None,
        }
    }

    /// Listens on the port for metrics, if there is to be one.
    pub(super) async fn metrics_port(&self) -> anyhow::Result<Option<MetricsPort>> {
        let Some(address) = self.metrics_listen else { return Ok(None) };
        let port = MetricsPort::bind(address).await;
        let port = port.with_context(|| format!("cannot listen on {address} (--metrics-listen)"))?;
        if !address.ip().is_loopback() {
            warn!(%address, "--insecure: whoever reaches the port of --metrics-listen can read the metrics");
        }
        Ok(Some(port))
    }

    /// The settings for serving. Raises the process's limit on open files.
    pub(super) fn settings(&self, tls: Option<Tls>) -> Settings {
        Settings {
            tls,
            health_interval: self.health_interval,
            health_timeout: self.health_timeout,
            drain: self.shutdown_drain,
            connections: ConnectionLimits {
                open: open_files::connections(
                    usize::try_from(self.max_connections).unwrap_or(usize::MAX),
                    open_files::raise(),
                    self.database_max_connections,
                ),
                from_address: usize::try_from(self.max_connections_per_address).unwrap_or(usize::MAX),
                idle: self.connection_idle_timeout,
                ..ConnectionLimits::default()
            },
            callers: CallerLimits {
                calls: self.max_calls_per_caller,
                rate: self.max_call_rate,
                questions: self.max_question_rate,
                uploads: self.max_uploads_per_caller,
                bytes: self.max_bytes_per_caller.0,
                ..CallerLimits::default()
            },
            ..Settings::default()
        }
    }

    /// Listens on the port, and decides at which URL the service says that it can be reached.
    pub(super) async fn bind(&self, listen: SocketAddr) -> anyhow::Result<Port> {
        let cannot = || format!("cannot listen on {listen}");
        let listener = TcpListener::bind(listen).await.with_context(cannot)?;
        let listening = listener.local_addr().with_context(cannot)?;
        let scheme = if self.tls.is_tls() { "https" } else { "http" };
        let advertised = self.advertise.clone().unwrap_or_else(|| format!("{scheme}://{listening}"));
        if self.advertise.is_none() && listening.ip().is_unspecified() {
            warn!(advertised, "others cannot reach this service at that address; set --advertise");
        }
        Ok(Port { listener, advertised })
    }

    /// Serves until a signal comes or the service ends by itself. A second signal ends the process at once.
    pub(super) async fn serve(
        &self,
        start: impl Future<Output = anyhow::Result<Running>>,
    ) -> anyhow::Result<Outcome> {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let mut running = tokio::select! {
            running = start => running?,
            _ = signals.next() => {
                info!("stopped before it had started");
                return Ok(Outcome::Done);
            }
        };
        if let Some(address) = running.metrics_address {
            info!("metrics can be scraped at http://{address}{}", causeway_metrics::http::PATH);
        }
        if let Some(console) = running.console_url() {
            info!(url = console, "the console is served");
        }
        info!(address = %running.address, "serving");
        let outcome = tokio::select! {
            error = running.wait() => {
                error!("{error:#}");
                Outcome::Failed
            }
            _ = signals.next() => {
                info!(within = ?self.shutdown_timeout, "stopping; a second signal stops at once");
                Outcome::Done
            }
        };
        tokio::select! {
            () = running.stop_within(self.shutdown_timeout) => Ok(outcome),
            _ = signals.next() => {
                warn!("stopped at once");
                Ok(Outcome::Cut)
            }
        }
    }
}

/// The options that give the URL of a database: itself, and in a file.
type UrlOptions = (&'static str, &'static str);

/// Those of the database of a service.
pub(super) const OPTIONS: UrlOptions = ("--database-url", "--database-url-file");

/// Why a service without a database cannot start.
pub(super) fn no_database() -> String {
    format!("the database is missing: give {} or {}", OPTIONS.0, OPTIONS.1)
}

/// The URL of a database, from one of its two options. `None` without any.
///
/// # Errors
/// If there are two, the file cannot be read, or what is there is no URL of a database.
pub(super) fn database_url(
    (option, option_of_file): UrlOptions,
    url: Option<&DatabaseUrl>,
    file: Option<&Path>,
) -> anyhow::Result<Option<DatabaseUrl>> {
    let (url, from) = match (url, file) {
        (Some(url), None) => (url.clone(), option),
        (None, Some(file)) => (keys::secret(file)?.trim().into(), option_of_file),
        (Some(_), Some(_)) => bail!("give {option} or {option_of_file}, not both"),
        (None, None) => return Ok(None),
    };
    db::check_url(url.secret()).context(from)?;
    Ok(Some(url))
}
