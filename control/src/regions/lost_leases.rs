//! Puts leases back that control has forgotten because its database is an old copy: a region that has rows with ids which
//! may have been leased then was leased them.

use causeway_relocation::catalog::ORGANIZATION;
use causeway_silo::{
    db::{DbError, Tx},
    env::Environment,
};

use crate::{
    model::region::{HeldIds, IdRange},
    store::{era, region_ids},
};

/// How many blocks, ranges or reservations one query reads.
const PAGE: i64 = 1_000;

/// Stores leases for ids that are in a region's table and in no lease, if control may have leased them in a time that its
/// database does not know. The caller has locked the counter of the model. Ranges with gaps are left out, because another
/// region may have ids in the gaps. Ids that another region has too, or has reserved a slug for, are also left out: the
/// registration has reported the conflict, and people decide it.
pub(super) async fn put_back(
    tx: &mut Tx,
    env: &Environment,
    region: &str,
    held_ids: &HeldIds,
) -> Result<(), DbError> {
    if !held_ids.is_exact || held_ids.ranges.is_empty() {
        return Ok(());
    }
    for lost in era::lost_ids(tx, &held_ids.model).await? {
        let inside = |range: &IdRange| {
            let part = IdRange { first: range.first.max(lost.first), last: range.last.min(lost.last) };
            (part.first <= part.last).then_some(part)
        };
        let wanted: Vec<IdRange> = held_ids.ranges.iter().filter_map(inside).collect();
        if wanted.is_empty() {
            continue;
        }
        // Blocks that begin in the lost range were all put back: leases of later begin above it.
        let mut blocks: Vec<IdRange> = Vec::new();
        loop {
            let after = blocks.last().map_or(0, |block| block.first);
            let page = era::blocks(tx, &held_ids.model, lost, after, PAGE).await?;
            let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            blocks.extend(page);
            if is_last {
                break;
            }
        }
        let mut missing = without(&wanted, &blocks);
        missing = without(&missing, &held_by_others(tx, region, &held_ids.model, &missing).await?);
        if held_ids.model == ORGANIZATION {
            missing = without(&missing, &reserved_by_others(tx, region, &missing).await?);
        }
        let missing: Vec<_> = missing.into_iter().map(|range| (env.uuid(), range)).collect();
        era::put_leases_back(tx, region, &held_ids.model, &missing, env.now()).await?;
    }
    Ok(())
}

/// The ranges of other regions that overlap the whole of these ranges.
async fn held_by_others(
    tx: &mut Tx,
    region: &str,
    model: &str,
    ranges: &[IdRange],
) -> Result<Vec<IdRange>, DbError> {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(Vec::new()) };
    let within = IdRange { first: first.first, last: last.last };
    let mut all = Vec::new();
    let mut after = (0, String::new());
    loop {
        let (last_id, other) = (after.0, after.1.as_str());
        let page = region_ids::held_by_others(tx, region, model, within, (last_id, other), PAGE).await?;
        let Some((other, last)) = page.last() else { return Ok(merged(all)) };
        after = (last.last, other.clone());
        all.extend(page.into_iter().map(|(_, range)| range));
    }
}

/// The organizations in these ranges for which other regions have reservations.
async fn reserved_by_others(tx: &mut Tx, region: &str, ranges: &[IdRange]) -> Result<Vec<IdRange>, DbError> {
    let mut all = Vec::new();
    let mut rest = ranges.to_vec();
    while !rest.is_empty() {
        let page = region_ids::reserved_by_others(tx, region, &rest, PAGE).await?;
        let Some((_, last)) = page.last() else { break };
        let read = IdRange { first: 1, last: last.last };
        rest = without(&rest, &[read]);
        all.extend(page.into_iter().map(|(_, range)| range));
    }
    Ok(merged(all))
}

/// The same ids as ascending ranges without overlaps.
fn merged(mut ranges: Vec<IdRange>) -> Vec<IdRange> {
    ranges.sort_unstable_by_key(|range| range.first);
    let mut all: Vec<IdRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(before) if range.first <= before.last => before.last = before.last.max(range.last),
            _ => all.push(range),
        }
    }
    all
}

/// The ids of the ranges that are in none of the blocks. Both are ascending and without overlaps.
fn without(ranges: &[IdRange], blocks: &[IdRange]) -> Vec<IdRange> {
    let mut left = Vec::new();
    for range in ranges {
        let mut first = range.first;
        let from = blocks.partition_point(|block| block.last < range.first);
        for block in blocks.iter().skip(from).take_while(|block| block.first <= range.last) {
            if first < block.first {
                left.push(IdRange { first, last: block.first - 1 });
            }
            first = block.last + 1;
        }
        if first <= range.last {
            left.push(IdRange { first, last: range.last });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(i64, i64)]) -> Vec<IdRange> {
        of.iter().map(|(first, last)| IdRange { first: *first, last: *last }).collect()
    }

    #[test]
    fn ids_in_blocks_are_left_out() {
        let left = |all: &[(i64, i64)], blocks: &[(i64, i64)]| without(&ranges(all), &ranges(blocks));
        assert_eq!(left(&[(1, 5), (9, 9)], &[]), ranges(&[(1, 5), (9, 9)]));
        assert_eq!(left(&[(1, 5)], &[(1, 5)]), []);
        assert_eq!(left(&[(1, 9)], &[(3, 4), (6, 6)]), ranges(&[(1, 2), (5, 5), (7, 9)]));
        assert_eq!(left(&[(5, 9), (20, 30)], &[(1, 6), (9, 25)]), ranges(&[(7, 8), (26, 30)]));
    }

    #[test]
    fn ranges_of_several_regions_are_merged() {
        assert_eq!(
            merged(ranges(&[(5, 6), (1, 9), (2, 3), (12, 12), (11, 14)])),
            ranges(&[(1, 9), (11, 14)])
        );
    }
}
