//! Conversions between plain types and messages that several services use.

use causeway_proto::{
    control::v1::{OrganizationSlugRequest, ReservationType, SlugReservation},
    time,
};

use crate::model::reservation::{self, Reservation, WantedSlug};

pub(super) fn wanted_slug(request: OrganizationSlugRequest) -> WantedSlug {
    let OrganizationSlugRequest { organization_id, slug, name, taken_in_region } = request;
    WantedSlug { organization_id, slug, name, taken_in_region }
}

pub(super) fn kind(kind: reservation::ReservationType) -> ReservationType {
    match kind {
        reservation::ReservationType::Primary => ReservationType::Primary,
        reservation::ReservationType::TemporaryRenameAlias => ReservationType::TemporaryRenameAlias,
        reservation::ReservationType::VanityAlias => ReservationType::VanityAlias,
    }
}

pub(super) fn encode(reservation: Reservation) -> SlugReservation {
    SlugReservation {
        slug: reservation.slug,
        region: reservation.region,
        organization_id: reservation.organization_id,
        r#type: kind(reservation.kind).into(),
        operation_id: reservation.operation_id.to_string(),
        create_time: Some(time::to_proto(reservation.created_at)),
    }
}
