//! Compares the region's organizations with what control stores for them, reports what differs, and repairs it.
//!
//! Both sides are read by organization id, page by page. Organizations that seem to differ are read again until two
//! reads agree ([`observe`]). The differences are a function of what was read ([`difference`]). A repair is one call to
//! control or one transaction, and each of these can be repeated ([`repair`]). It counts as done when the difference is
//! no longer found.
//!
//! | died after | what is left | what the next comparison does |
//! | --- | --- | --- |
//! | reserving slugs | temporary reservations of organizations that have those slugs | confirms them |
//! | confirming them | primary reservations, an outdated directory | reports |
//! | confirming or releasing temporary reservations | the others | the same with those |
//! | giving organizations control's slugs | nothing that differs | |
//! | releasing what control stored for organizations | nothing of them | |
//! | reporting | an up-to-date directory | |
//! | having control write and announce them | messages that wait for the product's workers | |
//! | announcing organizations to the product's workers | messages that wait for them | |
//! | beginning to revert an import again | an import in REVERTING | the next start continues it |
//! | giving up the replica | a cursor at 0, the old replica | the feed begins with a snapshot by itself |

mod background;
mod difference;
mod imports;
mod last;
mod lease;
mod observe;
mod product;
mod repair;

use std::sync::Arc;

use causeway_proto::control::v1::ReportComparisonRequest;
use causeway_silo::db::count;
use tokio::sync::{Mutex, mpsc, watch};

pub(crate) use self::difference::{Difference, DifferenceKind};
use self::{last::First, observe::Pages};
use crate::{context::Context, error::Error, follower::Follower, import::Engine, store::reconciliation};

/// What to do about differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only report them, and change nothing.
    Check,
    /// Repair those that lose nothing, whatever the cause is.
    SafeRepairs,
    /// Repair all that can be repaired.
    Repair,
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How many organizations were compared.
    pub(crate) compared: i64,
    /// How many differences were found.
    pub(crate) differences: i64,
    /// How many were repaired.
    pub(crate) repaired: i64,
    /// How many organizations changed at each read.
    pub(crate) moving: i64,
}

/// Compares one region with control. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reconciler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    follower: Follower,
    engine: Engine,
    /// One comparison at a time in this process.
    turn: Mutex<()>,
    /// The last comparison that came to its end here.
    last: watch::Sender<Option<ReportComparisonRequest>>,
}

impl Reconciler {
    pub(crate) fn new(context: &Context, follower: &Follower, engine: &Engine) -> Self {
        Self(Arc::new(Inner {
            context: context.clone(),
            follower: follower.clone(),
            engine: engine.clone(),
            turn: Mutex::default(),
            last: watch::Sender::new(None),
        }))
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    /// The last comparison that came to its end in this process, without the name of the region.
    pub(crate) fn last(&self) -> watch::Receiver<Option<ReportComparisonRequest>> {
        self.0.last.subscribe()
    }

    fn follower(&self) -> &Follower {
        &self.0.follower
    }

    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Compares all organizations and sends what differs, page by page. Ends after a page if the receiver is gone.
    ///
    /// # Errors
    /// If another comparison does not end in time, or control or the database cannot be reached. Repairs made until
    /// then stay.
    pub(crate) async fn run(
        &self,
        mode: Mode,
        told: mpsc::Sender<Vec<Difference>>,
    ) -> Result<Summary, Error> {
        let turn = self.take_turn().await?;
        let mut first = First::default();
        let outcome = self.compare_all(mode, &told, &mut first).await;
        self.give_turn_back(turn).await;
        // If the receiver is gone, not all were compared.
        if let Ok(summary) = &outcome
            && !told.is_closed()
        {
            let left = summary.differences - summary.repaired;
            self.context().metrics.comparisons.ended(self.context().env.now().timestamp(), left);
            self.0.last.send_replace(Some(first.report(summary, self.context().env.now())));
        }
        outcome
    }

    async fn compare_all(
        &self,
        mode: Mode,
        told: &mpsc::Sender<Vec<Difference>>,
        first: &mut First,
    ) -> Result<Summary, Error> {
        self.context().register().await?;
        let mut summary = Summary::default();
        let mut pages = Pages::default();
        while let Some(mut page) = self.next_page(&mut pages).await? {
            summary.compared += count(page.len())?;
            page.retain(|id, seen| !seen.differences(*id).is_empty());
            let settled = self.settle(page).await?;
            summary.moving += settled.moving;
            let found = self.repair_and_collect(mode, settled.found, settled.report_number).await?;
            first.keep(&found);
            if !summary.add(found, told).await? {
                return Ok(summary);
            }
            self.renew().await?;
        }
        if !self.compare_imports(mode, &mut summary, told, first).await? {
            return Ok(summary);
        }
        let mut after = 0;
        loop {
            let twice = reconciliation::duplicate_slugs(&self.context().db, after, 1_000).await?;
            let Some((_, last, _)) = twice.last() else { return Ok(summary) };
            after = *last;
            let found: Vec<Difference> =
                twice.into_iter().map(|(slug, one, other)| slug_twice(slug, one, other)).collect();
            first.keep(&found);
            if !summary.add(found, told).await? {
                return Ok(summary);
            }
        }
    }
}

impl Summary {
    /// Counts the differences and sends them. `false` if the receiver is gone.
    async fn add(
        &mut self,
        found: Vec<Difference>,
        told: &mpsc::Sender<Vec<Difference>>,
    ) -> Result<bool, Error> {
        self.differences += count(found.len())?;
        self.repaired += count(found.iter().filter(|it| it.repaired).count())?;
        Ok(!told.is_closed() && (found.is_empty() || told.send(found).await.is_ok()))
    }
}

/// The difference that two organizations of the region have the same slug, ignoring case.
pub(crate) fn slug_twice(slug: String, one: i64, other: i64) -> Difference {
    Difference {
        kind: DifferenceKind::SlugTwice,
        organization_id: one,
        message: format!("organizations {one} and {other} are both `{slug}`, if case does not matter"),
        remedy: "give one of them another slug in the region".to_owned(),
        slug: Some(slug),
        control_slug: None,
        repaired: false,
        repair: None,
    }
}
