//! Checks slugs: I1, I2, I3, and I8 and I9 as far as they are about reservations.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use causeway_proto::{
    organization_status::{self, HIDDEN},
    region::v1::ImportState,
    relocation::v1::OrganizationStatus,
};
use uuid::Uuid;

use super::{
    Found,
    all_rows::{AllRows, Listed, ORGANIZATION, Reservation, int},
};
use crate::account::Cell;

pub(super) fn check(all: &AllRows, found: &mut Found) {
    one_slug_one_organization(all, found);
    visible_organizations_have_their_slug(all, found);
    reservations_have_their_organization(all, found);
    replicas_are_what_control_has(all, found);
    operations_and_reservations_agree(all, found);
    everything_has_its_region(all, found);
}

/// An organization's row: region, id, slug, status as stored.
struct Row<'a> {
    region: usize,
    id: i64,
    slug: &'a str,
    status: Option<i64>,
}

impl Row<'_> {
    fn is_visible(&self) -> bool {
        self.status != Some(HIDDEN)
    }

    /// The status that the directory has to list. One that the contract does not know is listed as active.
    fn listed_status(&self) -> OrganizationStatus {
        match self.status.map(organization_status::from_stored) {
            None | Some(OrganizationStatus::Unspecified) => OrganizationStatus::Active,
            Some(status) => status,
        }
    }
}

fn organizations(all: &AllRows) -> Vec<Row<'_>> {
    let rows = all.regions.iter().enumerate().filter_map(|(region, it)| {
        Some(it.tables.get(ORGANIZATION)?.iter().map(move |(id, row)| Row {
            region,
            id: *id,
            slug: row.get("slug").and_then(Cell::as_text).unwrap_or_default(),
            status: int(row, "status"),
        }))
    });
    rows.flatten().collect()
}

/// I1: a slug belongs to one organization, at control and among the organizations themselves.
fn one_slug_one_organization(all: &AllRows, found: &mut Found) {
    let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reservation in &all.control.reservations {
        let holder = format!("organization {} of {}", reservation.organization_id, reservation.region);
        holders.entry(reservation.slug.to_lowercase()).or_default().push(holder);
    }
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut in_region: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    for row in organizations(all) {
        let holder = format!("organization {} of {}", row.id, all.name_of(Some(row.region)));
        in_region.entry((row.region, row.slug.to_lowercase())).or_default().push(holder.clone());
        if row.is_visible() {
            shown.entry(row.slug.to_lowercase()).or_default().push(holder);
        }
    }
    let several = |holders: &Vec<String>| holders.len() > 1;
    for (slug, holders) in holders.into_iter().filter(|(_, holders)| several(holders)) {
        found.add(1, format!("`{slug}` is reserved for {}", holders.join(" and for ")));
    }
    for (slug, holders) in shown.into_iter().filter(|(_, holders)| several(holders)) {
        found.add(1, format!("`{slug}` is shown as the slug of {}", holders.join(" and of ")));
    }
    for ((_, slug), holders) in in_region.into_iter().filter(|(_, holders)| several(holders)) {
        found.add(1, format!("`{slug}` is in the rows of {}", holders.join(" and of ")));
    }
}

/// The reservations by region and organization.
fn by_organization(all: &AllRows) -> HashMap<(&str, i64), Vec<&Reservation>> {
    let mut by: HashMap<_, Vec<_>> = HashMap::new();
    for reservation in &all.control.reservations {
        by.entry((reservation.region.as_str(), reservation.organization_id)).or_default().push(reservation);
    }
    by
}

/// I2: each visible organization has one primary reservation, and a reservation of its slug.
fn visible_organizations_have_their_slug(all: &AllRows, found: &mut Found) {
    let by = by_organization(all);
    for row in organizations(all).into_iter().filter(Row::is_visible) {
        let region = all.name_of(Some(row.region));
        let own = by.get(&(region, row.id)).map(Vec::as_slice).unwrap_or_default();
        let primaries: Vec<_> = own.iter().filter(|reservation| reservation.is_primary()).collect();
        if primaries.len() != 1 {
            found.add(
                2,
                format!(
                    "organization {} of {region}, `{}`, is visible and has {} primary reservations",
                    row.id,
                    row.slug,
                    primaries.len()
                ),
            );
        } else if !own.iter().any(|it| it.slug == row.slug && (it.is_primary() || it.is_temporary())) {
            found.add(
                2,
                format!(
                    "organization {} of {region} is `{}`, and its reservation `{}`",
                    row.id, row.slug, primaries[0].slug
                ),
            );
        }
    }
}

