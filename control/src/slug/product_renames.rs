//! Renames that the product has made by itself, in a database that is the product's: its reservation of an organization
//! and control's have different slugs. The product is right, because the organization already has the new slug in its
//! region. Control takes it over as a rename that is confirmed at once, so that the feed, the replicas and the directory
//! follow.
//!
//! All of it is one transaction for each organization. If the process dies, the next check finds the others.
//!
//! Organizations that have exchanged their slugs wait for each other. Then one of them gets a temporary slug
//! that nobody wants. The others can follow, and then it can follow them. If the process dies in between, the
//! next check finds that the temporary slug is wrong and that the slugs of the others are free.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_audit::{Call, Subject};
use causeway_silo::{
    db::Db,
    env::{BASE36, Environment},
    transact,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{renames, rules};
use crate::{
    Error,
    feed::Feeds,
    model::{
        rename::{Rename, RenameState},
        reservation::{Candidates, Selection},
    },
    store::{
        product_db::Renamed, product_tables::ProductDb, rename, slug_operation, slug_reservation as store,
    },
};

/// How many renames are read at once.
const PAGE: i64 = 1_000;
/// The pause before a check that somebody asks for, so that callers cannot make control do nothing else.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// How long a caller waits for a check.
const PATIENCE: Duration = Duration::from_secs(5);
/// The length of the random end of a temporary slug: so long that no other slug is equal.
const ASIDE: usize = 12;

/// Follows the renames of a product whose database is control's. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProductRenames {
    db: Db,
    env: Environment,
    feeds: Feeds,
    /// The checks for renames, which callers may wait for.
    checks: Arc<ProductChecks>,
}

impl ProductRenames {
    pub(crate) fn new(db: Db, env: Environment, feeds: Feeds) -> Self {
        Self { db, env, feeds, checks: Arc::default() }
    }

    /// Takes over the renames that the product has made. Returns those that cannot be taken over: control is renaming the
    /// organization as well, or another one has the slug. Does nothing if the database is not the product's.
    ///
    /// # Errors
    /// If the database fails.
    async fn follow_product(&self) -> Result<Vec<Renamed>, Error> {
        let Some(product_db) = self.feeds.product_db() else { return Ok(Vec::new()) };
        loop {
            let (mut after, mut left, mut blocked, mut followed) = (0, Vec::new(), Vec::new(), false);
            loop {
                let page = product_db.renamed(&self.db, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.organization_id;
                for renamed in page {
                    match causeway_audit::scope(self.own_call(), self.follow(product_db, &renamed)).await? {
                        Outcome::Followed => followed = true,
                        Outcome::InFlight => left.push(renamed),
                        Outcome::Taken => {
                            left.push(renamed.clone());
                            blocked.push(renamed);
                        }
                        Outcome::Gone => {}
                    }
                }
            }
            // A slug that was free only after another rename had been followed.
            if followed && !left.is_empty() {
                continue;
            }
            match one_of_a_circle(&blocked) {
                Some(renamed)
                    if causeway_audit::scope(self.own_call(), self.step_aside(product_db, renamed))
                        .await? => {}
                _ => return Ok(left),
            }
        }
    }

    /// What control does by itself here, for the audit log.
    fn own_call(&self) -> Call {
        Call::own(self.env.uuid(), "control", "follow rename of product")
    }

    /// Does so again and again, and soon if somebody asks.
    pub(crate) async fn follow_product_forever(self) {
        let mut logged: Vec<Renamed> = Vec::new();
        let interval = self.feeds.options().product_interval;
        loop {
            tokio::select! {
                () = sleep(interval) => {}
                () = self.checks.asked.notified() => sleep(interval.min(LEAST_PAUSE)).await,
            }
            let check = self.checks.begin();
            let outcome = self.follow_product().await;
            match outcome {
                Ok(left) => {
                    self.checks.end(check);
                    for renamed in left.iter().filter(|renamed| !logged.contains(renamed)) {
                        let Renamed { organization_id, region, slug, previous } = renamed;
                        tracing::warn!(
                            organization_id,
                            region,
                            slug,
                            previous,
                            "the product has renamed an organization, and control keeps the old slug: it is renaming the \
                             organization as well, or another organization has the new slug"
                        );
                    }
                    logged = left;
                }
                Err(error) => tracing::warn!(%error, "control cannot check for renames of the product"),
            }
        }
    }

    /// Waits until a check for the product's renames has ended that began after this call, but not for long. However many
    /// callers ask, there is one check for all of them, and a short pause before each. Returns at once if the database is
    /// not the product's.
    pub(crate) async fn product_is_followed(&self) {
        if self.feeds.product_db().is_some() && timeout(PATIENCE, self.checks.next()).await.is_err() {
            tracing::debug!("a check for renames of the product takes long; nobody waits for it any more");
        }
    }

    /// Gives an organization a slug for the moment that nobody wants. Returns `false` if it has changed meanwhile.
    async fn step_aside(&self, product_db: &ProductDb, renamed: &Renamed) -> Result<bool, Error> {
        let Renamed { organization_id, region, previous, .. } = renamed;
        let random = |length| self.env.characters(BASE36, length);
        let aside = rules::with_suffix(previous, ASIDE, random);
        transact!(Error, self.feeds.of_control(region), |feed| {
            if rename::in_flight(feed, *organization_id).await?.is_some()
                || !product_db.is_renamed(feed, renamed).await?
            {
                return Ok(false);
            }
            let own_reservations = store::of_organization(feed, *organization_id).await?;
            let Some(old) = own_reservations.iter().find(|own| own.slug == *previous) else {
                return Ok(false);
            };
            if !store::step_aside(feed, *organization_id, previous, &aside).await? {
                return Ok(false);
            }
            // The new slug comes first, so that no reader sees an organization without a primary slug.
            feed.append_upserts(Selection::Slug(&aside)).await?;
            feed.append_removed(old).await?;
            causeway_audit::append(feed, &Subject::organization(*organization_id), self.env.now()).await?;
            true
        })
    }

    /// Takes over one rename.
    async fn follow(&self, product_db: &ProductDb, renamed: &Renamed) -> Result<Outcome, Error> {
        let Renamed { organization_id, region, slug, previous } = renamed;
        let (now, operation_id) = (self.env.now(), self.env.uuid());
        let outcome = transact!(Error, self.feeds.of_control(region), |feed| {
            // One of control's own is under way: when it ends, the next check finds what is left to do.
            if rename::in_flight(feed, *organization_id).await?.is_some() {
                return Ok(Outcome::InFlight);
            }
            if !product_db.is_renamed(feed, renamed).await? {
                return Ok(Outcome::Gone);
            }
            let own_reservations = store::of_organization(feed, *organization_id).await?;
            if !own_reservations.iter().any(|own| own.slug == *slug) {
                let candidates = Candidates::one(*organization_id, slug);
                if store::take_free(feed, operation_id, candidates, now).await?.is_empty() {
                    return Ok(Outcome::Taken);
                }
            }
            let rename = Rename {
                operation_id,
                region: region.clone(),
                organization_id: *organization_id,
                desired_slug: slug.clone(),
                require_exact: true,
                keep_alias: false,
                previous_slug: previous.clone(),
                state: RenameState::Pending,
                slug: slug.clone(),
            };
            rename::insert(feed, &rename, now).await?;
            slug_operation::insert(feed, operation_id, [0; 32], 1, None, now).await?;
            renames::confirm(feed, &rename, now).await?;
            slug_operation::set_confirmed(feed, operation_id, 1, now).await?;
            let subject = Subject::organization(*organization_id).with_operation(operation_id);
            causeway_audit::append(feed, &subject, now).await?;
            Outcome::Followed
        })?;
        if outcome == Outcome::Followed {
            tracing::info!(
                organization_id,
                region,
                slug,
                previous,
                "the product has renamed an organization, and control has followed"
            );
        }
        Ok(outcome)
    }
}

/// The checks for renames of the product, which one task makes, numbered from 1.
#[derive(Debug, Default)]
struct ProductChecks {
    /// The number of the last one that has begun.
    begun: AtomicU64,
    /// The number of the last one that has ended.
    ended: watch::Sender<u64>,
    /// Somebody waits for the next one.
    asked: Notify,
}

impl ProductChecks {
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn end(&self, check: u64) {
        self.ended.send_replace(check);
    }

