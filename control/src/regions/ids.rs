//! Ids of organizations, teams and projects are unique across regions. Control leases them in blocks. Each region
//! reports which ids its tables have, so that no block has an id that is in use anywhere.
//!
//! The counter of a model is never below an id up to [`MAX_COUNTER_FROM_IDS_IN_USE`] that a region has reported, was leased, or has
//! reserved a slug for. Control skips ids in use above that: one absurd id does not use up the ids of all.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the region has read its tables | nothing | the region registers again |
//! | control's commit | all of the counter, the ranges and the conflicts | it registers again, which changes nothing |
//! | the answer, before the region has logged it | the same | it registers at its next start, and logs it then |
//! | a lease, answer lost | a block that nobody uses | the region asks for another block |
//! | a lease, before the region has checked its table | the same | the same |

use std::collections::HashMap;

use causeway_proto::limits::{MAX_CONFLICTS, MAX_ID_RANGES};
use causeway_relocation::catalog::ORGANIZATION;
use causeway_silo::db::{DbError, Tx, count};

use crate::{
    Error,
    model::region::{ConflictKind, HeldIds, IdConflict, IdRange, MAX_COUNTER_FROM_IDS_IN_USE, MAX_ID},
    store::{id_lease, region_ids as store},
};

/// The most blocks or ranges of other regions that one query reads. They are compared page by page, until there are as
/// many conflicts as are reported.
const PAGE: i64 = 1_000;

/// Refuses ranges that are too many, out of bounds, not ascending, or that overlap.
pub(crate) fn check(index: usize, held_ids: &HeldIds) -> Result<(), Error> {
    let field = || format!("held_ids[{index}].ranges");
    if held_ids.ranges.len() > MAX_ID_RANGES {
        return Err(Error::invalid(field(), format!("at most {MAX_ID_RANGES} of one model")));
    }
    let mut before = 0;
    for range in &held_ids.ranges {
        if range.first <= before || range.last < range.first || range.last > MAX_ID {
            return Err(Error::invalid(
                field(),
                "must be above 0 and below 2^53, ascending, without overlaps",
            ));
        }
        before = range.last;
    }
    Ok(())
}

/// Stores which ids of a model a region's table has, and returns those that conflict with other regions.
pub(crate) async fn store_held_ids(
    tx: &mut Tx,
    region: &str,
    held_ids: &HeldIds,
) -> Result<Vec<IdConflict>, DbError> {
    let HeldIds { model, ranges, is_exact } = held_ids;
    // Until this transaction ends, nobody else leases ids of the model.
    let counter = id_lease::lock_counter(tx, model).await?;
    let mut conflicts = Vec::new();
    if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
        let within = IdRange { first: first.first, last: last.last };
        let overlaps = |kind, others: &[(String, IdRange)]| -> Vec<IdConflict> {
            let overlaps = others.iter().flat_map(|(other, ids)| {
                let from = ranges.partition_point(|range| range.last < ids.first);
                let overlapping = ranges.iter().skip(from).take_while(move |range| range.first <= ids.last);
                overlapping.map(move |range| IdConflict {
                    model: model.clone(),
                    ids: IdRange { first: range.first.max(ids.first), last: range.last.min(ids.last) },
                    region: other.clone(),
                    kind,
                })
            });
            overlaps.take(MAX_CONFLICTS).collect()
        };
        let mut after = 0;
        loop {
            let blocks = id_lease::of_others(tx, region, model, within, after, PAGE).await?;
            conflicts.extend(overlaps(ConflictKind::Leased, &blocks));
            match blocks.last() {
                Some((_, last)) if conflicts.len() < MAX_CONFLICTS => after = last.first,
                _ => break,
            }
        }
        let mut after = (0, String::new());
        while conflicts.len() < MAX_CONFLICTS {
            let (last_id, other) = (after.0, after.1.as_str());
            let held_ids = store::held_by_others(tx, region, model, within, (last_id, other), PAGE).await?;
            conflicts.extend(overlaps(ConflictKind::Held, &held_ids));
            match held_ids.last() {
                Some((other, last)) => after = (last.last, other.clone()),
                None => break,
            }
        }
        if model == ORGANIZATION {
            let reserved = store::reserved_by_others(tx, region, ranges, count(MAX_CONFLICTS)?).await?;
            conflicts.extend(overlaps(ConflictKind::Reserved, &reserved));
        }
        let highest =
            ranges.iter().map(|range| range.last.min(MAX_COUNTER_FROM_IDS_IN_USE)).zip(ranges).rev();
        let highest = highest
            .filter(|(_, range)| range.first <= MAX_COUNTER_FROM_IDS_IN_USE)
            .map(|(last, _)| last)
            .next();
        if let Some(highest) = highest.filter(|highest| *highest > counter) {
            id_lease::move_counter(tx, model, highest).await?;
        }
    }
    conflicts.truncate(MAX_CONFLICTS);
    store::replace(tx, region, model, ranges, *is_exact).await?;
    // An inexact range also has ids that the region does not have, so the region must check such conflicts itself.
    store::replace_conflicts(tx, region, model, if *is_exact { &conflicts } else { &[] }).await?;
    Ok(conflicts)
}

