//! A reader of the feed of one region, such as a router. It follows the feed whatever happens, goes back now and then
//! to what it had before or to nothing, and compares what it receives with what a feed promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::cluster::{Cluster, Trace};
use causeway_proto::{
    control::v1::{
        FeedReservation, ReservationType, WatchSlugReservationsRequest, WatchSlugReservationsResponse,
        feed_event::Change, watch_slug_reservations_response::Part,
    },
    failure::reason_of,
    relocation::v1::ErrorReason,
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::Status;

use crate::{
    driver::{Controls, PATIENCE, PAUSE, passes, retry_until_ok},
    scenario::SeededRng,
};

/// After how many of 100 messages a reader goes back, and how often at most.
const GOES_BACK: usize = 15;
const TIMES: usize = 5;
/// The most events of one message that it notes in the trace.
const MOST_REPORTED: usize = 12;
/// How many earlier states a reader keeps.
const PASTS: usize = 12;

/// Reservations by slug: organization, type, and the canonical slug of the organization.
pub(crate) type BySlug = BTreeMap<String, (i64, ReservationType, String)>;

/// Reservations, with an index from organizations to their slugs.
#[derive(Debug, Clone, Default)]
struct Reservations {
    by_slug: BySlug,
    of_organizations: BTreeMap<i64, BTreeSet<String>>,
}

impl Reservations {
    fn remove(&mut self, slug: &str) {
        if let Some((id, ..)) = self.by_slug.remove(slug)
            && let Some(slugs) = self.of_organizations.get_mut(&id)
        {
            slugs.remove(slug);
        }
    }

    fn apply(&mut self, reservation: FeedReservation) {
        let (id, kind) = (reservation.organization_id, reservation.r#type());
        self.remove(&reservation.slug);
        let slugs = self.of_organizations.entry(id).or_default();
        if kind == ReservationType::Primary {
            // From now on, the other slugs of the organization lead to this one, without events of their own.
            for slug in slugs.iter() {
                if let Some(held) = self.by_slug.get_mut(slug) {
                    held.2.clone_from(&reservation.slug);
                }
            }
        }
        slugs.insert(reservation.slug.clone());
        self.by_slug.insert(reservation.slug, (id, kind, reservation.canonical_slug));
    }
}

/// What a reader has received of one feed.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    version: i64,
    /// Control may have deleted the events after this version.
    may_be_forgotten: bool,
    reservations: Reservations,
    /// What the snapshot in progress has sent so far. `None` outside a snapshot.
    snapshot: Option<Reservations>,
    /// What the reader had after each message, by version.
    pasts: Vec<(i64, Reservations)>,
    /// The test has reset what the reader has, so the rest of its current stream is void.
    is_left: bool,
}

impl Heard {
    pub(crate) fn new(may_be_forgotten: bool) -> Self {
        Self { may_be_forgotten, ..Self::default() }
    }

    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    /// The reservations that it has. `None` if it has received nothing.
    pub(crate) fn has(&self) -> Option<&BySlug> {
        (self.version > 0).then_some(&self.reservations.by_slug)
    }

    /// Whether a snapshot has begun but not ended.
    pub(crate) fn is_in_a_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Starts another stream. An unfinished snapshot is void.
    pub(crate) fn begin(&mut self) {
        self.snapshot = None;
    }

    /// Applies a message and describes it for the trace.
    pub(crate) fn take(&mut self, part: Part, current: i64) -> anyhow::Result<String> {
        let mut text = String::new();
        match part {
            Part::Heartbeat(_) => {}
            Part::Snapshot(part) => {
                ensure!(
                    self.version == 0 || (self.may_be_forgotten && self.version <= part.version),
                    "a snapshot of version {} for a reader who has {}",
                    part.version,
                    self.version
                );
                ensure!(
                    part.first != self.is_in_a_snapshot(),
                    "a part of a snapshot (the first: {}) is not in its place",
                    part.first
                );
                let snapshot = self.snapshot.get_or_insert_default();
                let _never = write!(text, "snapshot {}: {} slugs", part.version, part.reservations.len());
                for reservation in part.reservations {
                    is_of_a_type(&reservation)?;
                    let twice = snapshot.by_slug.contains_key(&reservation.slug);
                    ensure!(!twice, "a snapshot has `{}` twice", reservation.slug);
                    snapshot.apply(reservation);
                }
                if part.last {
                    (self.version, self.reservations) =
                        (part.version, self.snapshot.take().unwrap_or_default());
                    self.remember();
                }
            }
            Part::Events(events) => {
                ensure!(self.version > 0, "events for a reader who has nothing");
                ensure!(!self.is_in_a_snapshot(), "events in the middle of a snapshot");
                let count = events.events.len();
                for (number, event) in events.events.into_iter().enumerate() {
                    ensure!(
                        event.version == self.version + 1,
                        "event {} follows version {}",
                        event.version,
                        self.version
                    );
                    self.version = event.version;
                    let change = event.change.context("an event of nothing")?;
                    if number < MOST_REPORTED {
                        describe(&mut text, event.version, &change);
                    }
                    match change {
                        Change::Reservation(reservation) => {
                            is_of_a_type(&reservation)?;
                            self.reservations.apply(reservation);
                        }
                        Change::Removed(removed) => self.reservations.remove(&removed.slug),
                    }
                }
                if count > MOST_REPORTED {
                    let _never = write!(text, " and {} events more", count - MOST_REPORTED);
                }
                self.remember();
            }
        }
        ensure!(self.version <= current, "the feed is at {current}, and its reader at {}", self.version);
        Ok(text)
    }

    fn remember(&mut self) {
        if self.pasts.len() < PASTS {
            self.pasts.push((self.version, self.reservations.clone()));
        }
    }

    /// Goes back to nothing, to an earlier state, or nowhere, as if the reader had been away.
    pub(crate) fn go_back(&mut self, rng: &SeededRng) {
        self.begin();
        match rng.below(3) {
            0 => self.forget(),
            1 if !self.pasts.is_empty() => (self.version, self.reservations) = rng.of(&self.pasts),
            _ => {}
        }
    }

    /// Goes back to nothing.
    pub(crate) fn forget(&mut self) {
        self.begin();
        (self.version, self.reservations) = (0, Reservations::default());
    }
}

fn is_of_a_type(reservation: &FeedReservation) -> anyhow::Result<()> {
    ensure!(
        reservation.r#type() != ReservationType::Unspecified,
        "a reservation of no type: {reservation:?}"
    );
    Ok(())
}

/// Describes an event for the trace.
fn describe(text: &mut String, version: i64, change: &Change) {
    let reservation = match change {
        Change::Reservation(reservation) => reservation,
        Change::Removed(removed) => {
            let _never = write!(
                text,
                " {version}: `{}` free (of organization {})",
                removed.slug, removed.organization_id
            );
            return;
        }
    };
    let FeedReservation { slug, organization_id, canonical_slug, wanted, .. } = reservation;
    let kind = match reservation.r#type() {
        ReservationType::Unspecified => "of no type",
        ReservationType::Primary => "primary",
        ReservationType::TemporaryRenameAlias => "temporary",
        ReservationType::VanityAlias => "alias",
    };
    let wanted = if *wanted { ", wanted" } else { "" };
    let _never = write!(
        text,
        " {version}: `{slug}` {kind} (organization {organization_id} known as `{canonical_slug}`{wanted})"
    );
}

