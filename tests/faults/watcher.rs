//! A reader of the feed of a region, as a router is one: it follows whatever happens, goes back now and then to what it
//! had before or to nothing at all, and holds what it hears against what a feed promises.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::cluster::{Cluster, Trace};
use causeway_proto::{
    control::v1::{
        FeedReservation, ReservationType, WatchSlugReservationsRequest, WatchSlugReservationsResponse,
        watch_slug_reservations_response::Part,
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
    driver::{Controls, PATIENCE, PAUSE, insist, passes},
    story::Dice,
};

/// Of 100 messages, behind how many a reader goes back, and how often at most.
const GOES_BACK: usize = 15;
const TIMES: usize = 5;
/// Events of a message that are told to the trace.
const TOLD: usize = 12;

/// Reservations by slug: organization, type, and the slug by which the organization is known.
type Reservations = BTreeMap<String, (i64, ReservationType, String)>;

/// What a reader has.
#[derive(Debug, Default)]
struct Heard {
    version: i64,
    /// Control may have forgotten what comes behind that.
    may_be_forgotten: bool,
    reservations: Reservations,
    /// What a snapshot that is under way has told so far.
    snapshot: Reservations,
    /// What it had after each message.
    pasts: Vec<(i64, Reservations)>,
}

impl Heard {
    /// Takes a message, and says what is in it.
    fn take(&mut self, message: WatchSlugReservationsResponse) -> anyhow::Result<String> {
        let current = message.current_version;
        let mut told = String::new();
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
                let _never = write!(told, "snapshot {}: {} slugs", part.version, part.reservations.len());
                for reservation in part.reservations {
                    let kind = reservation.r#type();
                    ensure!(
                        kind != ReservationType::Unspecified,
                        "a snapshot has what nobody has: {reservation:?}"
                    );
                    let twice = self.snapshot.contains_key(&reservation.slug);
                    ensure!(!twice, "a snapshot has `{}` twice", reservation.slug);
                    apply(&mut self.snapshot, reservation);
                }
                if part.last {
                    (self.version, self.reservations) = (part.version, std::mem::take(&mut self.snapshot));
                    self.remember();
                }
            }
            Part::Events(events) => {
                ensure!(self.version > 0, "events for a reader who has nothing");
                let count = events.events.len();
                for (number, event) in events.events.into_iter().enumerate() {
                    ensure!(
                        event.version == self.version + 1,
                        "event {} follows version {}",
                        event.version,
                        self.version
                    );
                    self.version = event.version;
                    let reservation = event.reservation.context("an event of nothing")?;
                    if number < TOLD {
                        tell(&mut told, event.version, &reservation);
                    }
                    apply(&mut self.reservations, reservation);
                }
                if count > TOLD {
                    let _never = write!(told, " and {} events more", count - TOLD);
                }
                self.remember();
            }
        }
        ensure!(self.version <= current, "the feed is at {current}, and its reader at {}", self.version);
        Ok(told)
    }

    fn remember(&mut self) {
        if self.pasts.len() < 50 {
            self.pasts.push((self.version, self.reservations.clone()));
        }
    }

    /// Goes back to nothing, to what it had before, or nowhere, as if it had been away.
    fn go_back(&mut self, dice: &Dice) {
        self.snapshot.clear();
        match dice.below(3) {
            0 => (self.version, self.reservations) = (0, Reservations::new()),
            1 if !self.pasts.is_empty() => (self.version, self.reservations) = dice.of(&self.pasts),
            _ => {}
        }
    }
}

/// Adds what an event says, for the trace.
fn tell(told: &mut String, version: i64, reservation: &FeedReservation) {
    let FeedReservation { slug, organization_id, canonical_slug, wanted, .. } = reservation;
    let kind = match reservation.r#type() {
        ReservationType::Unspecified => "free",
        ReservationType::Primary => "primary",
        ReservationType::TemporaryRenameAlias => "temporary",
        ReservationType::VanityAlias => "alias",
    };
    let wanted = if *wanted { ", wanted" } else { "" };
    let _never = write!(
        told,
        " {version}: `{slug}` {kind} (organization {organization_id} known as `{canonical_slug}`{wanted})"
    );
}

fn apply(reservations: &mut Reservations, reservation: FeedReservation) {
    let kind = reservation.r#type();
    if kind == ReservationType::Unspecified {
        reservations.remove(&reservation.slug);
    } else {
        if kind == ReservationType::Primary {
            // The other slugs of the organization lead to this one from now on, without an event of their own.
            let of_it = reservations.values_mut().filter(|held| held.0 == reservation.organization_id);
            of_it.for_each(|held| held.2.clone_from(&reservation.slug));
        }
        let held = (reservation.organization_id, kind, reservation.canonical_slug);
        reservations.insert(reservation.slug, held);
    }
}

/// A reader of one feed. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    region: String,
    heard: Arc<Mutex<Heard>>,
    anew: Arc<Notify>,
    following: JoinHandle<anyhow::Result<()>>,
}

impl Watcher {
    /// Begins to follow the feed of a region, from its beginning.
    pub(crate) fn of(cluster: &Arc<Cluster>, region: &str, may_be_forgotten: bool, dice: Dice) -> Self {
        let heard = Arc::new(Mutex::new(Heard { may_be_forgotten, ..Heard::default() }));
        let anew = Arc::new(Notify::new());
        let reader = Reader {
            cluster: Arc::clone(cluster),
            region: region.to_owned(),
            heard: Arc::clone(&heard),
            anew: Arc::clone(&anew),
            dice,
            times: TIMES,
        };
        Self { region: region.to_owned(), heard, anew, following: tokio::spawn(reader.follow()) }
    }

