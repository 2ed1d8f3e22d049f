//! How the product's own tables differ from what region and control have of an organization. Work that its
//! workers have not done yet is not a difference: messages about the organization wait for them then.

use causeway_proto::control::v1::{ProductRows, ProductState, SlugReservation};

use super::difference::{DO_REPAIR, Difference, DifferenceKind, Observation, Repair};
use crate::store::compared::{ComparedOrganization, Rows};

impl Observation {
    /// Adds what differs in the product's own tables. Adds nothing if there are none, or if the slugs of
    /// region and control differ, because that difference comes first.
    pub(super) fn product(&self, id: i64, found: &mut Vec<Difference>) {
        let Some(theirs) = self.held.as_ref().and_then(|held| held.product.as_ref()) else { return };
        let (Some(organization), Some(primary)) = (&self.here.organization, self.primary()) else { return };
        if organization.slug != primary.slug {
            return;
        }
        let mut add = |kind, wrong: &str, remedy: &str, repair| {
            let message =
                format!("organization {id} is `{}`, and in the product's own tables {wrong}", primary.slug);
            found.push(self.difference(kind, id, Some(&primary.slug), message, remedy.to_owned(), repair));
        };
        if !theirs.slug.is_empty() && theirs.slug != primary.slug {
            add(
                DifferenceKind::ProductReservationDiffers,
                &format!("`{}` is reserved for it", theirs.slug),
                &format!(
                    "give it that slug, `causeway slugs rename {id} {} --exact`, or another one",
                    theirs.slug
                ),
                None,
            );
        } else if !theirs.other_region.is_empty() {
            add(
                DifferenceKind::ProductReservationDiffers,
                &format!("its slug is reserved for region `{}`", theirs.other_region),
                &format!(
                    "if the product calls this region so, start it with `--product-region-name {}`; if the organization \
                     belongs here: {DO_REPAIR}",
                    theirs.other_region
                ),
                Some(Repair::MoveReservation),
            );
        } else if let Some(Wrong { what, too_many }) = self.wrong_reservation(theirs, primary) {
            let remedy = match too_many {
                Some(rows) => rows.remedy(id),
                None => format!("have control write and announce it: {DO_REPAIR}"),
            };
            let repair = too_many.is_none().then_some(Repair::RestoreReservation);
            add(DifferenceKind::ProductReservationDiffers, &what, &remedy, repair);
        }
        let elsewhere =
            theirs.mapping.as_ref().map(|mapping| mapping.other_region.as_str()).unwrap_or_default();
        if !elsewhere.is_empty() {
            add(
                DifferenceKind::ProductMappingDiffers,
                &format!("its mapping leads to region `{elsewhere}`"),
                &format!(
                    "if the product calls this region so, start it with `--product-region-name {elsewhere}`; otherwise check \
                     under which name the product's workers of this region run"
                ),
                None,
            );
        } else if let Some(Wrong { what, too_many }) = self.wrong_mapping(theirs, organization) {
            let remedy = match too_many {
                // No message to the workers is about a row that nobody knows.
                Some(rows) => rows.remedy(id),
                None => format!("announce the organization to the product's workers again: {DO_REPAIR}"),
            };
            let repair = too_many.is_none().then_some(Repair::Announce);
            add(DifferenceKind::ProductMappingDiffers, &what, &remedy, repair);
        }
    }

    fn wrong_reservation(&self, theirs: &ProductState, primary: &SlugReservation) -> Option<Wrong> {
        if theirs.slug.is_empty() {
            return Some(Wrong::new("no slug is reserved for it"));
        }
        let here = self.here.product.as_ref().filter(|_| !theirs.waiting)?;
        match here.slug.as_deref() {
            Some("") => Some(Wrong::new("the region has no copy of its slug reservation")),
            Some(copy) if copy != primary.slug => {
                Some(Wrong::new(format!("the region's copy of its slug reservation is `{copy}`")))
            }
            _ => {
                let tokens = theirs.tokens.as_ref().map(rows);
                copied(tokens.as_ref()?, here.tokens.as_ref()?, &TOKENS)
            }
        }
    }

