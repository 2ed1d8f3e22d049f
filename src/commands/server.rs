//! What `control` and `region` have in common: a port, a database, and an end.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use causeway::serve::Running;
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use super::{Outcome, signals::Signals};

#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// The database: postgres://USER:PASSWORD@HOST/NAME or sqlite:FILE
    #[arg(long, value_name = "URL", env = "CAUSEWAY_DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: String,
    /// Where others reach this service, if not at http://ADDR of --listen
    #[arg(long, value_name = "URL", env = "CAUSEWAY_ADVERTISE_URL", value_parser = super::target::http_url)]
    pub(super) advertise: Option<String>,
    /// How long calls in flight get at shutdown before they are cut
    #[arg(long, value_name = "SECONDS", default_value = "10", env = "CAUSEWAY_SHUTDOWN_TIMEOUT")]
    shutdown_timeout: u64,
}

/// A port that is bound, and where others reach it.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) listening: SocketAddr,
    pub(super) advertised: String,
}

impl ServerArgs {
    /// Binds the port.
    pub(super) async fn bind(&self, listen: SocketAddr) -> anyhow::Result<Port> {
        let cannot = || format!("cannot listen on {listen}");
        let listener = TcpListener::bind(listen).await.with_context(cannot)?;
        let listening = listener.local_addr().with_context(cannot)?;
        let advertised = self.advertise.clone().unwrap_or_else(|| format!("http://{listening}"));
        if self.advertise.is_none() && listening.ip().is_unspecified() {
            warn!(advertised, "nobody can reach this service at that address; say where with --advertise");
        }
        Ok(Port { listener, listening, advertised })
    }

    /// Serves until a signal comes or the service ends by itself. A second signal ends the process at once.
    pub(super) async fn serve(
        &self,
        start: impl Future<Output = anyhow::Result<Running>>,
    ) -> anyhow::Result<Outcome> {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let mut running = tokio::select! {
            running = start => running?,
            () = signals.next() => {
                info!("stopped before it had started");
                return Ok(Outcome::Done);
            }
        };
        info!(address = %running.address, "serving");
        let outcome = tokio::select! {
            error = running.wait() => {
                error!("{error:#}");
                Outcome::Failed
            }
            () = signals.next() => {
                info!(seconds = self.shutdown_timeout, "stopping; a second signal stops at once");
                Outcome::Done
            }
        };
        tokio::select! {
            () = running.stop_within(Duration::from_secs(self.shutdown_timeout)) => Ok(outcome),
            () = signals.next() => {
                warn!("stopped at once");
                Ok(Outcome::Failed)
            }
        }
    }
}
