//! Writes confirmed slugs into organizations that do not have them yet. Another caller may have confirmed a rename, and
//! then the rename is over before the region has received the request for it.
//!
//! An organization with another slug than control last reported was renamed manually, or by a rename that
//! control has abandoned. This module leaves it alone: a comparison with control reports it, and the answer
//! to the rename corrects it.

use std::collections::{BTreeMap, HashMap};

use causeway_silo::db::{DbError, Refused, Tx};

use crate::{
    replica::{ReplicaType, SlugChange},
    store::{
        organization::{self, constraint},
        replica,
    },
};

/// Renames the organizations whose primary slug in the replica differs from the one that the feed has just reported.
/// Call this before the replica is updated. Returns those that it has renamed.
pub(crate) async fn apply(tx: &mut Tx, changes: &[&SlugChange]) -> Result<Vec<i64>, DbError> {
    let primary = changes.iter().filter(|change| change.kind == Some(ReplicaType::Primary));
    let reported: HashMap<i64, &str> =
        primary.map(|change| (change.organization_id, change.slug.as_str())).collect();
    if reported.is_empty() {
        return Ok(Vec::new());
    }
    // Most changes come from imports of this region. For those, the replica has no primary slug yet, or the same one.
    let mut before = replica::primaries(tx, reported.keys().copied().collect()).await?;
    before.retain(|id, slug| reported.get(id) != Some(&slug.as_str()));
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let mut moving: BTreeMap<i64, String> = BTreeMap::new();
    for (id, slug) in organization::slugs(tx, before.keys().copied().collect()).await? {
        if before.get(&id) == Some(&slug)
            && let Some(new) = reported.get(&id)
        {
            moving.insert(id, (*new).to_owned());
        }
    }
    let owners = organization::owners(tx, moving.values().cloned().collect()).await?;
    loop {
        // An organization that cannot get its new slug keeps its old one, which may block another organization, and so
        // on.
        let blocked = moving.iter().find_map(|(id, slug)| {
            let owner = owners.get(slug).filter(|owner| !moving.contains_key(owner))?;
            Some((*id, slug.clone(), *owner))
        });
        if let Some((organization_id, slug, owner)) = blocked {
            tracing::error!(
                organization_id,
                slug,
                owner,
                "control knows an organization by a slug that another organization of this region has; the organization keeps its old slug, and a comparison with control reports it"
            );
            moving.remove(&organization_id);
            continue;
        }
        if moving.is_empty() {
            return Ok(Vec::new());
        }
        tx.begin_part().await?;
        let refused = move_slugs(tx, &moving, &owners).await?;
        tx.end_part(refused.is_empty()).await?;
        if refused.is_empty() {
            break;
        }
        for (organization_id, slug, why) in refused {
            // Not in the macro, which does not evaluate its values if nobody reads the log.
            let wanted = moving.remove(&organization_id);
            let constraint = constraint(&why);
            tracing::error!(
                organization_id,
                wanted,
                refused = slug,
                constraint,
                "the database refuses the slug by which control knows an organization, or the placeholder on the way to it; the organization keeps its old slug, and a comparison with control reports it"
            );
        }
    }
    tracing::info!(
        organizations = moving.len(),
        "organizations now have the slugs that were confirmed without this region"
    );
    Ok(moving.into_keys().collect())
}

/// Gives these organizations their new slugs. Returns those whose slug or placeholder the database refuses, with it.
async fn move_slugs(
    tx: &mut Tx,
    moving: &BTreeMap<i64, String>,
    owners: &HashMap<String, i64>,
) -> Result<Vec<(i64, String, Refused)>, DbError> {
    // Slugs may move from one of these organizations to another. An organization whose slug another one gets has a
    // placeholder until it gets its own new slug.
    let in_the_way: Vec<i64> = moving.values().filter_map(|slug| owners.get(slug).copied()).collect();
    let placeholders: Vec<(i64, String)> =
        in_the_way.iter().map(|id| (*id, format!("~renaming-{id}"))).collect();
    let refused = organization::set_slugs(tx, &placeholders).await?;
    if !refused.is_empty() {
        return Ok(refused);
    }
    let slugs: Vec<(i64, String)> = moving.clone().into_iter().collect();
    organization::set_slugs(tx, &slugs).await
}
