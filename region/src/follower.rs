//! Follows control's feed of this region's reservations: keeps a replica of them, and does the renames that it asks for.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | control's message | nothing | the feed goes on at the cursor, and sends it again |
//! | the commit of a batch | replica, cursor, renamed organizations, what is to be answered: all of it | control is answered |
//! | control's answer | the same | answered again, which changes nothing |
//! | the note that control has received it | nothing to do | |
//! | a part of a snapshot | a cursor at 0 | the snapshot starts over |
//!
//! A region that was away for long goes on where it was, or takes a snapshot if control has deleted the
//! events in between.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use causeway_audit::{Call, Subject};
use causeway_client::feed::{FeedChange, FeedUpdate};
use causeway_proto::{
    control::v1::{FeedEvent, FeedReservation, ReservationType, SlugRefusal, feed_event},
    era::era_of,
    relocation::v1::ErrorReason,
};
use causeway_silo::{
    db::{DbError, Tx},
    transact,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    context::Context,
    error::Error,
    primaries,
    replica::{Answer, ReplicaType, SlugChange},
    store::{
        id_block,
        organization::{self, constraint},
        replica::{self, Cursor, Resolved},
    },
};

/// Slugs that one transaction deletes at the end of a snapshot.
const SWEPT: i64 = 10_000;
/// How many lost aliases are logged.
const LOGGED: i64 = 100;
/// How many answers are read at once. Control is asked about each of them.
const ANSWERED: i64 = 100;
/// How often the time of control's last message is stored, if nothing else is stored.
const NOTE_HEARD: TimeDelta = TimeDelta::minutes(1);

fn unreadable(what: &str) -> Error {
    Error::Internal(format!("control's feed cannot be read: {what}"))
}

fn operation(id: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(id).map_err(|_| unreadable("an operation id"))
}

/// What an event changes.
fn changed(event: FeedEvent) -> Result<SlugChange, Error> {
    match event.change {
        Some(feed_event::Change::Reservation(reservation)) => change(reservation),
        Some(feed_event::Change::Removed(removed)) => Ok(SlugChange {
            operation_id: operation(&removed.operation_id)?,
            slug: removed.slug,
            organization_id: removed.organization_id,
            kind: None,
            canonical_slug: None,
            wanted: false,
        }),
        None => Err(unreadable("an event of a kind that this release does not know")),
    }
}

fn change(reservation: FeedReservation) -> Result<SlugChange, Error> {
    let kind = match reservation.r#type() {
        ReservationType::Unspecified => return Err(unreadable("a reservation of no type")),
        ReservationType::Primary => Some(ReplicaType::Primary),
        ReservationType::TemporaryRenameAlias => Some(ReplicaType::Temporary),
        ReservationType::VanityAlias => Some(ReplicaType::Alias),
    };
    Ok(SlugChange {
        organization_id: reservation.organization_id,
        kind,
        canonical_slug: Some(reservation.canonical_slug).filter(|slug| !slug.is_empty()),
        operation_id: operation(&reservation.operation_id)?,
        wanted: reservation.wanted,
        slug: reservation.slug,
    })
}

/// The result of all changes of a message.
#[derive(Debug, Default, PartialEq, Eq)]
struct MessageChanges {
    /// The last change of each slug.
    slugs: BTreeMap<String, SlugChange>,
    /// By which slug organizations are known from now on, where the message has a primary slug: their other
    /// slugs lead to it.
    known_by: BTreeMap<i64, Option<String>>,
    /// Slugs that nobody has any more. Where one of them was the primary slug of its organization, that has none.
    freed: Vec<(i64, String)>,
}

impl MessageChanges {
    fn of(changes: Vec<SlugChange>) -> Self {
        let mut news = Self::default();
        for change in changes {
            let SlugChange { organization_id, slug, .. } = &change;
            match change.kind {
                Some(ReplicaType::Primary) => {
                    news.known_by.insert(*organization_id, Some(slug.clone()));
                }
                Some(_) => {}
                None => match news.known_by.get_mut(organization_id) {
                    Some(known) if known.as_ref() == Some(slug) => *known = None,
                    Some(_) => {}
                    None => news.freed.push((*organization_id, slug.clone())),
                },
            }
            news.slugs.insert(slug.clone(), change);
        }
        news
    }
}

