//! Gives organizations the slugs by which control knows them, where the region has not written those yet: a rename may have
//! been confirmed by somebody else, so that it is over when the region hears that it was wanted.
//!
//! An organization that has another slug than control last said was renamed by hand, or by a rename that control has given
//! up. Such a one is left alone here: the comparison with control shows it, and the answer to the rename puts it right.

use std::collections::{BTreeMap, HashMap};

use causeway_silo::db::{DbError, Tx};

use crate::{
    replica::{Change, ReplicaType},
    store::{organization, replica},
};

/// Moves the organizations on whose primary slugs change from what the replica has to what was told just now. To be called
/// before the replica has that.
pub(crate) async fn follow(tx: &mut Tx, told: &[&Change]) -> Result<(), DbError> {
    let primary = told.iter().filter(|change| change.kind == Some(ReplicaType::Primary));
    let told: HashMap<i64, &str> =
        primary.map(|change| (change.organization_id, change.slug.as_str())).collect();
    if told.is_empty() {
        return Ok(());
    }
    // Most are of imports, which this region knows: of those the replica has nothing yet, or the same.
    let mut before = replica::primaries(tx, told.keys().copied().collect()).await?;
    before.retain(|id, slug| told.get(id) != Some(&slug.as_str()));
    if before.is_empty() {
        return Ok(());
    }
    let mut moving: BTreeMap<i64, String> = BTreeMap::new();
    for (id, slug) in organization::slugs(tx, before.keys().copied().collect()).await? {
        if before.get(&id) == Some(&slug)
            && let Some(new) = told.get(&id)
        {
            moving.insert(id, (*new).to_owned());
        }
    }
    let owners = organization::owners(tx, moving.values().cloned().collect()).await?;
    loop {
        // One that stays where it is keeps its slug, and so on.
        let blocked = moving.iter().find_map(|(id, slug)| {
            let owner = owners.get(slug).filter(|owner| !moving.contains_key(owner))?;
            Some((*id, slug.clone(), *owner))
        });
        let Some((organization_id, slug, owner)) = blocked else { break };
        tracing::error!(
            organization_id,
            slug,
            owner,
            "control knows an organization by a slug that another organization of this region has; it keeps its old one, and a comparison with control shows it"
        );
        moving.remove(&organization_id);
    }
    if moving.is_empty() {
        return Ok(());
    }
    // Slugs may go from one of them to another: for a moment, whoever has one that another one gets has none.
    let in_the_way: Vec<i64> = moving.values().filter_map(|slug| owners.get(slug).copied()).collect();
    let nameless = in_the_way.iter().map(|id| format!("~renaming-{id}")).collect();
    organization::set_slugs(tx, in_the_way, nameless).await?;
    let (ids, slugs): (Vec<i64>, Vec<String>) = moving.into_iter().unzip();
    tracing::info!(
        organizations = ids.len(),
        "organizations have the slugs now that were confirmed without this region"
    );
    organization::set_slugs(tx, ids, slugs).await
}
