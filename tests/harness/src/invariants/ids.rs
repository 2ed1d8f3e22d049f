//! Checks ids: I10, and that no region uses the ids of another one (I9).

use std::collections::BTreeMap;

use super::{Found, all_rows::AllRows};

pub(super) fn check(all: &AllRows, found: &mut Found) {
    blocks_do_not_overlap(all, found);
    let leased = all.catalog.models().iter().filter(|model| model.leases_ids());
    for model in leased {
        let mut owners: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for region in &all.regions {
            let Some(rows) = region.tables.get(&model.name) else { continue };
            for id in rows.keys() {
                owners.entry(*id).or_default().push(&region.name);
                let mut leases = all.control.leases.iter().filter(|lease| lease.model == model.name);
                if let Some(lease) = leases.find(|lease| (lease.first..lease.until).contains(id)) {
                    if lease.region != region.name {
                        found.add(
                            9,
                            format!(
                                "row {id} of {} of {} has an id of {}",
                                model.name, region.name, lease.region
                            ),
                        );
                    }
                } else {
                    found.add(
                        10,
                        format!(
                            "row {id} of {} of {} has an id that was never leased",
                            model.name, region.name
                        ),
                    );
                }
                let mut left = region.blocks.iter().filter(|block| block.model == model.name);
                if left.any(|block| (block.first..block.until).contains(id)) {
                    found.add(
                        10,
                        format!(
                            "row {id} of {} of {} has an id that is still to be given",
                            model.name, region.name
                        ),
                    );
                }
            }
        }
        for (id, regions) in owners.into_iter().filter(|(_, regions)| regions.len() > 1) {
            found.add(10, format!("{} {id} is in {}", model.name, regions.join(" and in ")));
        }
    }
}

fn blocks_do_not_overlap(all: &AllRows, found: &mut Found) {
    // The leases are sorted by model and first id.
    for pair in all.control.leases.windows(2) {
        let [one, next] = pair else { continue };
        if one.model == next.model && next.first < one.until {
            found.add(10, format!("two blocks of ids overlap: {one:?} and {next:?}"));
        }
    }
    for region in &all.regions {
        for block in region.blocks.iter().filter(|block| block.first < block.until) {
            let theirs = all.control.leases.iter().any(|lease| {
                lease.model == block.model
                    && lease.region == block.region
                    && lease.first <= block.first
                    && block.until <= lease.until
            });
            if !theirs {
                found.add(9, format!("a block of ids is of no lease of its region: {block:?}"));
            }
        }
    }
}