/// Follows the feed of one region. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Follower(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    /// There is something to answer.
    to_answer: Notify,
    /// The replica has been given up: a snapshot is wanted.
    restart: Notify,
    /// When control last reported that there is nothing more, as far as this process knows.
    heard: Mutex<Option<DateTime<Utc>>>,
    /// The version that the feed had, by control's last message; 0 before the first one.
    known: AtomicI64,
}

impl Follower {
    /// Begins to follow, until the service stops.
    pub(crate) fn start(context: &Context) -> Self {
        let follower = Self(Arc::new(Inner {
            context: context.clone(),
            to_answer: Notify::new(),
            restart: Notify::new(),
            heard: Mutex::new(None),
            known: AtomicI64::new(0),
        }));
        let (following, answering) = (follower.clone(), follower.clone());
        context.lifecycle.background(async move { following.follow().await });
        context.lifecycle.background(async move { answering.answer().await });
        follower
    }

    fn context(&self) -> &Context {
        &self.0.context
    }

    /// The organization of a slug of this region, and how old the answer may be.
    ///
    /// # Errors
    /// If no organization of this region has it, or nothing was ever received from control.
    pub(crate) async fn resolve(&self, slug: &str) -> Result<(Resolved, TimeDelta), Error> {
        let db = &self.context().db;
        let found = replica::resolve(db, slug).await?;
        let stored = replica::cursor(db).await?.heard_at;
        let Some(heard) = self.heard().0.max(stored) else { return Err(Error::NeverHeard) };
        let staleness = (self.context().env.now() - heard).max(TimeDelta::zero());
        found.map(|found| (found, staleness)).ok_or_else(|| Error::SlugNotFound(slug.to_owned()))
    }

    /// When control last reported that there is nothing more, as far as this process knows, and the version that the
    /// feed had by its last message.
    pub(crate) fn heard(&self) -> (Option<DateTime<Utc>>, i64) {
        let heard = *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        (heard, self.0.known.load(Ordering::Relaxed))
    }

    async fn follow(&self) {
        let mut attempts = 0;
        loop {
            let error = match self.follow_stream(&mut attempts).await {
                Ok(()) => continue,
                Err(error) if error.is_stop() => return,
                Err(error) => error,
            };
            attempts += 1;
            // What was decided before it broke is answered all the same.
            self.0.to_answer.notify_one();
            // That it cannot register has been logged already.
            if attempts == 1 && self.context().registration.is_known() {
                tracing::warn!(%error, "the region cannot follow control's feed, and tries again");
            } else {
                tracing::debug!(%error, attempts, "the region cannot follow control's feed");
            }
            if self.context().pause(attempts).await.is_err() {
                return;
            }
        }
    }

    /// Gives up what is known, for a snapshot. What was known answers until that has ended.
    pub(crate) async fn start_over(&self) -> Result<(), Error> {
        transact!(DbError, self.context().db, |tx| {
            let cursor = replica::lock_cursor(tx).await?;
            replica::set_cursor(tx, &Cursor { version: 0, ..cursor }).await?;
        })?;
        self.0.restart.notify_one();
        Ok(())
    }

    /// Follows until the stream breaks, or is asked to start over.
    async fn follow_stream(&self, attempts: &mut i64) -> Result<(), Error> {
        let context = self.context();
        let is_suspended = match context.register().await {
            Ok(()) => false,
            // A region that has registered before may read its feed all the same.
            Err(error) if error.reason() == ErrorReason::RegionSuspended => true,
            Err(error) => return Err(error),
        };
        let cursor = replica::cursor(&context.db).await?;
        let watched = async {
            let mut feed = context.control.open_feed(cursor.version, context.instance_id).await?;
            loop {
                self.take(feed.next().await?).await?;
                if *attempts > 0 {
                    tracing::info!("the region follows control's feed");
                }
                *attempts = 0;
            }
        };
        let ended = tokio::select! {
            ended = watched => ended,
            ended = self.register_when_resumed(is_suspended) => ended,
            () = self.0.restart.notified() => return Ok(()),
            () = context.lifecycle.stopping() => Err(Error::Stopping),
        };
        if let Err(error @ Error::Control(_)) = &ended {
            context.registration.note_refusal(error.reason());
        }
        ended
    }