    /// Asks for a check, and waits for the end of one that begins after this call.
    async fn next(&self) {
        let mut ended = self.ended.subscribe();
        let next = self.begun.load(Ordering::SeqCst) + 1;
        self.asked.notify_one();
        // The sender lives as long as this.
        let _closed = ended.wait_for(|ended| *ended >= next).await;
    }
}

/// A rename of a circle, if these renames have one: each waits for the slug that the next one still has at control.
fn one_of_a_circle(blocked: &[Renamed]) -> Option<&Renamed> {
    let by_slug: HashMap<&str, &Renamed> =
        blocked.iter().map(|renamed| (renamed.previous.as_str(), renamed)).collect();
    let next = |renamed: &Renamed| by_slug.get(renamed.slug.as_str()).copied();
    blocked.iter().find(|first| {
        let mut at = next(first);
        // A circle without the first one has another member that finds it.
        for _ in blocked {
            match at {
                Some(renamed) if renamed.organization_id == first.organization_id => return true,
                Some(renamed) => at = next(renamed),
                None => return false,
            }
        }
        false
    })
}

/// What has become of a rename of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Control has taken it over.
    Followed,
    /// Control is renaming the organization as well.
    InFlight,
    /// Another organization has the slug at control.
    Taken,
    /// Another control has taken it over, or the product has renamed the organization again.
    Gone,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_caller_waits_for_a_check_that_begins_after_it_asked() {
        let product_checks = Arc::new(ProductChecks::default());
        let before = product_checks.begin();
        let waiting = tokio::spawn({
            let product_checks = Arc::clone(&product_checks);
            async move { product_checks.next().await }
        });
        product_checks.asked.notified().await;
        product_checks.end(before);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "that check may have read before the caller asked");
        let after = product_checks.begin();
        product_checks.end(after);
        waiting.await.expect("it ends");
    }
}