/// I3: each reservation has its organization, and the directory agrees with the reservations.
fn reservations_have_their_organization(all: &AllRows, found: &mut Found) {
    let rows: HashMap<(&str, i64), Row<'_>> =
        organizations(all).into_iter().map(|row| ((all.name_of(Some(row.region)), row.id), row)).collect();
    let failed: BTreeSet<(&str, i64)> = all
        .regions
        .iter()
        .flat_map(|region| region.imports.iter().map(move |import| (region, import)))
        .filter(|(_, import)| import.state == ImportState::Failed)
        .flat_map(|(region, import)| import.organizations.iter().map(|it| (region.name.as_str(), it.id)))
        .collect();
    for reservation in &all.control.reservations {
        let Reservation { slug, organization_id: id, region, .. } = reservation;
        let key = (region.as_str(), *id);
        if reservation.is_temporary() {
            if !failed.contains(&key) {
                found.add(
                    3,
                    format!("`{slug}` is still reserved for organization {id} of {region} temporarily"),
                );
            }
            continue;
        }
        match rows.get(&key) {
            None => found.add(
                3,
                format!(
                    "`{slug}` is reserved ({}) for organization {id} of {region}, which is not there",
                    reservation.kind
                ),
            ),
            Some(row) if reservation.is_primary() && row.slug != *slug => {
                found.add(
                    3,
                    format!(
                        "`{slug}` is reserved for organization {id} of {region}, which is `{}`",
                        row.slug
                    ),
                );
            }
            Some(_) => {}
        }
    }
    let by = by_organization(all);
    for (id, Listed { region, slug, status }) in &all.control.directory {
        if let Some(row) = rows.get(&(region.as_str(), *id))
            && row.listed_status() != *status
        {
            found.add(
                3,
                format!("the directory has organization {id} of {region} as {status:?}, and its row has status {:?}", row.status),
            );
        }
        let own = by.get(&(region.as_str(), *id)).map(Vec::as_slice).unwrap_or_default();
        if !own.iter().any(|reservation| reservation.is_primary() && reservation.slug == *slug) {
            found.add(
                3,
                format!("the directory has organization {id} of {region} as `{slug}`, which is not its primary reservation"),
            );
        }
    }
    for region in &all.regions {
        for import in region.imports.iter().filter(|import| import.succeeded() && import.reported) {
            for organization in &import.organizations {
                if !all.control.directory.contains_key(&organization.id) {
                    found.add(
                        3,
                        format!(
                            "the directory does not have organization {} of {}, which import {} reported",
                            organization.id, region.name, import.id
                        ),
                    );
                }
            }
        }
    }
}

/// I3: a region's replica agrees with what control has reserved for it, except what an import has not confirmed.
fn replicas_are_what_control_has(all: &AllRows, found: &mut Found) {
    let by = by_organization(all);
    let canonical = |reservation: &Reservation| {
        let own = by.get(&(reservation.region.as_str(), reservation.organization_id))?;
        own.iter().find(|it| it.is_primary()).map(|it| it.slug.clone())
    };
    for region in &all.regions {
        let of_control: BTreeMap<String, (i64, String, Option<String>)> = all
            .control
            .reservations
            .iter()
            .filter(|it| it.region == region.name && !it.is_temporary())
            .map(|it| (it.slug.clone(), (it.organization_id, it.kind.clone(), canonical(it))))
            .collect();
        let slugs: BTreeSet<&String> = of_control.keys().chain(region.replica.keys()).collect();
        for slug in slugs {
            let (theirs, known) = (of_control.get(slug), region.replica.get(slug));
            if theirs != known {
                found.add(3, format!("{} knows `{slug}` as {known:?}; control has {theirs:?}", region.name));
            }
        }
    }
}

/// I8: the row of an operation agrees with what was done under it, however often it was called.
fn operations_and_reservations_agree(all: &AllRows, found: &mut Found) {
    let mut of: HashMap<(&str, Uuid), Vec<&Reservation>> = HashMap::new();
    for reservation in &all.control.reservations {
        of.entry((reservation.region.as_str(), reservation.operation_id)).or_default().push(reservation);
    }
    for operation in &all.control.operations {
        let under = of.remove(&(operation.region.as_str(), operation.id)).unwrap_or_default();
        let count = i64::try_from(under.len()).unwrap_or(i64::MAX);
        let temporary = under.iter().filter(|reservation| reservation.is_temporary()).count();
        let wrong = match operation.state.as_str() {
            "reserved" => count != operation.organization_count || temporary != under.len(),
            // An organization that was renamed or reverted since has its slug from another operation, or none.
            "confirmed" => count > operation.organization_count || temporary > 0,
            "released" => count > 0,
            _ => false,
        };
        if wrong {
            found.add(
                8,
                format!(
                    "operation {} of {}, for {} organizations, is {} and has {count} reservations, {temporary} of \
                     them temporary",
                    operation.id, operation.region, operation.organization_count, operation.state
                ),
            );
        }
    }
    for ((region, operation), reservations) in of {
        let slugs: Vec<&str> = reservations.iter().map(|reservation| reservation.slug.as_str()).collect();
        found.add(
            9,
            format!(
                "{} of {region} are reserved under operation {operation}, which it has not",
                slugs.join(", ")
            ),
        );
    }
}

/// I9: every row at control belongs to the region that it names.
fn everything_has_its_region(all: &AllRows, found: &mut Found) {
    let known = &all.control.region_names;
    for reservation in &all.control.reservations {
        if !known.contains(&reservation.region) {
            found.add(
                9,
                format!(
                    "`{}` is reserved for {}, which is not a region",
                    reservation.slug, reservation.region
                ),
            );
        }
    }
    for chunk in &all.control.chunks {
        let region = all.regions.iter().find(|region| region.name == chunk.region);
        let theirs = region.is_some_and(|it| it.imports.iter().any(|import| import.id == chunk.import_id));
        if !theirs {
            found.add(
                9,
                format!(
                    "control has a chunk of {} of import {} of {}, which does not know that import",
                    chunk.model, chunk.import_id, chunk.region
                ),
            );
        }
    }
}