    fn wrong_mapping(&self, theirs: &ProductState, organization: &ComparedOrganization) -> Option<Wrong> {
        let here = self.here.product.as_ref().filter(|here| !here.waiting)?;
        let Some(mapping) = &theirs.mapping else { return Some(Wrong::new("it has no mapping")) };
        let fields = [
            ("slug", mapping.slug != organization.slug),
            ("name", mapping.name != organization.name),
            ("status", mapping.status != Some(organization.status)),
        ];
        let wrong: Vec<&str> =
            fields.into_iter().filter_map(|(field, wrong)| wrong.then_some(field)).collect();
        if !wrong.is_empty() {
            return Some(Wrong::new(format!("its mapping has another {}", wrong.join(" and "))));
        }
        // An older control says only how many members are mapped.
        let missing = here.members.count - theirs.mapped_members;
        if theirs.members.is_none() && missing > 0 {
            let members = here.members.count;
            return Some(Wrong::new(format!("{missing} of its {members} members have no mapping")));
        }
        let compared = [
            (&here.members, &theirs.members, &MEMBERS),
            (&here.teams, &theirs.teams, &TEAMS),
            (&here.team_members, &theirs.team_members, &TEAM_MEMBERS),
        ];
        // What can be mended comes first.
        let mut wrong: Vec<Wrong> = compared
            .into_iter()
            .filter_map(|(ours, theirs, of)| copied(ours, &rows(theirs.as_ref()?), of))
            .collect();
        wrong.sort_by_key(|wrong| wrong.too_many.is_some());
        wrong.into_iter().next()
    }
}

/// What is wrong in the product's own tables.
struct Wrong {
    /// A sentence about it.
    what: String,
    /// The copies of which there are too many, if that is what is wrong. Whoever announces what is there does not remove
    /// them.
    too_many: Option<&'static Copies>,
}

impl Wrong {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), too_many: None }
    }
}

fn rows(rows: &ProductRows) -> Rows {
    Rows { count: rows.count, digest: rows.digest.clone() }
}

/// Copies that the product's workers make of rows of an organization.
struct Copies {
    /// What they are copies of.
    of: &'static str,
    /// What one of them is called.
    copy: &'static str,
    /// Which database has them.
    silo: &'static str,
    table: &'static str,
}

const MEMBERS: Copies =
    Copies { of: "members", copy: "mapping", silo: "control's", table: "sentry_organizationmembermapping" };
const TEAMS: Copies =
    Copies { of: "teams", copy: "copy at control", silo: "control's", table: "sentry_teamreplica" };
const TEAM_MEMBERS: Copies = Copies {
    of: "memberships of teams",
    copy: "copy at control",
    silo: "control's",
    table: "sentry_organizationmember_teamsreplica",
};
const TOKENS: Copies = Copies {
    of: "auth tokens",
    copy: "copy in the region",
    silo: "the region's",
    table: "hybridcloud_orgauthtokenreplica",
};

impl Copies {
    /// How people find the copies of which there are too many.
    fn remedy(&self, organization_id: i64) -> String {
        format!(
            "in {} database, `SELECT * FROM {} WHERE organization_id = {organization_id}` lists them; delete those of which \
             the other side has no row",
            self.silo, self.table
        )
    }
}

