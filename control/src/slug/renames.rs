//! Renames: control reserves the new slug, the region writes it, and the region's confirmation makes it the primary
//! slug in place of the old one.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the reservation | a rename in flight, an event in the feed | the region writes the slug when it reads the event |
//! | the region's commit | the new slug in the region, the old one primary here | the region confirms until answered |
//! | the confirmation | the new slug primary | the region confirms again, which changes nothing |
//! | the region's refusal | a rename in flight | the region refuses again until it is answered |
//!
//! A caller that does not wait long enough gets `Pending`, and asks again with the same operation id.

use std::time::Duration;

use causeway_audit::Subject;
use causeway_proto::limits::{MAX_ALIASES, MAX_REFUSAL_BYTES, MAX_TEXT_BYTES};
use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::{
    db::{Db, DbError},
    env::Environment,
    transact,
};
use chrono::{DateTime, Utc};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{
    operation::{Incoming, Rounds},
    rules::{self as slug, Outcome, SuffixReason},
    waiting::Waiting,
};
use crate::{
    Error,
    feed::Feeds,
    model::{
        region::MAX_ID,
        rename::{Refusal, Rename, RenameRequest, RenameState},
        reservation::{Candidates, Reservation, ReservationType, Selection, WantedSlug},
    },
    store::{self, feed_transaction::FeedTransaction, rename},
    validate,
};

/// Checks a refusal that a region sent.
///
/// # Errors
/// If a region may not refuse with this reason, or the message is too long.
pub fn refusal(reason: ErrorReason, message: &str) -> Result<Refusal, Error> {
    if !matches!(
        reason,
        ErrorReason::OrganizationNotFound
            | ErrorReason::OrganizationNotReady
            | ErrorReason::SlugTakenInRegion
    ) {
        return Err(Error::invalid("refusal.reason", "is not one with which a region refuses a slug"));
    }
    validate::text(|| "refusal.message".to_owned(), message, MAX_REFUSAL_BYTES)?;
    Ok(Refusal { reason, message: message.to_owned() })
}

/// The use cases of renames. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Renames {
    db: Db,
    env: Environment,
    feeds: Feeds,
    /// The callers that wait for the end of a rename.
    waiting: Waiting<Rename>,
}

impl Renames {
    /// Renames by these feeds. Whoever ends a rename wakes its callers in `waiting`.
    pub(crate) fn new(db: Db, env: Environment, feeds: Feeds, waiting: Waiting<Rename>) -> Self {
        Self { db, env, feeds, waiting }
    }

    /// Gives an organization another slug, and waits at most `wait` for its region to confirm it. The same operation
    /// again returns the same state, or a later one.
    ///
    /// # Errors
    /// If control cannot give the slug, no region has confirmed a slug of the organization, another operation is
    /// renaming it, the operation was used with other content, or the region refuses.
    pub async fn update_organization_slug(
        &self,
        request: &RenameRequest,
        wait: Duration,
    ) -> Result<Rename, Error> {
        causeway_audit::about(subject(request));
        if !(1..=MAX_ID).contains(&request.organization_id) {
            return Err(Error::invalid("organization_id", "must be above 0 and below 2^53"));
        }
        if request.desired_slug.is_empty() {
            return Err(Error::invalid("desired_slug", "is missing"));
        }
        validate::text(|| "desired_slug".to_owned(), &request.desired_slug, MAX_TEXT_BYTES)?;
        let deadline = Instant::now() + wait;
        let mut rename = match rename::get(&self.db, request.operation_id).await? {
            Some(rename) => rename,
            None => self.begin(request).await?,
        };
        if !request.is(&rename) {
            return Err(Error::OperationContentDiffers { operation_id: request.operation_id });
        }
        if rename.state == RenameState::Pending && Instant::now() < deadline {
            let mut ended = self.end_of(rename.operation_id);
            let waited = timeout_at(deadline, ended.wait_for(Option::is_some));
            tokio::select! {
                waited = waited => {
                    if let Ok(Ok(ended)) = waited && let Some(ended) = &*ended {
                        rename = ended.clone();
                    }
                }
                () = self.feeds.stopping() => return Err(Error::ShuttingDown),
            }
        }
        match rename.state {
            RenameState::Refused(refusal) => Err(Error::Refused(refusal)),
            _ => Ok(rename),
        }
    }

