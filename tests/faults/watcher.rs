//! A reader of the feed of a region, as a router is one: it follows whatever happens, and holds what it hears against
//! what a feed promises.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::cluster::Cluster;
use causeway_proto::{
    control::v1::{
        FeedReservation, ReservationType, WatchSlugReservationsRequest, WatchSlugReservationsResponse,
        watch_slug_reservations_response::Part,
    },
    failure::reason_of,
    relocation::v1::ErrorReason,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::Status;

use crate::driver::{Controls, PATIENCE, PAUSE, insist, passes};

/// Reservations by slug: organization and type.
type Reservations = BTreeMap<String, (i64, ReservationType)>;

/// What a reader has.
#[derive(Debug, Default)]
struct Heard {
    version: i64,
    /// Control may have forgotten what comes behind that.
    may_be_forgotten: bool,
    reservations: Reservations,
    /// What a snapshot that is under way has told so far.
    snapshot: Reservations,
}

impl Heard {
    fn take(&mut self, message: WatchSlugReservationsResponse) -> anyhow::Result<()> {
        let current = message.current_version;
        match message.part.context("a message of nothing")? {
            Part::Heartbeat(_) => {}
            Part::Snapshot(part) => {
                ensure!(
                    self.version == 0 || (self.may_be_forgotten && self.version <= part.version),
                    "a snapshot of version {} for a reader who has {}",
                    part.version,
                    self.version
                );
                if part.first {
                    self.snapshot.clear();
                }
                for reservation in part.reservations {
                    apply(&mut self.snapshot, reservation);
                }
                if part.last {
                    (self.version, self.reservations) = (part.version, std::mem::take(&mut self.snapshot));
                }
            }
            Part::Events(events) => {
                ensure!(self.version > 0, "events for a reader who has nothing");
                for event in events.events {
                    ensure!(
                        event.version == self.version + 1,
                        "event {} follows version {}",
                        event.version,
                        self.version
                    );
                    self.version = event.version;
                    apply(&mut self.reservations, event.reservation.context("an event of nothing")?);
                }
            }
        }
        ensure!(self.version <= current, "the feed is at {current}, and its reader at {}", self.version);
        Ok(())
    }
}

fn apply(reservations: &mut Reservations, reservation: FeedReservation) {
    let kind = reservation.r#type();
    if kind == ReservationType::Unspecified {
        reservations.remove(&reservation.slug);
    } else {
        reservations.insert(reservation.slug, (reservation.organization_id, kind));
    }
}

/// A reader of one feed. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    region: usize,
    heard: Arc<Mutex<Heard>>,
    following: JoinHandle<anyhow::Result<()>>,
}

impl Watcher {
    /// Begins to follow the feed of a region, from its beginning.
    pub(crate) fn of(cluster: &Arc<Cluster>, region: usize, may_be_forgotten: bool) -> Self {
        let heard = Arc::new(Mutex::new(Heard { may_be_forgotten, ..Heard::default() }));
        let following = tokio::spawn(follow(Arc::clone(cluster), region, Arc::clone(&heard)));
        Self { region, heard, following }
    }

    /// Waits until it has heard all that control has, in a cluster in which nothing is under way.
    pub(crate) async fn has_heard_all(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let reservations =
            insist("all reservations", || async { cluster.control().all_reservations().await });
        let name = cluster.region_name(self.region);
        // Temporary ones are of imports that have failed, and in no feed.
        let all: Reservations = reservations
            .await?
            .into_iter()
            .filter(|it| it.region == name && it.r#type() != ReservationType::TemporaryRenameAlias)
            .map(|it| (it.slug.clone(), (it.organization_id, it.r#type())))
            .collect();
        let until = Instant::now() + PATIENCE;
        while lock(&self.heard).reservations != all {
            if self.following.is_finished() {
                (&mut self.following).await?.with_context(|| format!("the reader of the feed of {name}"))?;
            }
            if Instant::now() >= until {
                bail!("the reader of the feed of {name} has {:?}; control has {all:?}", lock(&self.heard));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ends it, and with it its part in the cluster.
    pub(crate) async fn end(mut self) {
        self.following.abort();
        let _aborted = (&mut self.following).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.following.abort();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(cluster: Arc<Cluster>, region: usize, heard: Arc<Mutex<Heard>>) -> anyhow::Result<()> {
    let controls = Controls::default();
    let request = |after_version| WatchSlugReservationsRequest {
        region: cluster.region_name(region).to_owned(),
        after_version,
    };
    loop {
        let version = lock(&heard).version;
        let mut client = controls.next(&cluster).reservations();
        let broken: Status = match client.watch_slug_reservations(request(version)).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => lock(&heard).take(message)?,
                        Ok(None) => bail!("a feed has ended without an error"),
                        Err(status) => break status,
                    }
                }
            }
        };
        // A region that has not come so far to register yet has no feed.
        let unknown = reason_of(&broken) == Some(ErrorReason::RegionNotRegistered);
        ensure!(unknown || passes(&broken), "a feed breaks off for good: {broken:?}");
        sleep(PAUSE).await;
    }
}
