//! How a region and control differ about one organization, and how to repair it: a function of what both store.

use std::collections::BTreeMap;

pub(crate) use causeway_proto::region::v1::DifferenceKind;
use causeway_proto::{
    control::v1::{HeldOrganization, ReportedOrganization, ReservationType, SlugReservation},
    organization_status::HIDDEN,
};
use uuid::Uuid;

use crate::{
    convert::directory_status,
    replica::ReplicaType,
    store::compared::{ComparedOrganization, RegionState, Replicated},
};

/// What was read of an organization: first at control, then in the region.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Observation {
    pub(super) held: Option<HeldOrganization>,
    pub(super) here: RegionState,
}

/// How to repair a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Repair {
    /// Control confirms the operation of a temporary reservation.
    Confirm(Uuid),
    /// Control releases the operation of a temporary reservation.
    Release(Uuid),
    /// Control reserves the slug that the organization has.
    Reserve,
    /// Control reserves another slug like the one that the organization has, which another one has at control.
    ReserveOther,
    /// The region gives the organization the slug that control has reserved for it.
    TakeSlug,
    /// Control releases everything that it stores for the organization, slugs too.
    Free,
    /// The region reports the organization to control's directory.
    Report,
    /// The region builds its replica again from a snapshot of the feed.
    Snapshot,
    /// Control writes the product's reservation and announces it to the product's workers.
    RestoreReservation,
    /// Control makes the product's reservation one of this region, and announces it.
    MoveReservation,
    /// The region announces the organization, its members and teams to the product's workers.
    Announce,
}

impl Repair {
    /// Whether a region makes this repair by itself: it loses nothing, whatever the reason for the difference is.
    pub(super) fn is_safe(&self) -> bool {
        !matches!(self, Self::ReserveOther | Self::TakeSlug | Self::Free | Self::MoveReservation)
    }
}

/// One difference between region and control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// In which way region and control differ, which decides the repair.
    pub(crate) kind: DifferenceKind,
    /// The id of the organization; the lower id if two organizations have the same slug.
    pub(crate) organization_id: i64,
    /// Its slug in the region; `None` if the region does not have the organization.
    pub(crate) slug: Option<String>,
    /// The slug at control that the difference is about; `None` if there is none.
    pub(crate) control_slug: Option<String>,
    /// What differs, in words.
    pub(crate) message: String,
    /// What to do about it; empty after a repair.
    pub(crate) remedy: String,
    /// Whether it has been repaired.
    pub(crate) repaired: bool,
    /// How to repair it; `None` if only people can.
    pub(super) repair: Option<Repair>,
}

/// In backticks, like all commands in a remedy: the caller adds the addresses of region and control.
pub(super) const DO_REPAIR: &str = "`causeway reconcile --repair`";

