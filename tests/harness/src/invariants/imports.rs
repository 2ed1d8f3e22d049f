//! Checks what imports wrote: I4, I5, I6.

use std::collections::{BTreeMap, BTreeSet};

use causeway_proto::organization_status::HIDDEN;
use causeway_relocation::chunk::Chunk;
use uuid::Uuid;

use super::{
    Found,
    all_rows::{AllRows, Import, ORGANIZATION, Region, int},
};

pub(super) fn check(all: &AllRows, approved: &[Uuid], found: &mut Found) {
    for (index, region) in all.regions.iter().enumerate() {
        for import in &region.imports {
            it_has_ended(region, import, found);
            if import.succeeded() {
                every_record_was_read_once(all, region, import, found);
                counts_are_those_of_the_chunks(region, import, found);
                control_has_the_same_chunks(all, region, import, found);
            }
            if import.was_reverted() {
                reverted_rows_are_counted(region, import, found);
            }
            what_it_says_is_there(all, index, import, found);
            what_is_visible_may_be(region, import, approved, found);
        }
    }
    rows_are_of_imports(all, found);
}

fn it_has_ended(region: &Region, import: &Import, found: &mut Found) {
    if !import.state.is_final() {
        found.add(
            4,
            format!("import {} of {} is still {}", import.id, region.name, import.state.short_name()),
        );
    } else if import.succeeded() && !import.reported {
        found.add(4, format!("import {} of {} has not been reported", import.id, region.name));
    }
}

/// The chunks of each model, by their first ordinal.
fn by_model(chunks: &[Chunk]) -> BTreeMap<&str, Vec<&Chunk>> {
    let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for chunk in chunks {
        by.entry(chunk.model.as_str()).or_default().push(chunk);
    }
    by.values_mut().for_each(|chunks| chunks.sort_by_key(|chunk| chunk.min_ordinal));
    by
}

/// I4: the chunks of a model cover all its records, each once.
fn every_record_was_read_once(all: &AllRows, region: &Region, import: &Import, found: &mut Found) {
    let mut chunks = by_model(&import.chunks);
    for counts in &import.counts {
        let chunks = chunks.remove(counts.model.as_str()).unwrap_or_default();
        let written = all.catalog.model(&counts.model).is_some_and(|model| model.in_organization_scope());
        let (mut next, mut of_records) = (1, 0);
        let mut gap = false;
        for chunk in &chunks {
            gap |= chunk.min_ordinal != next || chunk.max_ordinal < chunk.min_ordinal;
            next = chunk.max_ordinal + 1;
            // Rows that are added without records come after them, in chunks of their own.
            if chunk.min_ordinal <= counts.seen {
                of_records = chunk.max_ordinal;
            }
        }
        if gap || (written && of_records != counts.seen) {
            let ranges: Vec<String> =
                chunks.iter().map(|chunk| format!("{}-{}", chunk.min_ordinal, chunk.max_ordinal)).collect();
            found.add(
                4,
                format!(
                    "import {} of {} has {} records of {} and chunks of {}",
                    import.id,
                    region.name,
                    counts.seen,
                    counts.model,
                    ranges.join(", ")
                ),
            );
        }
    }
    for model in chunks.keys() {
        found.add(
            4,
            format!(
                "import {} of {} has chunks of {model}, of which it has no record",
                import.id, region.name
            ),
        );
    }
}

/// I6: the counts of an import agree with its chunks.
fn counts_are_those_of_the_chunks(region: &Region, import: &Import, found: &mut Found) {
    for counts in &import.counts {
        let of = |part: fn(&Chunk) -> usize| {
            let chunks = import.chunks.iter().filter(|chunk| chunk.model == counts.model);
            i64::try_from(chunks.map(part).sum::<usize>()).unwrap_or(i64::MAX)
        };
        let of_records = |chunk: &Chunk| if chunk.keys.are_added() { 0 } else { chunk.keys.inserted.len() };
        let added = |chunk: &Chunk| if chunk.keys.are_added() { chunk.keys.inserted.len() } else { 0 };
        let sums = [of(of_records), of(|chunk| chunk.keys.existing.len()), of(added)];
        if [counts.parts[0], counts.parts[1], counts.added] != sums {
            found.add(
                6,
                format!(
                    "import {} of {} counts {:?} of {} and {} as inserted, existing and added, and its chunks {sums:?}",
                    import.id,
                    region.name,
                    &counts.parts[..2],
                    counts.model,
                    counts.added
                ),
            );
        }
        if counts.parts.iter().sum::<i64>() != counts.seen {
            found.add(
                6,
                format!(
                    "import {} of {} has {} records of {}, and counts {:?}",
                    import.id, region.name, counts.seen, counts.model, counts.parts
                ),
            );
        }
    }
}

