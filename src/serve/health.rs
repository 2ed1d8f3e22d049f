//! `grpc.health.v1`: a service is as healthy as its database, which must answer and take what is written.

use causeway_relocation::db::DbErrorKind;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthService, HealthServer},
    server::HealthReporter,
};
use tracing::{info, warn};

use super::{Settings, Silo};

/// What stands for the server as a whole.
const OVERALL: &str = "";

/// The health of one server. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    services: &'static [&'static str],
    settings: Settings,
}

impl Health {
    /// The health of `services`, and the gRPC service that tells it.
    pub(super) fn new(
        services: &'static [&'static str],
        settings: Settings,
    ) -> (Self, HealthServer<impl HealthService>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        (Self { reporter, services, settings }, service)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        [OVERALL].into_iter().chain(self.services.iter().copied())
    }

    async fn set(&self, status: ServingStatus) {
        for name in self.names() {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Whether the database answers now and can be written to; if not, why. `before` is what stands if others write all the
    /// time, so that nothing more can be said.
    async fn ask(&self, silo: &impl Silo, before: ServingStatus) -> Result<ServingStatus, String> {
        let limit = self.settings.health_timeout;
        match timeout(limit, silo.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("it does not answer: {error}")),
            Err(_) => return Err(format!("it does not answer within {limit:?}")),
        }
        match timeout(limit, silo.check_writable(limit / 2)).await {
            Ok(Ok(())) => Ok(ServingStatus::Serving),
            Ok(Err(error)) if error.kind() == DbErrorKind::Contention => Ok(before),
            Ok(Err(error)) => Err(format!("it cannot be written to: {error}")),
            Err(_) => Err(format!("it has not taken within {limit:?} what was written")),
        }
    }

    /// Asks the database for the first time, before anybody can ask for the health.
    pub(super) async fn begin(&self, silo: &impl Silo) -> ServingStatus {
        let status = self.ask(silo, ServingStatus::Serving).await.unwrap_or_else(|why| {
            warn!(why, "the database cannot be used; health is NOT_SERVING until it can");
            ServingStatus::NotServing
        });
        self.set(status).await;
        status
    }

    /// Follows the database from `status` on until `stopping`; then it is `NOT_SERVING`. Only a change is told: who
    /// watches would take every message for one.
    pub(super) async fn follow(
        &self,
        silo: &impl Silo,
        mut status: ServingStatus,
        stopping: CancellationToken,
    ) {
        let follow = async {
            loop {
                sleep(self.settings.health_interval).await;
                let asked = self.ask(silo, status).await;
                let now = asked.as_ref().map_or(ServingStatus::NotServing, |now| *now);
                if now == status {
                    continue;
                }
                match asked {
                    Ok(_) => info!("the database can be used again; health is SERVING"),
                    Err(why) => warn!(why, "the database cannot be used; health is NOT_SERVING until it can"),
                }
                self.set(now).await;
                status = now;
            }
        };
        stopping.run_until_cancelled_owned(follow).await;
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of all who watch, after they have got the last status.
    pub(super) async fn end(mut self) {
        for name in self.names() {
            self.reporter.clear_service_status(name).await;
        }
    }
}
