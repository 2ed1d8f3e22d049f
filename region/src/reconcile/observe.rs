//! Reads organizations on both sides, until two reads agree.
//!
//! Control is read first, then the region. An import notes its organizations in the region before it asks control to
//! reserve slugs, and control reports which renames are in progress. So a reservation that an import or a rename works
//! on is recognized. Anything else that changes between the two sides' reads differs when it is read again.

use std::collections::{BTreeMap, VecDeque};

use causeway_proto::{control::v1::HeldOrganization, limits::MAX_NAMES_PER_CALL};
use causeway_silo::db::count;

use super::{
    Reconciler,
    difference::{Difference, DifferenceKind, Observation},
};
use crate::{
    error::Error,
    store::{reconciliation, replica},
};

/// The organizations of a page, as many as the contract allows.
const PAGE: usize = MAX_NAMES_PER_CALL;
/// How often organizations that seem to differ are read again, at most.
const MAX_READS: i64 = 6;

/// Organizations of both sides, ordered by id, a page at a time.
#[derive(Debug, Default)]
pub(super) struct Pages {
    after: i64,
    /// Organizations from control that have not been compared yet.
    held: VecDeque<HeldOrganization>,
    /// The token of control's next page; `None` before the first page, empty after the last one.
    token: Option<String>,
}

/// The result of one read of both sides.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) seen: BTreeMap<i64, Observation>,
    /// Whether the region has not yet received all that control's feed had when control was read.
    pub(super) behind: bool,
}

/// The result of reading until nothing changes.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The organizations that differ.
    pub(super) found: Vec<(i64, Observation)>,
    /// The number for reports about them, taken before they were read; 0 if there are none.
    pub(super) report_number: i64,
    /// How many organizations changed at each read, or were still ahead of what the region had received.
    pub(super) moving: i64,
}

impl Pages {
    fn is_over(&self) -> bool {
        self.token.as_ref().is_some_and(String::is_empty)
    }
}

impl Reconciler {
    /// The next organizations, as the first read shows them; `None` after the last ones.
    pub(super) async fn next_page(
        &self,
        pages: &mut Pages,
    ) -> Result<Option<BTreeMap<i64, Observation>>, Error> {
        let context = self.context();
        if pages.after == i64::MAX {
            return Ok(None);
        }
        while pages.held.is_empty() && !pages.is_over() {
            let token = pages.token.take().unwrap_or_default();
            let page = context.ask(context.control.list_held_organizations(token, Vec::new())).await?;
            pages.held.extend(page.organizations);
            pages.token = Some(page.next_page_token);
        }
        let rows = count(PAGE)?;
        let mut ids = reconciliation::ids(&context.db, pages.after, rows).await?;
        // Up to this id, both sides are known.
        let held_up_to = pages.held.back().filter(|_| !pages.is_over()).map(|held| held.organization_id);
        let ids_up_to = ids.last().copied().filter(|_| ids.len() == PAGE);
        let up_to = held_up_to.unwrap_or(i64::MAX).min(ids_up_to.unwrap_or(i64::MAX));
        ids.retain(|id| *id <= up_to);
        let mut held = BTreeMap::new();
        while let Some(next) = pages.held.pop_front_if(|held| held.organization_id <= up_to) {
            held.insert(next.organization_id, next);
        }
        ids.extend(held.keys());
        ids.sort_unstable();
        ids.dedup();
        pages.after = up_to;
        let here = reconciliation::region_state(&context.db, context.product_db.as_ref(), ids).await?;
        Ok(Some(
            here.into_iter().map(|(id, here)| (id, Observation { held: held.remove(&id), here })).collect(),
        ))
    }

    /// Reads organizations on both sides.
    pub(super) async fn observe(&self, ids: Vec<i64>) -> Result<Snapshot, Error> {
        let context = self.context();
        let mut held = BTreeMap::new();
        let mut version = 0;
        for ids in ids.chunks(PAGE) {
            let mut token = String::new();
            loop {
                let page = context.ask(context.control.list_held_organizations(token, ids.to_vec())).await?;
                version = version.max(page.feed_version);
                held.extend(page.organizations.into_iter().map(|held| (held.organization_id, held)));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
        }
        let cursor = replica::cursor(&context.db).await?;
        let here = reconciliation::region_state(&context.db, context.product_db.as_ref(), ids).await?;
        let seen =
            here.into_iter().map(|(id, here)| (id, Observation { held: held.remove(&id), here })).collect();
        Ok(Snapshot { seen, behind: cursor.version < version })
    }

    /// Reads organizations that seem to differ until two reads of each agree.
    pub(super) async fn settle(&self, mut suspects: BTreeMap<i64, Observation>) -> Result<Settled, Error> {
        let mut settled = Settled::default();
        if !suspects.is_empty() {
            settled.report_number = self.context().next_report_number().await?;
        }
        for attempt in 1..=MAX_READS {
            if suspects.is_empty() {
                return Ok(settled);
            }
            self.context().pause(attempt).await?;
            let sight = self.observe(suspects.keys().copied().collect()).await?;
            let mut again = BTreeMap::new();
            for (id, seen) in sight.seen {
                let differences = seen.differences(id);
                let mut of_replica = differences.iter().map(|it| it.kind == DifferenceKind::ReplicaDiffers);
                // What the region has yet to receive is not a difference. If that takes long, other differences are
                // reported.
                let lags = sight.behind
                    && if attempt < MAX_READS { of_replica.any(|it| it) } else { of_replica.all(|it| it) };
                if differences.is_empty() {
                    continue;
                }
                if suspects.get(&id) == Some(&seen) && !lags {
                    settled.found.push((id, seen));
                } else {
                    again.insert(id, seen);
                }
            }
            suspects = again;
        }
        settled.moving = count(suspects.len())?;
        Ok(settled)
    }

    /// Reads organizations with repairs until none of the repaired differences is left, or [`MAX_READS`] times. Returns the
    /// organizations that still differ, as they were last read.
    pub(super) async fn observe_again(
        &self,
        repaired: &[Difference],
    ) -> Result<BTreeMap<i64, Observation>, Error> {
        let mut ids: Vec<i64> = repaired.iter().map(|difference| difference.organization_id).collect();
        ids.dedup();
        let mut left = BTreeMap::new();
        for attempt in 1..=MAX_READS {
            let sight = self.observe(ids.clone()).await?;
            left = sight.seen.into_iter().filter(|(id, seen)| !seen.differences(*id).is_empty()).collect();
            let waits = repaired.iter().any(|difference| is_left(difference, &left));
            if !waits {
                break;
            }
            self.context().pause(attempt).await?;
            ids = left.keys().copied().collect();
        }
        Ok(left)
    }
}

/// Whether the last read still shows a difference.
pub(super) fn is_left(difference: &Difference, left: &BTreeMap<i64, Observation>) -> bool {
    let id = difference.organization_id;
    left.get(&id).is_some_and(|seen| seen.differences(id).iter().any(|it| it.kind == difference.kind))
}
