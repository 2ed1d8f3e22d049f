//! How the product's own tables differ from what region and control have of an organization. Work that its
//! workers have not done yet is no difference: messages about the organization wait for them then.

use causeway_proto::control::v1::{ProductState, SlugReservation};

use super::difference::{DO_REPAIR, Difference, DifferenceKind, Observation, Repair};
use crate::store::compared::ComparedOrganization;

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
        } else if let Some(wrong) = self.wrong_reservation(theirs, primary) {
            add(
                DifferenceKind::ProductReservationDiffers,
                &wrong,
                &format!("have control write and announce it: {DO_REPAIR}"),
                Some(Repair::RestoreReservation),
            );
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
        } else if let Some(wrong) = self.wrong_mapping(theirs, organization) {
            add(
                DifferenceKind::ProductMappingDiffers,
                &wrong,
                &format!("announce the organization to the product's workers again: {DO_REPAIR}"),
                Some(Repair::Announce),
            );
        }
    }

    fn wrong_reservation(&self, theirs: &ProductState, primary: &SlugReservation) -> Option<String> {
        if theirs.slug.is_empty() {
            return Some("no slug is reserved for it".to_owned());
        }
        match self.here.product.as_ref()?.slug.as_deref()? {
            _ if theirs.waiting => None,
            "" => Some("the region has no copy of its slug reservation".to_owned()),
            copy if copy != primary.slug => {
                Some(format!("the region's copy of its slug reservation is `{copy}`"))
            }
            _ => None,
        }
    }

    fn wrong_mapping(&self, theirs: &ProductState, organization: &ComparedOrganization) -> Option<String> {
        let here = self.here.product.as_ref().filter(|here| !here.waiting)?;
        let Some(mapping) = &theirs.mapping else { return Some("it has no mapping".to_owned()) };
        let fields = [
            ("slug", mapping.slug != organization.slug),
            ("name", mapping.name != organization.name),
            ("status", mapping.status != Some(organization.status)),
        ];
        let wrong: Vec<&str> =
            fields.into_iter().filter_map(|(field, wrong)| wrong.then_some(field)).collect();
        if !wrong.is_empty() {
            return Some(format!("its mapping has another {}", wrong.join(" and ")));
        }
        let missing = here.members - theirs.mapped_members;
        (missing > 0).then(|| format!("{missing} of its {} members have no mapping", here.members))
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::{HeldOrganization, ProductMapping, ReservationType};

    use super::*;
    use crate::store::compared::RegionState;

    /// An organization `acme` as region, control and the product have it.
    fn seen(product: ProductState) -> Observation {
        let primary = SlugReservation {
            slug: "acme".to_owned(),
            r#type: ReservationType::Primary.into(),
            ..SlugReservation::default()
        };
        let here = crate::store::compared::ProductState {
            members: 2,
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
        assert_eq!(without(|it| it.mapped_members = 1), [(mapping, Some(Repair::Announce))]);
        assert_eq!(without(|it| it.mapped_members = 3), []);
    }
}