    /// Registers as soon as the region is resumed, if it could not because it was suspended. Returns only if that fails
    /// for something else.
    async fn register_when_resumed(&self, is_suspended: bool) -> Result<(), Error> {
        let mut attempts = 0;
        let mut wants = is_suspended;
        while wants {
            attempts += 1;
            self.context().pause(attempts).await?;
            match self.context().register().await {
                Ok(()) => wants = false,
                Err(error) if error.reason() == ErrorReason::RegionSuspended => {}
                Err(error) => return Err(error),
            }
        }
        std::future::pending().await
    }

    /// Takes in one message, in one transaction.
    async fn take(&self, update: FeedUpdate) -> Result<(), Error> {
        let now = self.context().env.now();
        let current = update.current_version;
        self.0.known.store(current, Ordering::Relaxed);
        let cursor = match update.change {
            FeedChange::Nothing => replica::cursor(&self.context().db).await?,
            FeedChange::Snapshot(snapshot) => {
                let changes = snapshot.reservations.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
                let begun = self
                    .apply(MessageChanges::of(changes), now, Some(snapshot.version), |cursor| {
                        let generation = cursor.generation + i64::from(snapshot.first);
                        Ok(Cursor { version: 0, generation, ..cursor.clone() })
                    })
                    .await?;
                match snapshot.last {
                    true => self.end_snapshot(begun, snapshot.version, current, now).await?,
                    false => begun,
                }
            }
            FeedChange::Events(events) => {
                let (Some(first), Some(last)) =
                    (events.first().map(|it| it.version), events.last().map(|it| it.version))
                else {
                    return Ok(());
                };
                let changes = events.into_iter().map(changed).collect::<Result<Vec<_>, _>>()?;
                self.apply(MessageChanges::of(changes), now, None, |cursor| {
                    if cursor.version + 1 != first {
                        // Another process of this region follows too.
                        return Err(unreadable("an event has been passed over"));
                    }
                    let heard_at = if last >= current { Some(now) } else { cursor.heard_at };
                    Ok(Cursor { version: last, heard_at, ..cursor.clone() })
                })
                .await?
            }
        };
        if cursor.version > 0 && cursor.version >= current {
            *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            if cursor.heard_at.is_none_or(|heard| now - heard > NOTE_HEARD) {
                transact!(DbError, self.context().db, |tx| {
                    let cursor = replica::lock_cursor(tx).await?;
                    replica::set_cursor(tx, &Cursor { heard_at: Some(now), ..cursor }).await?;
                })?;
            }
        }
        Ok(())
    }

    /// At the end of a snapshot, what it did not have is gone, in parts; the cursor moves with the last one.
    async fn end_snapshot(
        &self,
        begun: Cursor,
        version: i64,
        current: i64,
        now: DateTime<Utc>,
    ) -> Result<Cursor, Error> {
        let heard_at = if version >= current { Some(now) } else { begun.heard_at };
        let is_of_other_era = begun.is_of_other_era(version);
        let ended = Cursor { version, heard_at, era: era_of(version), ..begun };
        let mut lost = Vec::new();
        loop {
            let is_last = transact!(Error, self.context().db, |tx| {
                let cursor = replica::lock_cursor(tx).await?;
                if (cursor.version, cursor.generation) != (0, ended.generation) {
                    // Another process of this region follows too.
                    return Err(unreadable("a snapshot has been begun beside this one"));
                }
                if is_of_other_era && lost.is_empty() {
                    lost = replica::lost_aliases(tx, cursor.generation, LOGGED).await?;
                }
                let is_last = replica::sweep(tx, cursor.generation, SWEPT).await? < SWEPT.unsigned_abs();
                if is_last {
                    if is_of_other_era {
                        // Control may have forgotten the leases.
                        id_block::forget(tx).await?;
                    }
                    replica::set_cursor(tx, &ended).await?;
                }
                is_last
            })?;
            if is_last {
                break;
            }
        }
        if is_of_other_era {
            self.follow_restored_control(&lost).await;
        }
        Ok(ended)
    }