/// All reservations of control, by region. Leaves out temporary ones: they belong to failed imports and are in no feed.
pub(crate) async fn all_by_region(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, BySlug>> {
    let all =
        retry_until_ok(cluster, "all reservations", || async { cluster.control().all_reservations().await });
    let mut all = all.await?;
    all.retain(|it| it.r#type() != ReservationType::TemporaryRenameAlias);
    let primary = all.iter().filter(|it| it.r#type() == ReservationType::Primary);
    let known: BTreeMap<(&str, i64), &str> =
        primary.map(|it| ((it.region.as_str(), it.organization_id), it.slug.as_str())).collect();
    let mut by_region = BTreeMap::<String, BySlug>::new();
    for it in &all {
        let known = known.get(&(it.region.as_str(), it.organization_id)).copied().unwrap_or_default();
        let held = (it.organization_id, it.r#type(), known.to_owned());
        by_region.entry(it.region.clone()).or_default().insert(it.slug.clone(), held);
    }
    Ok(by_region)
}

/// A task that reads one feed. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    region: String,
    heard: Arc<Mutex<Heard>>,
    restart: Arc<Notify>,
    following: JoinHandle<anyhow::Result<()>>,
}

impl Watcher {
    /// Starts to follow the feed of a region, from its beginning.
    pub(crate) fn of(cluster: &Arc<Cluster>, region: &str, may_be_forgotten: bool, rng: SeededRng) -> Self {
        let heard = Arc::new(Mutex::new(Heard::new(may_be_forgotten)));
        let restart = Arc::new(Notify::new());
        let reader = Reader {
            cluster: Arc::clone(cluster),
            region: region.to_owned(),
            heard: Arc::clone(&heard),
            restart: Arc::clone(&restart),
            rng,
            times: TIMES,
        };
        Self { region: region.to_owned(), heard, restart, following: tokio::spawn(reader.follow()) }
    }

    /// Waits until the reader has received everything that control has, in a cluster in which nothing is in progress:
    /// first by the messages received so far, and then once more from nothing.
    pub(crate) async fn has_heard_all(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let held = all_by_region(cluster).await?.remove(&self.region).unwrap_or_default();
        self.has_heard(cluster, &held).await?;
        {
            let mut heard = lock(&self.heard);
            heard.forget();
            heard.is_left = true;
        }
        self.restart.notify_one();
        self.has_heard(cluster, &held).await.context("a reader who begins from nothing")
    }

    async fn has_heard(&mut self, cluster: &Cluster, held: &BySlug) -> anyhow::Result<()> {
        let _wait = cluster.trace().wait(format!("what the reader of the feed of {} hears", self.region));
        let until = Instant::now() + PATIENCE;
        loop {
            {
                let heard = lock(&self.heard);
                if heard.has() == Some(held) {
                    return Ok(());
                }
                if Instant::now() >= until {
                    let (name, has) = (&self.region, heard.has());
                    bail!("the reader of the feed of {name} has {has:?}; control has {held:?}");
                }
            }
            if self.following.is_finished() {
                bail!("{:#}", self.has_ended().await);
            }
            sleep(PAUSE).await;
        }
    }

    /// Returns when the feed was wrong, and never otherwise.
    pub(crate) async fn has_ended(&mut self) -> anyhow::Error {
        let ended = match (&mut self.following).await {
            Ok(Ok(())) => anyhow::anyhow!("it has ended"),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        };
        ended.context(format!("the reader of the feed of {}", self.region))
    }

    /// Stops the reader, so that it no longer uses the cluster.
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

pub(crate) fn lock<T>(heard: &Mutex<T>) -> MutexGuard<'_, T> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that follows a feed.
struct Reader {
    cluster: Arc<Cluster>,
    region: String,
    heard: Arc<Mutex<Heard>>,
    restart: Arc<Notify>,
    rng: SeededRng,
    /// How often it may still go back.
    times: usize,
}

impl Reader {
    fn trace(&self) -> &Trace {
        self.cluster.trace()
    }

    async fn follow(mut self) -> anyhow::Result<()> {
        let controls = Controls::default();
        loop {
            let version = {
                let mut heard = lock(&self.heard);
                heard.begin();
                heard.is_left = false;
                heard.version()
            };
            let mut client = controls.next(&self.cluster).reservations();
            let request = WatchSlugReservationsRequest {
                region: self.region.clone(),
                after_version: version,
                ..Default::default()
            };
            let broken: Option<Status> = match client.watch_slug_reservations(request).await {
                Err(status) => Some(status),
                Ok(stream) => self.read(stream.into_inner()).await?,
            };
            let Some(broken) = broken else { continue };
            // A region that has not registered yet has no feed.
            let unknown = reason_of(&broken) == Some(ErrorReason::RegionNotRegistered);
            ensure!(unknown || passes(&broken), "a feed breaks off for good: {broken:?}");
            sleep(PAUSE).await;
        }
    }

    /// Reads a stream until it breaks, or the reader leaves it.
    async fn read(
        &mut self,
        mut stream: tonic::Streaming<WatchSlugReservationsResponse>,
    ) -> anyhow::Result<Option<Status>> {
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.restart.notified() => return Ok(None),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => bail!("a feed has ended without an error"),
                Err(status) => return Ok(Some(status)),
            };
            let part = message.part.context("a message of nothing")?;
            let text = {
                let mut heard = lock(&self.heard);
                if heard.is_left {
                    return Ok(None);
                }
                heard.take(part, message.current_version)?
            };
            if text.is_empty() {
                continue;
            }
            self.trace().note(format!("feed of {}: {text}", self.region));
            if self.times > 0 && self.rng.chance(GOES_BACK) {
                self.times -= 1;
                let mut heard = lock(&self.heard);
                heard.go_back(&self.rng);
                self.trace()
                    .note(format!("the reader of {} goes back to version {}", self.region, heard.version));
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::{FeedEvent, FeedEvents, FeedSnapshot};

    use super::*;

    fn primary(slug: &str) -> FeedReservation {
        FeedReservation {
            slug: slug.to_owned(),
            organization_id: 1,
            r#type: ReservationType::Primary.into(),
            canonical_slug: slug.to_owned(),
            ..FeedReservation::default()
        }
    }

    fn snapshot(version: i64, slugs: &[&str]) -> (Part, i64) {
        part_of_snapshot(version, slugs, true, true)
    }

    fn part_of_snapshot(version: i64, slugs: &[&str], first: bool, last: bool) -> (Part, i64) {
        let reservations = slugs.iter().map(|slug| primary(slug)).collect();
        (Part::Snapshot(FeedSnapshot { version, reservations, first, last }), version)
    }

    fn event(version: i64) -> (Part, i64) {
        let events = vec![FeedEvent { version, change: Some(Change::Reservation(primary("b"))) }];
        (Part::Events(FeedEvents { events }), version)
    }

    #[test]
    fn a_feed_that_breaks_its_promises_is_noticed() {
        let mut heard = Heard::default();
        let mut take = |(part, current)| heard.take(part, current);
        take(event(1)).expect_err("it has nothing yet");
        take(part_of_snapshot(3, &["a"], false, true)).expect_err("it does not begin with the middle");
        take(part_of_snapshot(3, &["a"], true, false)).expect("the first part");
        take(event(1)).expect_err("the other parts follow at once");
        take(part_of_snapshot(3, &["c"], true, true)).expect_err("the first part twice");
        take(part_of_snapshot(3, &["a"], false, true)).expect_err("twice");
        heard.begin();
        let mut take = |(part, current)| heard.take(part, current);
        take(snapshot(3, &["a"])).expect("a snapshot");
        take(snapshot(4, &["a"])).expect_err("it needs none");
        heard.begin();
        let mut take = |(part, current)| heard.take(part, current);
        take(event(5)).expect_err("a gap");
        take(event(3)).expect_err("again");
        let text = take(event(4)).expect("it follows");
        assert_eq!(text, " 4: `b` primary (organization 1 known as `b`)");
        take((event(5).0, 3)).expect_err("behind its own events");
        assert_eq!(heard.pasts.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [3, 4, 5]);
        // The earlier slug of the organization now leads to the new one.
        let has = heard.has().expect("something");
        assert_eq!(has.get("a").map(|held| held.2.as_str()), Some("b"));
    }
}