impl Observation {
    fn of_type(&self, kind: ReservationType) -> impl Iterator<Item = &SlugReservation> {
        let held = self.held.iter().flat_map(|held| &held.reservations);
        held.filter(move |reservation| reservation.r#type() == kind)
    }

    pub(super) fn primary(&self) -> Option<&SlugReservation> {
        self.of_type(ReservationType::Primary).next()
    }

    /// What control's directory should have for the organization; `None` if the region does not have the organization.
    pub(super) fn report(&self, id: i64) -> Option<ReportedOrganization> {
        self.here.organization.as_ref().map(|organization| self.report_of(id, organization))
    }

    fn report_of(&self, id: i64, organization: &ComparedOrganization) -> ReportedOrganization {
        ReportedOrganization {
            organization_id: id,
            // Control replaces this slug by the one that it has reserved.
            slug: self.primary().map_or_else(|| organization.slug.clone(), |primary| primary.slug.clone()),
            name: organization.name.clone(),
            status: directory_status(organization.status).into(),
        }
    }

    /// All differences about an organization. Empty if work is in progress that will change it, or may.
    pub(super) fn differences(&self, id: i64) -> Vec<Difference> {
        let renamed = self.held.as_ref().is_some_and(|held| !held.rename_operation_id.is_empty());
        if self.here.under_way || renamed {
            return Vec::new();
        }
        let mut found = Vec::new();
        let confirmable = self.temporary(id, &mut found);
        match (&self.here.organization, self.primary()) {
            (Some(organization), None) if organization.status != HIDDEN && !confirmable => {
                found.push(self.difference(
                    DifferenceKind::OrganizationWithoutReservation,
                    id,
                    None,
                    format!("organization {id} is `{}`, and control holds no slug for it", organization.slug),
                    format!("have it reserved: {DO_REPAIR}"),
                    Repair::Reserve,
                ));
            }
            (Some(organization), Some(primary)) => self.with_slug(id, organization, primary, &mut found),
            (None, _) => self.without_row(id, &mut found),
            (Some(_), None) => {}
        }
        self.replica(id, &mut found);
        self.product(id, &mut found);
        found
    }

    pub(super) fn difference(
        &self,
        kind: DifferenceKind,
        id: i64,
        control_slug: Option<&str>,
        message: String,
        remedy: String,
        repair: impl Into<Option<Repair>>,
    ) -> Difference {
        Difference {
            kind,
            organization_id: id,
            slug: self.here.organization.as_ref().map(|organization| organization.slug.clone()),
            control_slug: control_slug.map(str::to_owned),
            message,
            remedy,
            repaired: false,
            repair: repair.into(),
        }
    }

    /// Adds a temporary reservation that nobody works on. Returns whether its organization has that slug and no primary
    /// reservation.
    fn temporary(&self, id: i64, found: &mut Vec<Difference>) -> bool {
        let Some(left) = self.of_type(ReservationType::TemporaryRenameAlias).next() else { return false };
        let has_it = self.here.organization.as_ref().is_some_and(|it| it.slug == left.slug);
        let confirmable = has_it && self.primary().is_none();
        let operation = Uuid::try_parse(&left.operation_id).ok();
        let (does, repair) = if confirmable {
            ("confirm", operation.map(Repair::Confirm))
        } else {
            ("release", operation.map(Repair::Release))
        };
        let remedy = match &repair {
            Some(_) => format!("{does} it: {DO_REPAIR}"),
            None => {
                "it cannot be repaired: control does not say by which operation it is reserved".to_owned()
            }
        };
        found.push(self.difference(
            DifferenceKind::TemporaryReservationLeft,
            id,
            Some(&left.slug),
            format!(
                "`{}` is reserved temporarily for organization {id} by operation {}, and no import or rename will \
                 confirm or release it",
                left.slug, left.operation_id
            ),
            remedy,
            repair,
        ));
        confirmable
    }

    fn with_slug(
        &self,
        id: i64,
        organization: &ComparedOrganization,
        primary: &SlugReservation,
        found: &mut Vec<Difference>,
    ) {
        let (own, theirs) = (&organization.slug, &primary.slug);
        if own != theirs {
            let product = self.held.as_ref().and_then(|held| held.product.as_ref());
            let (remedy, repair) = if product.is_some_and(|product| product.slug == *own) {
                let remedy = format!(
                    "the product has renamed it, and control could not follow, because another organization has `{own}` at \
                     control or a rename is under way: give that one another slug; or rename this one in the product"
                );
                (remedy, None)
            } else {
                let remedy = format!(
                    "give it control's slug: {DO_REPAIR}; or keep the region's: `causeway slugs rename {id} {own} --exact`"
                );
                (remedy, Some(Repair::TakeSlug))
            };
            found.push(self.difference(
                DifferenceKind::SlugDiffers,
                id,
                Some(theirs),
                format!("organization {id} is `{own}`, and control holds `{theirs}` for it"),
                remedy,
                repair,
            ));
        }
        let listed = self.held.as_ref().and_then(|held| held.listed.as_ref());
        let should = self.report_of(id, organization);
        let wrong = match listed {
            None => "does not have it".to_owned(),
            Some(listed) => {
                let fields =
                    [("name", listed.name != should.name), ("status", listed.status != should.status)];
                let wrong: Vec<&str> =
                    fields.into_iter().filter_map(|(field, wrong)| wrong.then_some(field)).collect();
                if wrong.is_empty() {
                    return;
                }
                format!("has another {} of it", wrong.join(" and "))
            }
        };
        found.push(self.difference(
            DifferenceKind::DirectoryDiffers,
            id,
            Some(theirs),
            format!("organization {id} is `{own}` here, and control's directory {wrong}"),
            format!("report it again: {DO_REPAIR}"),
            Repair::Report,
        ));
    }

    /// Adds what control stores for an organization that the region does not have.
    fn without_row(&self, id: i64, found: &mut Vec<Difference>) {
        let slugs: Vec<&str> = self
            .of_type(ReservationType::Primary)
            .chain(self.of_type(ReservationType::VanityAlias))
            .map(|reservation| reservation.slug.as_str())
            .collect();
        if let Some(first) = slugs.first() {
            found.push(self.difference(
                DifferenceKind::ReservationWithoutOrganization,
                id,
                Some(first),
                format!(
                    "control holds `{}` for organization {id}, which the region does not have",
                    slugs.join("`, `")
                ),
                format!(
                    "if the region's database is an old copy, restore a newer one; otherwise have all freed that is held \
                     for it: {DO_REPAIR}"
                ),
                Repair::Free,
            ));
        }
    }

    fn replica(&self, id: i64, found: &mut Vec<Difference>) {
        let canonical_slug = self.primary().map(|primary| primary.slug.clone());
        let told = |kind: ReservationType, name: ReplicaType| {
            let canonical_slug = canonical_slug.clone();
            self.of_type(kind).map(move |reservation| {
                let kind = name.name().to_owned();
                (reservation.slug.clone(), Replicated { kind, canonical_slug: canonical_slug.clone() })
            })
        };
        let should: BTreeMap<String, Replicated> = told(ReservationType::Primary, ReplicaType::Primary)
            .chain(told(ReservationType::VanityAlias, ReplicaType::Alias))
            .collect();
        let all = should.keys().chain(self.here.replica.keys().filter(|slug| !should.contains_key(*slug)));
        let wrong: Vec<&str> = all
            .filter(|slug| should.get(*slug) != self.here.replica.get(*slug))
            .map(String::as_str)
            .collect();
        if wrong.is_empty() {
            return;
        }
        found.push(self.difference(
            DifferenceKind::ReplicaDiffers,
            id,
            canonical_slug.as_deref(),
            format!(
                "of organization {id}, the region's replica does not have `{}` as control has it",
                wrong.join("`, `")
            ),
            format!("take a snapshot of the feed: {DO_REPAIR}"),
            Repair::Snapshot,
        ));
    }
}
