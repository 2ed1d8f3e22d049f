//! Callers that reserve, rename and resolve, as long as the test lasts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use causeway_harness::cluster::{Cluster, ControlApi};
use causeway_proto::{
    control::v1::{
        LeaseIdsRequest, RegisterRegionRequest, RenameState, ResolveSlugRequest,
        UpdateOrganizationSlugRequest,
    },
    time,
};
use causeway_silo::env::Environment;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Status;

use crate::record::{PATIENCE, Record};

/// The regions that the callers play. Changes of one region wait for each other.
const REGIONS: usize = 8;
/// How long a caller waits for an answer before it asks another control: as long as a caller with `causeway-client`.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause after each organization, so that the machine is not busy with nothing but this.
const REST: Duration = Duration::from_millis(200);
/// Ids in a lease.
const LEASE: i32 = 50;

/// A new id of an operation.
fn new_id() -> String {
    Environment::system().uuid().to_string()
}

/// The region of a caller.
fn region(number: usize) -> String {
    format!("elsewhere-{}", number % REGIONS)
}

/// The callers.
pub(crate) struct Callers {
    tasks: Mutex<JoinSet<()>>,
    ends: Arc<AtomicBool>,
}

/// One of them.
struct Caller {
    cluster: Arc<Cluster>,
    record: Arc<Record>,
    ends: Arc<AtomicBool>,
    number: usize,
    region: String,
    next_control: AtomicUsize,
}

impl Callers {
    pub(crate) async fn start(cluster: &Arc<Cluster>, record: &Arc<Record>, count: usize) -> Self {
        for number in 0..REGIONS {
            let request = RegisterRegionRequest {
                name: region(number),
                address: format!("http://elsewhere-{number}.example.com"),
                instance_id: new_id(),
                ..RegisterRegionRequest::default()
            };
            cluster.control().regions().register_region(request).await.expect("it registers");
        }
        let (mut tasks, ends) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for number in 0..count {
            let caller = Caller {
                cluster: Arc::clone(cluster),
                record: Arc::clone(record),
                ends: Arc::clone(&ends),
                number,
                region: region(number),
                next_control: AtomicUsize::new(number),
            };
            tasks.spawn(caller.run());
        }
        Self { tasks: Mutex::new(tasks), ends }
    }

    /// Panics if a caller has.
    pub(crate) async fn check(&self) {
        if let Some(ended) = self.tasks.lock().await.try_join_next() {
            ended.expect("each answer is right");
            panic!("a caller has ended");
        }
    }

    pub(crate) async fn stop(self) {
        self.ends.store(true, Ordering::Relaxed);
        let mut tasks = self.tasks.into_inner();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("each answer is right");
        }
    }
}

impl Caller {
    async fn run(self) {
        let mut count = 0_usize;
        while !self.ends.load(Ordering::Relaxed) {
            let operation = new_id();
            let request = LeaseIdsRequest {
                region: self.region.clone(),
                operation_id: operation,
                model: "sentry.organization".to_owned(),
                count: LEASE,
                above: 0,
            };
            let lease = self.write("LeaseIds", |control| {
                let request = request.clone();
                async move { control.regions().lease_ids(request).await.map(tonic::Response::into_inner) }
            });
            let first = lease.await.first_id;
            self.record.leased(first, first + i64::from(LEASE) - 1);
            for id in first..first + i64::from(LEASE) {
                if self.ends.load(Ordering::Relaxed) {
                    return;
                }
                count += 1;
                self.organization(id, count).await;
                sleep(REST).await;
            }
        }
    }

    /// An organization gets a slug, and then another one. Whatever is answered must be found at once, at any control.
    async fn organization(&self, id: i64, count: usize) {
        let (operation, wanted) = (new_id(), format!("caller-{}-{count}", self.number));
        let given = self
            .write("BulkCreateOrganizationSlugReservations", |control| {
                let (region, operation, wanted) = (self.region.clone(), operation.clone(), wanted.clone());
                async move { control.reserve(&region, &operation, id, &wanted).await }
            })
            .await;
        self.write("ConfirmOrganizationSlugReservations", |control| {
            let (region, operation) = (self.region.clone(), operation.clone());
            async move { control.confirm(&region, &operation).await }
        })
        .await;
        self.record.has(&self.region, &given, id);
        self.resolves(&given, id).await;

        let operation = new_id();
        let request = UpdateOrganizationSlugRequest {
            organization_id: id,
            desired_slug: format!("renamed-{}-{count}", self.number),
            operation_id: operation.clone(),
            region: self.region.clone(),
            keep_alias: true,
            wait: Some(time::seconds(0)),
            ..UpdateOrganizationSlugRequest::default()
        };
        let rename = || {
            self.write("UpdateOrganizationSlug", |control| {
                let request = request.clone();
                async move {
                    let mut reservations = control.reservations();
                    reservations.update_organization_slug(request).await.map(tonic::Response::into_inner)
                }
            })
        };
        if rename().await.state() == RenameState::Pending {
            self.write("ConfirmOrganizationSlugReservations", |control| {
                let (region, operation) = (self.region.clone(), operation.clone());
                async move { control.confirm(&region, &operation).await }
            })
            .await;
        }
        let renamed = rename().await;
        assert_eq!(renamed.state(), RenameState::Confirmed, "{renamed:?}");
        self.record.has(&self.region, &renamed.slug, id);
        self.resolves(&renamed.slug, id).await;
        self.resolves(&given, id).await;
    }

    /// Resolves a slug that was answered before.
    async fn resolves(&self, slug: &str, id: i64) {
        let request = ResolveSlugRequest { slug: slug.to_owned() };
        let found = self
            .call("ResolveSlug", |control| {
                let request = request.clone();
                async move { control.directory().resolve_slug(request).await.map(tonic::Response::into_inner) }
            })
            .await;
        let found = found.organization.map(|organization| organization.organization_id);
        assert_eq!(found, Some(id), "{slug} was answered before");
        self.record.resolved();
    }

    async fn write<T, F>(&self, name: &str, call: impl Fn(ControlApi) -> F) -> T
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        let answer = self.call(name, call).await;
        self.record.wrote(begun);
        answer
    }

    /// Repeats a call until it is answered, at one control after the other.
    async fn call<T, F>(&self, name: &str, call: impl Fn(ControlApi) -> F) -> T
    where
        F: Future<Output = Result<T, Status>>,
    {
        let began = Instant::now();
        loop {
            let index = self.next_control.fetch_add(1, Ordering::Relaxed) % self.cluster.control_count();
            match timeout(ATTEMPT, call(self.cluster.control_number(index))).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(status)) => self.record.failed(name, &status),
                Err(_) => self.record.failed(name, &Status::deadline_exceeded("the caller waits no longer")),
            }
            assert!(began.elapsed() < PATIENCE, "{name} is not answered within {PATIENCE:?}");
            sleep(PAUSE).await;
        }
    }
}