    /// Says what a control that was put back from an old copy has forgotten, as far as only the old replica shows it, and
    /// reports the region's ids to it again.
    async fn follow_restored_control(&self, lost: &[(i64, String)]) {
        tracing::warn!(
            "control was put back from an old copy of its database: it may have forgotten slugs, renames and users of this \
             region. `causeway reconcile --check` shows what differs; docs/backup.md has what to do"
        );
        for (organization_id, slug) in lost {
            tracing::warn!(
                organization_id,
                slug,
                "control no longer has an alias, and the slug is free. To have it again, rename the organization to it and \
                 back: `causeway slugs rename`, with `--exact --keep-alias`"
            );
        }
        self.context().registration.report_ids_again();
        // If that fails, whatever needs the registration next repeats it.
        if let Err(error) = self.context().register().await {
            tracing::debug!(%error, "the region's ids cannot be reported to control yet");
        }
    }

    /// Replica, cursor, renames and what is to be answered, all of it or nothing. `snapshot` is the version of the snapshot
    /// that the changes are a part of, if they are.
    async fn apply(
        &self,
        news: MessageChanges,
        now: DateTime<Utc>,
        snapshot: Option<i64>,
        next: impl Fn(&Cursor) -> Result<Cursor, Error>,
    ) -> Result<Cursor, Error> {
        let context = self.context();
        let (held, free): (Vec<&SlugChange>, Vec<&SlugChange>) =
            news.slugs.values().partition(|it| it.kind.is_some());
        let wanted: Vec<&SlugChange> = held.iter().copied().filter(|change| change.wanted).collect();
        let (cursor, answers) = transact!(Error, context.db, |tx| {
            let before = replica::lock_cursor(tx).await?;
            let cursor = next(&before)?;
            // A control that was put back from an old copy has forgotten renames. Organizations keep their slugs: a
            // comparison reports these, and people decide.
            if !snapshot.is_some_and(|version| before.is_of_other_era(version)) {
                // This comes before the replica is overwritten: the replica shows which organizations have the
                // slug that control last reported.
                let renamed = primaries::apply(tx, &held).await?;
                context.announce_organizations(tx, renamed).await?;
            }
            replica::upsert(tx, cursor.generation, &held).await?;
            replica::remove(tx, free.iter().map(|change| change.slug.clone()).collect()).await?;
            replica::without_canonical(tx, &news.freed).await?;
            replica::set_canonical(tx, &news.known_by).await?;
            let answers = rename(tx, &wanted, now).await?;
            let done = || answers.iter().filter(|answer| answer.refusal.is_none());
            record_renames(tx, &context.region, done(), now).await?;
            context.announce_organizations(tx, done().map(|it| it.organization_id).collect()).await?;
            replica::set_cursor(tx, &cursor).await?;
            context.env.failpoint("region.feed.prepared").await?;
            (cursor, answers)
        })?;
        for answer in &answers {
            let Answer { operation_id, organization_id, slug, refusal, .. } = answer;
            match refusal {
                None => tracing::info!(%operation_id, organization_id, slug, "an organization is renamed"),
                Some((_, message)) => {
                    tracing::warn!(%operation_id, organization_id, slug, message, "a rename is refused");
                }
            }
        }
        context.env.failpoint("region.feed.applied").await?;
        if !answers.is_empty() {
            self.0.to_answer.notify_one();
        }
        Ok(cursor)
    }