    /// Waits until it has heard all that control has, in a cluster in which nothing is under way: by what it heard one
    /// after the other, and then once more from nothing.
    pub(crate) async fn has_heard_all(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let all =
            insist(cluster, "all reservations", || async { cluster.control().all_reservations().await });
        // Temporary ones are of imports that have failed, and in no feed.
        let mut all = all.await?;
        all.retain(|it| it.region == self.region && it.r#type() != ReservationType::TemporaryRenameAlias);
        let primary = all.iter().filter(|it| it.r#type() == ReservationType::Primary);
        let known: BTreeMap<i64, &str> = primary.map(|it| (it.organization_id, it.slug.as_str())).collect();
        let held: Reservations = all
            .iter()
            .map(|it| {
                let known = known.get(&it.organization_id).copied().unwrap_or_default();
                (it.slug.clone(), (it.organization_id, it.r#type(), known.to_owned()))
            })
            .collect();
        self.has_heard(cluster, &held).await?;
        {
            let mut heard = lock(&self.heard);
            (heard.version, heard.reservations) = (0, Reservations::new());
        }
        self.anew.notify_one();
        self.has_heard(cluster, &held).await.context("a reader who begins from nothing")
    }

    async fn has_heard(&mut self, cluster: &Cluster, held: &Reservations) -> anyhow::Result<()> {
        let _wait = cluster.trace().wait(format!("what the reader of the feed of {} hears", self.region));
        let until = Instant::now() + PATIENCE;
        loop {
            {
                let heard = lock(&self.heard);
                if heard.version > 0 && heard.reservations == *held {
                    return Ok(());
                }
                if Instant::now() >= until {
                    let (name, has) = (&self.region, &heard.reservations);
                    bail!("the reader of the feed of {name} has {has:?}; control has {held:?}");
                }
            }
            if self.following.is_finished() {
                bail!("{:#}", self.has_ended().await);
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends when something was wrong with the feed, and never otherwise.
    pub(crate) async fn has_ended(&mut self) -> anyhow::Error {
        let ended = match (&mut self.following).await {
            Ok(Ok(())) => anyhow::anyhow!("it has ended"),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        };
        ended.context(format!("the reader of the feed of {}", self.region))
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

/// What follows a feed.
struct Reader {
    cluster: Arc<Cluster>,
    region: String,
    heard: Arc<Mutex<Heard>>,
    anew: Arc<Notify>,
    dice: Dice,
    /// How often it will still go back.
    times: usize,
}

impl Reader {
    fn trace(&self) -> &Trace {
        self.cluster.trace()
    }

    async fn follow(mut self) -> anyhow::Result<()> {
        let controls = Controls::default();
        loop {
            let version = lock(&self.heard).version;
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
            // A region that has not come so far to register yet has no feed.
            let unknown = reason_of(&broken) == Some(ErrorReason::RegionNotRegistered);
            ensure!(unknown || passes(&broken), "a feed breaks off for good: {broken:?}");
            sleep(PAUSE).await;
        }
    }

    /// Reads a stream until it breaks, or is left.
    async fn read(
        &mut self,
        mut stream: tonic::Streaming<WatchSlugReservationsResponse>,
    ) -> anyhow::Result<Option<Status>> {
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.anew.notified() => return Ok(None),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => bail!("a feed has ended without an error"),
                Err(status) => return Ok(Some(status)),
            };
            let told = lock(&self.heard).take(message)?;
            if told.is_empty() {
                continue;
            }
            self.trace().note(format!("feed of {}: {told}", self.region));
            if self.times > 0 && self.dice.chance(GOES_BACK) {
                self.times -= 1;
                let mut heard = lock(&self.heard);
                heard.go_back(&self.dice);
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

    fn message(part: Part, current_version: i64) -> WatchSlugReservationsResponse {
        WatchSlugReservationsResponse { part: Some(part), current_version }
    }

    fn snapshot(version: i64, slugs: &[&str]) -> WatchSlugReservationsResponse {
        let reservations = slugs.iter().map(|slug| primary(slug)).collect();
        message(Part::Snapshot(FeedSnapshot { version, reservations, first: true, last: true }), version)
    }

    fn event(version: i64) -> WatchSlugReservationsResponse {
        let events = vec![FeedEvent { version, reservation: Some(primary("b")) }];
        message(Part::Events(FeedEvents { events }), version)
    }

    #[test]
    fn a_feed_that_breaks_its_promises_is_noticed() {
        let mut heard = Heard::default();
        heard.take(event(1)).expect_err("it has nothing yet");
        heard.take(snapshot(3, &["a", "a"])).expect_err("twice");
        heard.take(snapshot(3, &["a"])).expect("a snapshot");
        heard.take(snapshot(4, &["a"])).expect_err("it needs none");
        heard.take(event(5)).expect_err("a gap");
        heard.take(event(3)).expect_err("again");
        let told = heard.take(event(4)).expect("it follows");
        assert_eq!(told, " 4: `b` primary (organization 1 known as `b`)");
        let behind = WatchSlugReservationsResponse { current_version: 3, ..event(5) };
        heard.take(behind).expect_err("behind its own events");
        assert_eq!(heard.pasts.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [3, 4, 5]);
    }
}
