//! `grpc.health.v1`: a service is healthy if its database answers and accepts writes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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

use super::{ServedService, Settings};

/// The service name that means the whole server.
const OVERALL: &str = "";

/// The health of one server. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    services: &'static [&'static str],
    /// Those that are of use only while control knows the silo; `NOT_SERVING` at other times.
    need_registration: &'static [&'static str],
    settings: Settings,
    /// Whether the database could be used at the last check.
    is_database_ready: Arc<AtomicBool>,
}

/// What decides the health of each service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    database: ServingStatus,
    is_registered: bool,
}

impl Health {
    /// The health of `services`, and the gRPC service that reports it.
    pub(super) fn new(
        services: &'static [&'static str],
        need_registration: &'static [&'static str],
        settings: Settings,
    ) -> (Self, HealthServer<impl HealthService>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        (Self { reporter, services, need_registration, settings, is_database_ready: Arc::default() }, service)
    }

    /// Whether the database could be used at the last check.
    pub(super) fn is_database_ready(&self) -> bool {
        self.is_database_ready.load(Ordering::Relaxed)
    }

    fn note(&self, database: ServingStatus) {
        self.is_database_ready.store(database == ServingStatus::Serving, Ordering::Relaxed);
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

    /// Publishes the health of each service that differs from its health at `before`, or of all without one. Watchers
    /// take every message for a change.
    async fn set(&self, state: State, before: Option<State>) {
        for name in self.names() {
            let status = self.status(name, state);
            if before.is_none_or(|before| self.status(name, before) != status) {
                self.reporter.set_service_status(name, status).await;
            }
        }
    }

    /// Whether the database answers and accepts writes now; if not, why. If others write all the time, the check learns
    /// nothing more and returns `before`.
    async fn ask(&self, silo: &impl ServedService, before: ServingStatus) -> Result<ServingStatus, String> {
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

    /// Checks the database for the first time, before anybody can ask for the health.
    pub(super) async fn begin(&self, silo: &impl ServedService) -> State {
        let database = self.ask(silo, ServingStatus::Serving).await.unwrap_or_else(|why| {
            warn!(why, "the database cannot be used; health is NOT_SERVING until it can");
            ServingStatus::NotServing
        });
        self.note(database);
        let state = State { database, is_registered: *silo.registration().borrow() };
        self.set(state, None).await;
        state
    }

    /// Follows the database and the registration, starting from `state`, until `stopping`; then everything is
    /// `NOT_SERVING`.
    pub(super) async fn follow(
        &self,
        silo: &impl ServedService,
        mut state: State,
        stopping: CancellationToken,
    ) {
        let mut registration = silo.registration();
        let mut next = Instant::now() + self.settings.health_interval;
        let follow = async {
            loop {
                let before = state;
                tokio::select! {
                    () = sleep_until(next) => {
                        state.database = self.check(silo, before.database).await;
                        self.note(state.database);
                        next = Instant::now() + self.settings.health_interval;
                    }
                    // An error means that there is nothing to follow; it disables this branch.
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

    /// Checks the database again, and logs if its health has changed.
    async fn check(&self, silo: &impl ServedService, before: ServingStatus) -> ServingStatus {
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

    /// Ends the streams of all watchers, after they have received the last status.
    pub(super) async fn end(mut self) {
        for name in self.names() {
            self.reporter.clear_service_status(name).await;
        }
    }
}

/// Waits until a value differs from `before`.
async fn changed(value: &mut watch::Receiver<bool>, before: bool) -> Result<bool, watch::error::RecvError> {
    value.wait_for(|now| *now != before).await.map(|now| *now)
}
