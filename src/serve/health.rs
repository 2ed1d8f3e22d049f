//! `grpc.health.v1`: a service is as healthy as its database, which must answer and take what is written.

use causeway_silo::db::DbErrorKind;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
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
    /// Those that are of use only while control knows the silo.
    need_registration: &'static [&'static str],
    settings: Settings,
}

/// What the health of all services follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    database: ServingStatus,
    is_registered: bool,
}

impl Health {
    /// The health of `services`, and the gRPC service that tells it.
    pub(super) fn new(
        services: &'static [&'static str],
        need_registration: &'static [&'static str],
        settings: Settings,
    ) -> (Self, HealthServer<impl HealthService>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        (Self { reporter, services, need_registration, settings }, service)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        [OVERALL].into_iter().chain(self.services.iter().copied())
    }

    fn status(&self, name: &str, state: State) -> ServingStatus {
        if !state.is_registered && self.need_registration.contains(&name) {
            return ServingStatus::NotServing;
        }
        state.database
    }

    /// Tells the health of each service that is another one than `before`: who watches would take every message for a
    /// change.
    async fn set(&self, state: State, before: Option<State>) {
        for name in self.names() {
            let status = self.status(name, state);
            if before.is_none_or(|before| self.status(name, before) != status) {
                self.reporter.set_service_status(name, status).await;
            }
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
    pub(super) async fn begin(&self, silo: &impl Silo) -> State {
        let database = self.ask(silo, ServingStatus::Serving).await.unwrap_or_else(|why| {
            warn!(why, "the database cannot be used; health is NOT_SERVING until it can");
            ServingStatus::NotServing
        });
        let state = State { database, is_registered: *silo.registration().borrow() };
        self.set(state, None).await;
        state
    }

    /// Follows the database and the registration from `state` on until `stopping`; then it is `NOT_SERVING`.
    pub(super) async fn follow(&self, silo: &impl Silo, mut state: State, stopping: CancellationToken) {
        let mut registration = silo.registration();
        let mut next = Instant::now() + self.settings.health_interval;
        let follow = async {
            loop {
                let before = state;
                tokio::select! {
                    () = sleep_until(next) => {
                        state.database = self.look(silo, before.database).await;
                        next = Instant::now() + self.settings.health_interval;
                    }
                    // It fails if there is nothing to follow.
                    Ok(now) = changed(&mut registration, before.is_registered) => {
                        state.is_registered = now;
                    }
                }
                self.set(state, Some(before)).await;
            }
        };
        stopping.run_until_cancelled_owned(follow).await;
        let stopped = State { database: ServingStatus::NotServing, is_registered: false };
        self.set(stopped, None).await;
    }

    /// Asks the database again, and says in the log if its health has changed.
    async fn look(&self, silo: &impl Silo, before: ServingStatus) -> ServingStatus {
        let asked = self.ask(silo, before).await;
        let now = asked.as_ref().map_or(ServingStatus::NotServing, |now| *now);
        if now != before {
            match asked {
                Ok(_) => info!("the database can be used again; health is SERVING"),
                Err(why) => warn!(why, "the database cannot be used; health is NOT_SERVING until it can"),
            }
        }
        now
    }

    /// Ends the streams of all who watch, after they have got the last status.
    pub(super) async fn end(mut self) {
        for name in self.names() {
            self.reporter.clear_service_status(name).await;
        }
    }
}

/// Waits until a value is another one than `before`.
async fn changed(value: &mut watch::Receiver<bool>, before: bool) -> Result<bool, watch::error::RecvError> {
    value.wait_for(|now| *now != before).await.map(|now| *now)
}