    /// Reads a rename by its operation id.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, operation_id: Uuid) -> Result<Rename, Error> {
        rename::get(&self.db, operation_id).await?.ok_or(Error::RenameNotFound { operation_id })
    }

    /// Returns a receiver that gets the rename as soon as it has ended.
    fn end_of(&self, operation_id: Uuid) -> watch::Receiver<Option<Rename>> {
        let (db, env) = (self.db.clone(), self.env.clone());
        let read = move || {
            let (db, env) = (db.clone(), env.clone());
            async move {
                let read = async {
                    env.failpoint("control.rename.checked").await?;
                    rename::get(&db, operation_id).await
                };
                match read.await {
                    Ok(rename) => rename.filter(|rename| rename.state != RenameState::Pending),
                    Err(error) => {
                        tracing::warn!(%error, %operation_id, "control cannot check whether a rename has ended, and tries again");
                        None
                    }
                }
            }
        };
        self.waiting.wait_for(operation_id, &self.env, read, |watching| self.feeds.background(watching))
    }

    async fn begin(&self, request: &RenameRequest) -> Result<Rename, Error> {
        let not_found = || Error::OrganizationNotFound { organization_id: request.organization_id };
        let primary = store::slug_reservation::primary(&self.db, request.organization_id).await?;
        let region = primary
            .map(|primary| primary.region)
            .filter(|region| request.region.as_ref().is_none_or(|request| request == region))
            .ok_or_else(not_found)?;
        let now = self.env.now();
        let begun = transact!(Error, self.feeds.of(&region), |feed| {
            if let Some(before) = rename::find(feed, request.operation_id).await? {
                // The same call, made twice at once, has begun it.
                return Ok(before);
            }
            let own_reservations =
                store::slug_reservation::of_organization(feed, request.organization_id).await?;
            let primary = own_reservations
                .iter()
                .find(|it| it.kind == ReservationType::Primary)
                .ok_or_else(not_found)?;
            if let Some(other) = rename::in_flight(feed, request.organization_id).await? {
                return Err(Error::RenameInFlight {
                    organization_id: request.organization_id,
                    operation_id: other.operation_id,
                });
            }
            if let Some(product_db) = feed.product_db()
                && let Some(slug) = product_db.renaming(feed, request.organization_id).await?
            {
                return Err(Error::RenamingInProduct { organization_id: request.organization_id, slug });
            }
            let slug = self.pick(feed, request, &own_reservations, now).await?;
            let changes = slug != primary.slug;
            let aliases = own_reservations
                .iter()
                .filter(|it| it.kind == ReservationType::VanityAlias && it.slug != slug);
            if changes && request.keep_alias && aliases.count() >= MAX_ALIASES {
                return Err(Error::TooManyAliases {
                    organization_id: request.organization_id,
                    limit: MAX_ALIASES,
                });
            }
            let rename = Rename {
                operation_id: request.operation_id,
                region: region.clone(),
                organization_id: request.organization_id,
                desired_slug: request.desired_slug.clone(),
                require_exact: request.require_exact,
                keep_alias: request.keep_alias,
                previous_slug: primary.slug.clone(),
                state: if changes { RenameState::Pending } else { RenameState::Confirmed },
                slug,
            };
            if !rename::insert(feed, &rename, now).await?
                || (changes
                    && !store::slug_operation::insert(feed, request.operation_id, [0; 32], 1, None, now)
                        .await?)
            {
                return Err(Error::OperationContentDiffers { operation_id: request.operation_id });
            }
            if changes {
                feed.append_upserts(Selection::Slug(&rename.slug)).await?;
            }
            causeway_audit::append(feed, &subject(request), now).await?;
            self.env.failpoint("control.rename.prepared").await?;
            rename
        })?;
        self.env.failpoint("control.rename.committed").await?;
        Ok(begun)
    }

    /// Picks the slug that the organization gets: one that it already has, or a free one, which it reserves here.
    async fn pick(
        &self,
        feed: &mut FeedTransaction<'_>,
        request: &RenameRequest,
        own_reservations: &[Reservation],
        now: DateTime<Utc>,
    ) -> Result<String, Error> {
        let desired = &request.desired_slug;
        let plan = slug::plan(desired, "");
        if request.require_exact {
            match plan {
                Outcome::Exact(_) => {}
                Outcome::NeedsSuffix { why: SuffixReason::Reserved, .. } if slug::is_reserved(desired) => {
                    return Err(Error::SlugReserved { slug: desired.clone() });
                }
                _ => return Err(Error::SlugInvalid { slug: desired.clone() }),
            }
        }
        let fit = match &plan {
            Outcome::Exact(slug) => Some(*slug),
            Outcome::Normalized(slug) => Some(slug.as_str()),
            Outcome::NeedsSuffix { .. } => None,
        };
        if let Some(own) =
            fit.and_then(|slug| own_reservations.iter().find(|reservation| reservation.slug == slug))
        {
            let is_alias = own.kind == ReservationType::VanityAlias;
            if is_alias
                && !store::slug_reservation::reserve_alias(feed, request.organization_id, &own.slug, now)
                    .await?
            {
                return Err(Error::SlugTaken { slug: own.slug.clone() });
            }
            return Ok(own.slug.clone());
        }
        let taken = |winners: Vec<(i64, String)>| winners.into_iter().next().map(|(_, slug)| slug);
        if request.require_exact {
            let candidates = Candidates::one(request.organization_id, desired);
            return taken(
                store::slug_reservation::take_free(feed, request.operation_id, candidates, now).await?,
            )
            .ok_or_else(|| Error::SlugTaken { slug: desired.clone() });
        }
        let mut incoming = Incoming::new(feed.region().to_owned(), request.operation_id);
        incoming.add(vec![WantedSlug {
            organization_id: request.organization_id,
            slug: desired.clone(),
            name: String::new(),
            taken_in_region: false,
        }])?;
        let operation = incoming.complete()?;
        let mut rounds = Rounds::new(&operation);
        while let Some(candidates) = rounds.next(&self.env)? {
            let winners =
                store::slug_reservation::take_free(feed, request.operation_id, candidates, now).await?;
            if let Some(slug) = taken(winners) {
                return Ok(slug);
            }
        }
        Err(DbError::inconsistent("a rename ended without a slug").into())
    }

    /// Frees an alias of an organization. Returns `false` if the organization does not have the slug.
    ///
    /// # Errors
    /// If the slug is the primary or temporary slug of the organization, or the organization is being renamed to it.
    pub async fn release_alias(&self, organization_id: i64, slug: &str) -> Result<bool, Error> {
        let subject = causeway_audit::about(Subject::organization(organization_id));
        validate::text(|| "slug".to_owned(), slug, MAX_TEXT_BYTES)?;
        let slug = slug.to_ascii_lowercase();
        let found = store::directory::find(&self.db, vec![slug.clone()]).await?;
        let Some((_, owner)) = found.into_iter().find(|(_, it)| it.organization_id == organization_id) else {
            return Ok(false);
        };
        let region = owner.region;
        let released = transact!(Error, self.feeds.of(&region), |feed| {
            let own_reservations = store::slug_reservation::of_organization(feed, organization_id).await?;
            let Some(alias) = own_reservations.iter().find(|reservation| reservation.slug == slug) else {
                return Ok(false);
            };
            if alias.kind != ReservationType::VanityAlias {
                return Err(Error::SlugNotAlias { slug: slug.clone() });
            }
            if let Some(rename) = rename::in_flight(feed, organization_id).await?
                && rename.slug == slug
            {
                return Err(Error::RenameInFlight { organization_id, operation_id: rename.operation_id });
            }
            feed.append_removals(Selection::Slug(&slug)).await?;
            store::slug_reservation::delete_slug(feed, &slug).await?;
            causeway_audit::append(feed, &subject, self.env.now()).await?;
            true
        })?;
        Ok(released)
    }
}