/// Compares rows with the copies that the product has made of them.
fn copied(rows: &Rows, copies: &Rows, of: &'static Copies) -> Option<Wrong> {
    let (missing, all) = (rows.count - copies.count, rows.count);
    let Copies { of: what, copy, .. } = of;
    if rows == copies {
        return None;
    }
    Some(match missing {
        0 => Wrong::new(format!("the {copy} of one of its {all} {what} or more is of something else")),
        1.. => Wrong::new(format!("{missing} of its {all} {what} have no {copy}")),
        _ => {
            let extra = missing.abs();
            Wrong { what: format!("it has {all} {what}, and {extra} more have a {copy}"), too_many: Some(of) }
        }
    })
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::{HeldOrganization, ProductMapping, ReservationType};

    use super::*;
    use crate::store::compared::RegionState;

    fn some(count: i64, digest: i64) -> ProductRows {
        ProductRows { count, digest: digest.to_string() }
    }

    /// An organization `acme` as region, control and the product have it.
    fn seen(product: ProductState) -> Observation {
        let primary = SlugReservation {
            slug: "acme".to_owned(),
            r#type: ReservationType::Primary.into(),
            ..SlugReservation::default()
        };
        let here = crate::store::compared::ProductState {
            members: rows(&some(2, 7)),
            teams: rows(&some(1, 5)),
            team_members: rows(&some(3, 4)),
            tokens: Some(rows(&some(1, 9))),
            waiting: false,
            slug: Some("acme".to_owned()),
        };
        Observation {
            held: Some(HeldOrganization {
                organization_id: 1,
                reservations: vec![primary],
                product: Some(product),
                ..HeldOrganization::default()
            }),
            here: RegionState {
                organization: Some(ComparedOrganization {
                    slug: "acme".to_owned(),
                    name: "Acme".to_owned(),
                    status: 0,
                }),
                product: Some(here),
                ..RegionState::default()
            },
        }
    }

    fn right() -> ProductState {
        ProductState {
            slug: "acme".to_owned(),
            mapping: Some(ProductMapping {
                slug: "acme".to_owned(),
                name: "Acme".to_owned(),
                status: Some(0),
                other_region: String::new(),
            }),
            mapped_members: 2,
            members: Some(some(2, 7)),
            teams: Some(some(1, 5)),
            team_members: Some(some(3, 4)),
            tokens: Some(some(1, 9)),
            ..ProductState::default()
        }
    }

    fn found(product: ProductState) -> Vec<Difference> {
        let mut found = Vec::new();
        seen(product).product(1, &mut found);
        found
    }

    /// Whoever started it with a wrong name must not have everything announced or rewritten again and again.
    #[test]
    fn a_region_of_another_name_repairs_nothing_by_itself() {
        assert_eq!(found(right()), []);
        let mut elsewhere = right();
        elsewhere.other_region = "us-east".to_owned();
        if let Some(mapping) = &mut elsewhere.mapping {
            mapping.other_region = "us-east".to_owned();
        }
        let found = found(elsewhere);
        assert_eq!(found.len(), 2, "{found:?}");
        for difference in found {
            assert!(!difference.repair.as_ref().is_some_and(Repair::is_safe), "{difference:?}");
            assert!(difference.remedy.contains("--product-region-name us-east"), "{difference:?}");
        }
    }

    #[test]
    fn what_is_missing_is_repaired_by_itself_and_what_is_anothers_is_not() {
        let without = |change: fn(&mut ProductState)| {
            let mut product = right();
            change(&mut product);
            found(product).into_iter().map(|it| (it.kind, it.repair)).collect::<Vec<_>>()
        };
        let reservation = DifferenceKind::ProductReservationDiffers;
        let mapping = DifferenceKind::ProductMappingDiffers;
        assert_eq!(without(|it| it.slug.clear()), [(reservation, Some(Repair::RestoreReservation))]);
        assert_eq!(without(|it| "other".clone_into(&mut it.slug)), [(reservation, None)]);
        assert_eq!(without(|it| it.mapping = None), [(mapping, Some(Repair::Announce))]);
        assert_eq!(without(|it| it.members = Some(some(1, 3))), [(mapping, Some(Repair::Announce))]);
        // One too many does not hide one that is missing.
        assert_eq!(without(|it| it.members = Some(some(2, 8))), [(mapping, Some(Repair::Announce))]);
        assert_eq!(without(|it| it.teams = Some(some(1, 6))), [(mapping, Some(Repair::Announce))]);
        assert_eq!(without(|it| it.team_members = Some(some(2, 4))), [(mapping, Some(Repair::Announce))]);
        assert_eq!(
            without(|it| it.tokens = Some(some(2, 9))),
            [(reservation, Some(Repair::RestoreReservation))]
        );
        assert_eq!(without(|it| (it.teams, it.team_members, it.tokens) = (None, None, None)), []);
    }

    /// Announcing what is there does not remove what should not be, so nobody announces it again and again.
    #[test]
    fn what_is_too_many_is_told_and_left_to_people() {
        let found = |change: fn(&mut ProductState)| {
            let mut product = right();
            change(&mut product);
            found(product).into_iter().map(|it| (it.kind, it.repair)).collect::<Vec<_>>()
        };
        let mapping = DifferenceKind::ProductMappingDiffers;
        assert_eq!(found(|it| it.members = Some(some(3, 8))), [(mapping, None)]);
        assert_eq!(
            found(|it| it.tokens = Some(some(0, 0))),
            [(DifferenceKind::ProductReservationDiffers, None)]
        );
        let both = |it: &mut ProductState| {
            (it.members, it.teams) = (Some(some(3, 8)), Some(some(0, 0)));
        };
        assert_eq!(found(both), [(mapping, Some(Repair::Announce))], "what can be mended comes first");
    }

    /// Control may be of an older release than the region.
    #[test]
    fn an_older_control_counts_members() {
        for (mapped, differs) in [(2, false), (1, true)] {
            let mut product = right();
            (product.members, product.mapped_members) = (None, mapped);
            assert_eq!(!found(product).is_empty(), differs);
        }
    }
}