/// I6, for a reverted import: each row that it inserted was deleted, or stays with a finding.
fn reverted_rows_are_counted(region: &Region, import: &Import, found: &mut Found) {
    for counts in &import.counts {
        let preserved = import.preserved.iter().filter(|(model, _)| *model == counts.model).count();
        let kept = i64::try_from(preserved).unwrap_or(i64::MAX);
        let rows = counts.parts[0] + counts.added;
        if rows != counts.reverted.iter().sum::<i64>() || counts.reverted[1] != kept {
            found.add(
                6,
                format!(
                    "import {} of {} was reverted; of {} rows of {} it counts {:?} as deleted and kept, and has {kept} \
                     findings of rows that stay",
                    import.id, region.name, rows, counts.model, counts.reverted
                ),
            );
        }
    }
}

/// I4: what the region noted about a chunk of control agrees with what control did.
fn control_has_the_same_chunks(all: &AllRows, region: &Region, import: &Import, found: &mut Found) {
    let theirs: BTreeMap<(&str, i64), &Chunk> = all
        .control
        .chunks
        .iter()
        .filter(|chunk| chunk.region == region.name && chunk.import_id == import.id)
        .map(|chunk| ((chunk.model.as_str(), chunk.min_ordinal), chunk))
        .collect();
    let mut heard = BTreeSet::new();
    for chunk in &import.chunks {
        if all.place_of(&chunk.model, Some(0)).is_some() {
            continue;
        }
        let key = (chunk.model.as_str(), chunk.min_ordinal);
        heard.insert(key);
        let same = match theirs.get(&key) {
            Some(theirs) => {
                let theirs = match chunk.keys.are_added() {
                    true => theirs.keys.clone().into_added(),
                    false => theirs.keys.clone(),
                };
                theirs.inserted == chunk.keys.inserted && theirs.existing == chunk.keys.existing
            }
            // The region sent nothing of the chunk.
            None => chunk.keys.inserted.is_empty() && chunk.keys.existing.is_empty(),
        };
        if !same {
            found.add(
                4,
                format!(
                    "import {} of {}: the chunk of {} from {} is another one at control",
                    import.id, region.name, chunk.model, chunk.min_ordinal
                ),
            );
        }
    }
    for (model, ordinal) in theirs.keys().filter(|key| !heard.contains(*key)) {
        found.add(
            4,
            format!(
                "import {} of {}: control has a chunk of {model} from {ordinal} that the region has not",
                import.id, region.name
            ),
        );
    }
}

/// I4: every entry of the primary key map leads to a row.
fn what_it_says_is_there(all: &AllRows, region: usize, import: &Import, found: &mut Found) {
    if import.was_reverted() {
        return;
    }
    for chunk in &import.chunks {
        let place = all.place_of(&chunk.model, Some(region));
        for (kind, old, new) in chunk.keys.mapped() {
            if !all.has_row(place, &chunk.model, new) {
                found.add(
                    4,
                    format!(
                        "import {} of {}: {} {old} is row {new} of {} ({kind:?}), which is not there",
                        import.id,
                        all.name_of(Some(region)),
                        chunk.model,
                        all.name_of(place)
                    ),
                );
            }
        }
    }
}

/// I5: the organizations of an import are hidden until it has succeeded, and then have their own status again.
fn what_is_visible_may_be(region: &Region, import: &Import, approved: &[Uuid], found: &mut Found) {
    let is_hidden = !import.succeeded() || import.hides && !approved.contains(&import.id);
    let Some(rows) = region.tables.get(ORGANIZATION) else { return };
    for organization in &import.organizations {
        let Some(status) = rows.get(&organization.id).and_then(|row| int(row, "status")) else { continue };
        let wanted = if is_hidden { HIDDEN } else { organization.status };
        if status != wanted {
            found.add(
                5,
                format!(
                    "organization {} of {} has status {status}; import {}, which is {}, leaves it {wanted}",
                    organization.id,
                    region.name,
                    import.id,
                    import.state.short_name()
                ),
            );
        }
    }
}

/// I4 and I5: every row was inserted by an import that was not reverted. I10: no row was inserted twice.
fn rows_are_of_imports(all: &AllRows, found: &mut Found) {
    for (place, model, rows) in all.all_tables() {
        for id in rows.keys() {
            if !all.inserted.contains_key(&(place, model.name.clone(), *id)) {
                let reverted = was_reverted(all, &model.name, *id);
                let (invariant, whose) =
                    if reverted { (5, "of an import that was reverted") } else { (4, "of no import") };
                found.add(
                    invariant,
                    format!("row {id} of {} of {} is {whose}", model.name, all.name_of(place)),
                );
            }
        }
    }
    for ((place, model, id), owners) in all.inserted.iter().filter(|(_, owners)| owners.len() > 1) {
        found.add(10, format!("row {id} of {model} of {} was given to {owners:?}", all.name_of(*place)));
    }
}

fn was_reverted(all: &AllRows, model: &str, id: i64) -> bool {
    let of = |chunk: &Chunk| chunk.model == model && chunk.keys.inserted.iter().any(|(_, new)| *new == id);
    let reverted = all.regions.iter().flat_map(|region| &region.imports);
    let mut reverted = reverted.filter(|import| import.was_reverted());
    reverted.any(|import| {
        import.chunks.iter().any(of)
            || all.control.chunks.iter().any(|chunk| chunk.import_id == import.id && of(chunk))
    })
}