    /// Reports to control what has become of renames, until control has answered.
    async fn answer(&self) {
        let context = self.context();
        let mut attempts = 0;
        loop {
            match self.answer_all().await {
                Ok(()) => {
                    attempts = 0;
                    tokio::select! {
                        () = self.0.to_answer.notified() => {}
                        () = context.lifecycle.stopping() => return,
                    }
                }
                Err(error) if error.is_stop() => return,
                Err(error) => {
                    attempts += 1;
                    tracing::warn!(%error, attempts, "control has not heard what became of a rename; tried again");
                    if context.pause(attempts).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn answer_all(&self) -> Result<(), Error> {
        loop {
            let due = replica::answers(&self.context().db, ANSWERED).await?;
            if due.is_empty() {
                return Ok(());
            }
            let mut told = Vec::with_capacity(due.len());
            let outcome = self.tell(&due, &mut told).await;
            // Also if control has not answered for all.
            self.note_told(&told).await?;
            outcome?;
        }
    }

    /// Reports the outcome of renames to control, one after the other. Adds to `told` those that it has answered, and
    /// whether it has given the rename up that the region has done.
    async fn tell<'a>(&self, due: &'a [Answer], told: &mut Vec<(&'a Answer, bool)>) -> Result<(), Error> {
        let context = self.context();
        for answer in due {
            let heard = match &answer.refusal {
                None => context.ask(context.control.confirm_slugs(answer.operation_id)).await.map(drop),
                Some((reason, message)) => {
                    let refusal = SlugRefusal { reason: (*reason).into(), message: message.clone() };
                    context.ask(context.control.refuse_slug(answer.operation_id, refusal)).await
                }
            };
            let given_up = match heard {
                Ok(()) => false,
                Err(Error::Control(error))
                    if matches!(
                        error.reason(),
                        Some(
                            ErrorReason::OperationReleased
                                | ErrorReason::OperationNotFound
                                | ErrorReason::OperationConfirmed
                        )
                    ) =>
                {
                    error.reason() != Some(ErrorReason::OperationConfirmed) && answer.refusal.is_none()
                }
                Err(error) => return Err(error),
            };
            context.env.failpoint("region.rename.answered").await?;
            told.push((answer, given_up));
        }
        Ok(())
    }

    /// Deletes answers of which control has heard, and takes back the renames that it has given up.
    async fn note_told(&self, told: &[(&Answer, bool)]) -> Result<(), Error> {
        if told.is_empty() {
            return Ok(());
        }
        let context = self.context();
        let given_up = || told.iter().filter(|(_, given_up)| *given_up).map(|(answer, _)| *answer);
        transact!(Error, context.db, |tx| {
            if given_up().next().is_some() {
                // Nothing of the feed comes in between: another rename may give it yet another slug.
                replica::lock_cursor(tx).await?;
            }
            let mut put_back_now = Vec::new();
            // One after the other, because two of them may be about one organization. Each was given up by a person.
            for answer in given_up() {
                if put_back(tx, answer).await? {
                    put_back_now.push(answer);
                }
            }
            let now = context.env.now();
            record_renames(tx, &context.region, put_back_now.iter().copied(), now).await?;
            let renamed = put_back_now.iter().map(|answer| answer.organization_id).collect();
            context.announce_organizations(tx, renamed).await?;
            let ids = told.iter().map(|(answer, _)| answer.operation_id).collect();
            replica::forget_answers(tx, ids).await?;
            context.env.failpoint("region.rename.prepared").await?;
        })?;
        Ok(context.env.failpoint("region.rename.noted").await?)
    }
}

/// Gives organizations the slugs that control wants them to have, as far as they can have them.
async fn rename(tx: &mut Tx, wanted: &[&SlugChange], now: DateTime<Utc>) -> Result<Vec<Answer>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    // A snapshot may repeat what has been decided.
    let decided = replica::decided(tx, wanted.iter().map(|change| change.operation_id).collect()).await?;
    let wanted: Vec<&SlugChange> =
        wanted.iter().copied().filter(|change| !decided.contains(&change.operation_id)).collect();
    let ids: Vec<i64> = wanted.iter().map(|change| change.organization_id).collect();
    let slugs: Vec<String> = wanted.iter().map(|change| change.slug.clone()).collect();
    let ready: HashMap<i64, bool> = organization::ready(tx, ids.clone()).await?;
    let owners = organization::owners(tx, slugs).await?;
    let refusal = |change: &SlugChange| match (ready.get(&change.organization_id), owners.get(&change.slug)) {
        (None, _) => Some((
            ErrorReason::OrganizationNotFound,
            format!("the region has no organization {}", change.organization_id),
        )),
        (Some(false), _) => Some((
            ErrorReason::OrganizationNotReady,
            format!("the import of organization {} has not succeeded", change.organization_id),
        )),
        (_, Some(owner)) if *owner != change.organization_id => {
            Some((ErrorReason::SlugTakenInRegion, taken_in_region(*owner, &change.slug)))
        }
        _ => None,
    };
    let mut answers: Vec<Answer> = wanted
        .iter()
        .map(|change| Answer {
            operation_id: change.operation_id,
            organization_id: change.organization_id,
            slug: change.slug.clone(),
            previous_slug: change.canonical_slug.clone(),
            refusal: refusal(change),
        })
        .collect();
    let mut renaming: Vec<&mut Answer> = answers.iter_mut().filter(|it| it.refusal.is_none()).collect();
    let (ids, slugs): (Vec<i64>, Vec<String>) =
        renaming.iter().map(|answer| (answer.organization_id, answer.slug.clone())).unzip();
    let refused = organization::set_slugs(tx, &ids, &slugs).await?;
    // Another writer may have taken a slug since.
    let owners = match refused.is_empty() {
        true => HashMap::new(),
        false => organization::owners(tx, slugs).await?,
    };
    for why in refused {
        if let Some(answer) = renaming.get_mut(why.index) {
            let slug = &answer.slug;
            let message = match owners.get(slug).filter(|owner| **owner != answer.organization_id) {
                Some(owner) => taken_in_region(*owner, slug),
                None => format!("in the region, the slug {slug} breaks {}", constraint(&why)),
            };
            answer.refusal = Some((ErrorReason::SlugTakenInRegion, message));
        }
    }
    replica::insert_answers(tx, &answers, now).await?;
    Ok(answers)
}

fn taken_in_region(owner: i64, slug: &str) -> String {
    format!("organization {owner} of the region has the slug {slug}, which control does not know")
}

/// Records that the region has renamed organizations, because control wants it or has given it up. The operation of each
/// is that of the call to control, which has the same id in control's log.
async fn record_renames(
    tx: &mut Tx,
    region: &str,
    answers: impl Iterator<Item = &Answer>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let calls = answers.map(|answer| {
        let subject = Subject::organization(answer.organization_id).with_operation(answer.operation_id);
        (Call::own(answer.operation_id, region, "rename"), subject)
    });
    causeway_audit::append_each(tx, calls.collect::<Vec<_>>(), now).await
}

/// Takes back a rename that control has given up, unless the organization has yet another slug by now, or the same one by
/// another operation. Returns whether it did.
async fn put_back(tx: &mut Tx, answer: &Answer) -> Result<bool, DbError> {
    let Answer { operation_id, organization_id, slug, previous_slug, .. } = answer;
    // Another rename may have been confirmed since: then the organization is known by neither of the two.
    let known = replica::primaries(tx, vec![*organization_id]).await?.remove(organization_id);
    let Some(previous) = known.as_ref().or(previous_slug.as_ref()) else { return Ok(false) };
    let owners = organization::owners(tx, vec![slug.clone(), previous.clone()]).await?;
    if owners.get(slug) != Some(organization_id)
        || replica::is_used_by_other_operation(tx, slug, *organization_id, *operation_id).await?
    {
        return Ok(false);
    }
    if let Some(owner) = owners.get(previous) {
        tracing::error!(%operation_id, organization_id, slug, previous, owner, "a rename was given up, and the old slug is taken in this region; the organization keeps the new one, which control does not know");
        return Ok(false);
    }
    let refused = organization::set_slugs(tx, &[*organization_id], std::slice::from_ref(previous)).await?;
    if let Some(why) = refused.first() {
        let constraint = constraint(why);
        tracing::error!(%operation_id, organization_id, slug, previous, constraint, "a rename was given up, and the database refuses the old slug; the organization keeps the new one, which control does not know");
        return Ok(false);
    }
    tracing::warn!(%operation_id, organization_id, slug, previous, "a rename was given up; the organization has its old slug back");
    Ok(true)
}