/// What a rename is about.
fn subject(request: &RenameRequest) -> Subject {
    Subject::organization(request.organization_id).with_operation(request.operation_id)
}

/// Makes the new slug of a rename the primary one. Two slugs change, so there are two events, however many aliases
/// exist: aliases lead to whichever slug is primary.
pub(crate) async fn confirm(
    feed: &mut FeedTransaction<'_>,
    rename: &Rename,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let Rename { organization_id, slug, .. } = rename;
    rename::confirm(feed, rename.operation_id, now).await?;
    let own_reservations = store::slug_reservation::of_organization(feed, *organization_id).await?;
    let old = own_reservations.iter().find(|it| it.kind == ReservationType::Primary && it.slug != *slug);
    // An organization never has two primary slugs, so the old one goes first.
    if let Some(old) = old {
        if rename.keep_alias {
            let alias = ReservationType::VanityAlias;
            store::slug_reservation::set_type(feed, &old.slug, alias, now).await?;
        } else {
            store::slug_reservation::delete_slug(feed, &old.slug).await?;
        }
    }
    store::slug_reservation::set_type(feed, slug, ReservationType::Primary, now).await?;
    // In the feed the new slug comes first, so that no reader sees an organization without a primary slug.
    feed.append_upserts(Selection::Slug(slug)).await?;
    match old {
        Some(old) if rename.keep_alias => feed.append_upserts(Selection::Slug(&old.slug)).await?,
        Some(old) => feed.append_removed(old).await?,
        None => {}
    }
    Ok(())
}

/// Ends a rename in flight without doing it. Returns how many slugs this freed: 0 or 1.
pub(crate) async fn refuse(
    feed: &mut FeedTransaction<'_>,
    rename: &Rename,
    refusal: &Refusal,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    let Rename { organization_id, slug, .. } = rename;
    rename::refuse(feed, rename.operation_id, refusal, now).await?;
    let own_reservations = store::slug_reservation::of_organization(feed, *organization_id).await?;
    let own = own_reservations.iter().find(|reservation| reservation.slug == *slug);
    if own.is_some_and(|own| own.kind != ReservationType::TemporaryRenameAlias) {
        // The slug was an alias before the rename, and stays one.
        store::slug_reservation::release_alias_of(feed, slug).await?;
        feed.append_upserts(Selection::Slug(slug)).await?;
        return Ok(0);
    }
    feed.append_removals(Selection::Slug(slug)).await?;
    store::slug_reservation::delete_slug(feed, slug).await?;
    Ok(i64::from(own.is_some()))
}
