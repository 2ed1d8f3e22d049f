//! `grpc.health.v1`: a service is as healthy as its database.

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

    /// Whether the database answers now.
    async fn ask(&self, silo: &impl Silo) -> ServingStatus {
        match timeout(self.settings.health_timeout, silo.ping()).await {
            Ok(Ok(())) => ServingStatus::Serving,
            Ok(Err(_)) | Err(_) => ServingStatus::NotServing,
        }
    }

    /// Asks the database for the first time, before anybody can ask for the health.
    pub(super) async fn begin(&self, silo: &impl Silo) -> ServingStatus {
        let status = self.ask(silo).await;
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
                let now = self.ask(silo).await;
                if now == status {
                    continue;
                }
                match now {
                    ServingStatus::Serving => info!("the database answers again"),
                    _ => warn!("the database does not answer"),
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
