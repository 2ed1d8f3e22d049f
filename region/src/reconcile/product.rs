//! How the product's own tables differ from what region and control have of an organization. What its workers have yet
//! to do is no difference: then messages about the organization wait for them.

use causeway_proto::control::v1::{ProductState, SlugReservation};

use super::difference::{DO_REPAIR, Difference, DifferenceKind, Observation, Repair};
use crate::store::reconciliation::ComparedOrganization;

impl Observation {
    /// Adds what differs in the product's own tables. Nothing does if they are not there, or if the slugs of region and
    /// control differ: that comes first.
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
        if let Some(wrong) = self.wrong_mapping(theirs, organization) {
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
            ("region", !mapping.other_region.is_empty()),
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
