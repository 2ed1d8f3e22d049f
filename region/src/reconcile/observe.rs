//! Reads organizations on both sides, until two readings agree.
//!
//! Control is read first, and the region after it. What an import or a rename has reserved is noted in the region before
//! control is asked for it, so a reservation that somebody works on is known as such. Anything else that moves in between
//! differs when it is read again.

use std::collections::{BTreeMap, VecDeque};

use causeway_proto::control::v1::HeldOrganization;

use super::{
    Reconciler,
    difference::{Difference, DifferenceKind, Observation},
};
use crate::{
    error::Error,
    store::{reconciliation, replica},
};

/// Organizations of a page. The contract has no larger ones.
const PAGE: usize = 1_000;
/// How often organizations are looked at until they are the same twice.
const LOOKS: i64 = 6;

/// Organizations in the order of their ids, from both sides, a page at a time.
#[derive(Debug, Default)]
pub(super) struct Pages {
    after: i64,
    /// What control holds, and has not been compared yet.
    held: VecDeque<HeldOrganization>,
    /// Of the next page of it; `None` before the first.
    token: Option<String>,
}

/// What one reading of both sides has found.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) seen: BTreeMap<i64, Observation>,
    /// The region has not yet heard all that control had told when it was read.
    pub(super) behind: bool,
}

/// The outcome of reading until nothing changes.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The organizations that differ.
    pub(super) found: Vec<(i64, Observation)>,
    /// How many changed each time, or had not been heard of yet.
    pub(super) moving: i64,
}

impl Pages {
    fn is_over(&self) -> bool {
        self.token.as_ref().is_some_and(String::is_empty)
    }
}

impl Reconciler {
    /// The organizations that come next, as they are seen at first; `None` behind the last ones.
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
        let rows = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let mut ids = reconciliation::ids(&context.db, pages.after, rows).await?;
        // Up to where both sides are known.
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
        let here = reconciliation::here(&context.db, ids).await?;
        Ok(Some(
            here.into_iter().map(|(id, here)| (id, Observation { held: held.remove(&id), here })).collect(),
        ))
    }

    /// A look at some organizations.
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
        let here = reconciliation::here(&context.db, ids).await?;
        let seen =
            here.into_iter().map(|(id, here)| (id, Observation { held: held.remove(&id), here })).collect();
        Ok(Snapshot { seen, behind: cursor.version < version })
    }

    /// Looks at organizations that seem to differ until each is the same twice.
    pub(super) async fn settle(&self, mut suspects: BTreeMap<i64, Observation>) -> Result<Settled, Error> {
        let mut settled = Settled::default();
        for look in 1..=LOOKS {
            if suspects.is_empty() {
                return Ok(settled);
            }
            self.context().pause(look).await?;
            let sight = self.observe(suspects.keys().copied().collect()).await?;
            let mut again = BTreeMap::new();
            for (id, seen) in sight.seen {
                let differences = seen.differences(id);
                let mut of_replica = differences.iter().map(|it| it.kind == DifferenceKind::ReplicaDiffers);
                // What the region has yet to hear is no difference. If that takes long, other differences are told.
                let lags = sight.behind
                    && if look < LOOKS { of_replica.any(|it| it) } else { of_replica.all(|it| it) };
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
        settled.moving = i64::try_from(suspects.len()).unwrap_or(i64::MAX);
        Ok(settled)
    }

    /// Looks at organizations of which something has been repaired until nothing of that is left, or it has been looked
    /// at often. Answers what is left of those that were not as they should be, as it was last seen.
    pub(super) async fn observe_again(
        &self,
        repaired: &[Difference],
    ) -> Result<BTreeMap<i64, Observation>, Error> {
        let mut ids: Vec<i64> = repaired.iter().map(|difference| difference.organization_id).collect();
        ids.dedup();
        let mut left = BTreeMap::new();
        for look in 1..=LOOKS {
            let sight = self.observe(ids.clone()).await?;
            left = sight.seen.into_iter().filter(|(id, seen)| !seen.differences(*id).is_empty()).collect();
            let waits = repaired.iter().any(|difference| is_left(difference, &left));
            if !waits {
                break;
            }
            self.context().pause(look).await?;
            ids = left.keys().copied().collect();
        }
        Ok(left)
    }
}

/// Whether a difference is among what is left.
pub(super) fn is_left(difference: &Difference, left: &BTreeMap<i64, Observation>) -> bool {
    let id = difference.organization_id;
    left.get(&id).is_some_and(|seen| seen.differences(id).iter().any(|it| it.kind == difference.kind))
}
