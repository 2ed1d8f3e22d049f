//! Ids of organizations, teams and projects are unique across regions. Control gives them out in blocks, and hears of each
//! region which ones its tables hold, so that no block has an id that is in use anywhere.
//!
//! The counter of a model never lies below an id up to [`FOLLOWED`] that a region holds, was leased, or reserved a slug
//! for. What lies above is stepped around: one absurd id does not use up those of all.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the region has read its tables | nothing | it registers again |
//! | control's commit | the counter, the ranges and the conflicts, all of it | registered again, which changes nothing |
//! | the answer, before the region's log | the same | it registers at its next start, and says so then |
//! | a lease, not heard by the region | a block that nobody uses | the region asks for another one |
//! | a lease, before the region looks into its table | the same | the same |

use std::collections::HashMap;

use causeway_proto::limits::MAX_ID_RANGES;
use causeway_relocation::catalog::ORGANIZATION;
use causeway_silo::db::{DbError, Tx};

use crate::{
    Error,
    model::region::{ConflictKind, FOLLOWED, HeldIds, IdConflict, IdRange, MAX_ID},
    store::{id_lease, region_ids as store},
};

/// The most conflicts of one model that are told.
pub const MAX_CONFLICTS: usize = 100;

/// Refuses what is not a list of ranges.
pub(crate) fn check(index: usize, held: &HeldIds) -> Result<(), Error> {
    let field = || format!("held_ids[{index}].ranges");
    if held.ranges.len() > MAX_ID_RANGES {
        return Err(Error::invalid(field(), format!("at most {MAX_ID_RANGES} of one model")));
    }
    let mut before = 0;
    for range in &held.ranges {
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

/// Takes in which ids of a model a region holds, and says which of them are not its own.
pub(crate) async fn take_in(tx: &mut Tx, region: &str, held: &HeldIds) -> Result<Vec<IdConflict>, DbError> {
    let HeldIds { model, ranges, is_exact } = held;
    // Nobody leases ids of the model until this is committed.
    let counter = id_lease::lock_counter(tx, model).await?;
    let mut conflicts = Vec::new();
    if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
        let within = IdRange { first: first.first, last: last.last };
        let mut found = |kind, others: Vec<(String, IdRange)>| {
            let overlaps = others.into_iter().flat_map(|(other, ids)| {
                let from = ranges.partition_point(|range| range.last < ids.first);
                let overlapping = ranges.iter().skip(from).take_while(move |range| range.first <= ids.last);
                overlapping.map(move |range| IdConflict {
                    model: model.clone(),
                    ids: IdRange { first: range.first.max(ids.first), last: range.last.min(ids.last) },
                    region: other.clone(),
                    kind,
                })
            });
            conflicts.extend(overlaps.take(MAX_CONFLICTS));
        };
        found(ConflictKind::Leased, id_lease::of_others(tx, region, model, within).await?);
        found(ConflictKind::Held, store::held_by_others(tx, region, model, within).await?);
        if model == ORGANIZATION {
            let most = i64::try_from(MAX_CONFLICTS).unwrap_or(i64::MAX);
            found(ConflictKind::Reserved, store::reserved_by_others(tx, region, ranges, most).await?);
        }
        let highest = ranges.iter().map(|range| range.last.min(FOLLOWED)).zip(ranges).rev();
        let highest = highest.filter(|(_, range)| range.first <= FOLLOWED).map(|(last, _)| last).next();
        if let Some(highest) = highest.filter(|highest| *highest > counter) {
            id_lease::move_counter(tx, model, highest).await?;
        }
    }
    conflicts.truncate(MAX_CONFLICTS);
    store::replace(tx, region, model, ranges, *is_exact).await?;
    // What a region holds of an inexact range it must look up itself.
    store::replace_conflicts(tx, region, model, if *is_exact { &conflicts } else { &[] }).await?;
    Ok(conflicts)
}

/// Which of these organizations belong to other regions, and to which: those for which they hold a reservation, and those
/// in a block that was leased to them.
pub(crate) async fn of_others(
    tx: &mut Tx,
    region: &str,
    organization_ids: &[i64],
) -> Result<HashMap<i64, String>, DbError> {
    let (Some(first), Some(last)) = (organization_ids.iter().min(), organization_ids.iter().max()) else {
        return Ok(HashMap::new());
    };
    let mut others = store::reserved_elsewhere(tx, region, organization_ids.to_vec()).await?;
    let within = IdRange { first: *first, last: *last };
    let leased = id_lease::of_others(tx, region, ORGANIZATION, within).await?;
    for id in organization_ids {
        // Blocks do not overlap.
        let before = leased.partition_point(|(_, block)| block.first <= *id);
        if let Some((other, block)) = before.checked_sub(1).and_then(|at| leased.get(at))
            && *id <= block.last
        {
            others.insert(*id, other.clone());
        }
    }
    Ok(others)
}

/// Refuses organizations that belong to another region. The counter is above those that it takes from then on; until the
/// transaction ends, nobody leases one of them.
pub(crate) async fn refuse_of_others(
    tx: &mut Tx,
    region: &str,
    organization_ids: &[i64],
) -> Result<(), Error> {
    raise_above(tx, organization_ids).await?;
    look_for_others(tx, region, organization_ids).await
}

/// Puts the counter above these organizations. Until the transaction ends, nobody leases one of them if it had to be moved.
pub(crate) async fn raise_above(tx: &mut Tx, organization_ids: &[i64]) -> Result<(), DbError> {
    let highest = organization_ids.iter().copied().filter(|id| *id <= FOLLOWED).max();
    // Those of an import are leased, so that no lease waits for it here.
    if let Some(highest) = highest
        && !id_lease::is_reached(tx, ORGANIZATION, highest).await?
    {
        id_lease::raise_counter(tx, ORGANIZATION, highest).await?;
    }
    Ok(())
}

/// Refuses organizations that belong to another region, and changes nothing.
pub(crate) async fn look_for_others(
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

/// The first of `count` ids above the counter of a model of which none is known to be in use; `None` if there are no more.
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
        // Below, nothing is in use above the counter.
        if last <= FOLLOWED {
            return Ok(Some(first));
        }
        match store::in_use(tx, model, IdRange { first, last }).await? {
            Some(used) => first = used.max(first).saturating_add(1),
            None => return Ok(Some(first)),
        }
    }
}