/// Which of these organizations belong to other regions, each with its region: those for which another region has a
/// reservation, and those in a block that was leased to another region.
pub(crate) async fn of_others(
    tx: &mut Tx,
    region: &str,
    organization_ids: &[i64],
) -> Result<HashMap<i64, String>, DbError> {
    if organization_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut others = store::reserved_elsewhere(tx, region, organization_ids.to_vec()).await?;
    others.extend(id_lease::leased_elsewhere(tx, region, ORGANIZATION, organization_ids.to_vec()).await?);
    Ok(others)
}

/// Refuses organizations that belong to another region. For the others, it first raises the counter, so that no lease
/// gets one of their ids: neither later, nor before the transaction ends.
pub(crate) async fn refuse_of_others(
    tx: &mut Tx,
    region: &str,
    organization_ids: &[i64],
) -> Result<(), Error> {
    raise_above(tx, organization_ids).await?;
    check_not_of_others(tx, region, organization_ids).await
}

/// Raises the counter, so that no later lease gets the id of one of these organizations. If the counter has to move,
/// nobody leases one of the ids before the transaction ends either.
pub(crate) async fn raise_above(tx: &mut Tx, organization_ids: &[i64]) -> Result<(), DbError> {
    let highest = organization_ids.iter().copied().filter(|id| *id <= MAX_COUNTER_FROM_IDS_IN_USE).max();
    // The ids of an import are leased, so the counter is there already, and no lease has to wait for this transaction.
    if let Some(highest) = highest
        && !id_lease::is_reached(tx, ORGANIZATION, highest).await?
    {
        id_lease::raise_counter(tx, ORGANIZATION, highest).await?;
    }
    Ok(())
}

/// Refuses organizations that belong to another region. Changes nothing.
pub(crate) async fn check_not_of_others(
    tx: &mut Tx,
    region: &str,
    organization_ids: &[i64],
) -> Result<(), Error> {
    let others = of_others(tx, region, organization_ids).await?;
    match others.into_iter().min() {
        Some((organization_id, region)) => Err(Error::OrganizationIdTaken { organization_id, region }),
        None => Ok(()),
    }
}

/// Finds `count` consecutive ids above the counter of a model, none of them known to be in use, and returns the first.
/// `None` if no such block is left.
pub(crate) async fn free_block(
    tx: &mut Tx,
    model: &str,
    counter: i64,
    count: i64,
) -> Result<Option<i64>, DbError> {
    let mut first = counter.saturating_add(1);
    loop {
        let last = first.saturating_add(count - 1);
        if last > MAX_ID {
            return Ok(None);
        }
        // Up to `MAX_COUNTER_FROM_IDS_IN_USE`, no id above the counter is in use.
        if last <= MAX_COUNTER_FROM_IDS_IN_USE {
            return Ok(Some(first));
        }
        match store::in_use(tx, model, IdRange { first, last }).await? {
            Some(used) => first = used.max(first).saturating_add(1),
            None => return Ok(Some(first)),
        }
    }
}
