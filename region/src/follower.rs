//! Follows control's feed of this region's reservations: keeps a replica of them, and does the renames that it asks for.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | control's message | nothing | the feed goes on at the cursor, and sends it again |
//! | the commit of a batch | replica, cursor, renamed organizations, answers to send: all of it | control is answered |
//! | control's answer | the same | answered again, which changes nothing |
//! | the note that control has received it | nothing to do | |
//! | a part of a snapshot | a cursor at 0 | the snapshot starts over |
//!
//! A region that was away for long goes on where it was, or takes a snapshot if control has deleted the
//! events in between.

mod changes;
mod renames;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use causeway_client::feed::{FeedChange, FeedUpdate};
use causeway_proto::{era::era_of, relocation::v1::ErrorReason};
use causeway_silo::{db::DbError, transact};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use self::{
    changes::{MessageChanges, change, changed, unreadable},
    renames::{record_renames, rename},
};
use crate::{
    context::Context,
    error::Error,
    primaries,
    replica::{Answer, SlugChange},
    store::{
        id_block,
        replica::{self, Cursor, Resolved},
    },
};

/// Slugs that one transaction deletes at the end of a snapshot.
const SWEPT: i64 = 10_000;
/// How many lost aliases are logged.
const LOGGED: i64 = 100;
/// How often the time of control's last message is stored, if nothing else is stored.
const NOTE_HEARD: TimeDelta = TimeDelta::minutes(1);

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
        let mut is_logged = !is_of_other_era;
        loop {
            let is_last = transact!(Error, self.context().db, |tx| {
                let cursor = replica::lock_cursor(tx).await?;
                if (cursor.version, cursor.generation) != (0, ended.generation) {
                    // Another process of this region follows too.
                    return Err(unreadable("a snapshot has been begun beside this one"));
                }
                if !is_logged {
                    // Before they are deleted: a process that begins the snapshot again does not see them any more.
                    let total = replica::count_lost_aliases(tx, cursor.generation).await?;
                    tell_lost_aliases(&replica::lost_aliases(tx, cursor.generation, LOGGED).await?, total);
                    is_logged = true;
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
            self.follow_restored_control().await;
        }
        Ok(ended)
    }

    /// Says that control was put back from an old copy, and reports the region's ids to it again.
    async fn follow_restored_control(&self) {
        tracing::warn!(
            "control was put back from an old copy of its database: it may have forgotten slugs, renames and users of this \
             region. `causeway reconcile --check` shows what differs; docs/backup.md has what to do"
        );
        self.context().registration.report_ids_again();
        // If that fails, whatever needs the registration next repeats it.
        if let Err(error) = self.context().register().await {
            tracing::debug!(%error, "the region's ids cannot be reported to control yet");
        }
    }

    /// Stores replica, cursor, renames and the answers to send, all of it or nothing. `snapshot` is the version of the snapshot
    /// that the changes are a part of, if they are.
    async fn apply(
        &self,
        news: MessageChanges,
        now: DateTime<Utc>,
        snapshot: Option<i64>,
        next: impl Fn(&Cursor) -> Result<Cursor, Error>,
    ) -> Result<Cursor, Error> {
        let context = self.context();
        let (reserved, free): (Vec<&SlugChange>, Vec<&SlugChange>) =
            news.slugs.values().partition(|it| it.kind.is_some());
        let wanted: Vec<&SlugChange> = reserved.iter().copied().filter(|change| change.wanted).collect();
        let (cursor, answers) = transact!(Error, context.db, |tx| {
            let before = replica::lock_cursor(tx).await?;
            let cursor = next(&before)?;
            // A control that was put back from an old copy has forgotten renames. Organizations keep their slugs: a
            // comparison reports these, and people decide.
            if !snapshot.is_some_and(|version| before.is_of_other_era(version)) {
                // This comes before the replica is overwritten: the replica shows which organizations have the
                // slug that control last reported.
                let renamed = primaries::apply(tx, &reserved).await?;
                context.announce_organizations(tx, renamed).await?;
            }
            replica::upsert(tx, cursor.generation, &reserved).await?;
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
}

/// Logs the aliases that control has forgotten: only the old replica shows them.
fn tell_lost_aliases(lost: &[(i64, String)], total: i64) {
    for (organization_id, slug) in lost {
        tracing::warn!(
            organization_id,
            slug,
            "control no longer has an alias, and the slug is free. To have it again, rename the organization to it, \
             `causeway slugs rename {organization_id} {slug} --exact --keep-alias`, and back in the same way"
        );
    }
    if total > 0 {
        tracing::warn!(total, logged = lost.len(), "control no longer has aliases of this region");
    }
}
