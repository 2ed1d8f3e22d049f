//! `causeway.control.v1.SlugReservationService`.

use std::{iter, pin::Pin};

use causeway_proto::{
    control::v1::{
        BulkCreateOrganizationSlugReservationsRequest, BulkCreateOrganizationSlugReservationsResponse,
        ConfirmOrganizationSlugReservationsRequest, ConfirmOrganizationSlugReservationsResponse,
        ListSlugReservationsRequest, ListSlugReservationsResponse, OrganizationSlugRequest,
        ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationSlugReservationsResponse,
        ReleaseOrganizationsRequest, ReleaseOrganizationsResponse, ReservationType, ResolvedSlug,
        SlugReservation, bulk_create_organization_slug_reservations_request::Part,
        slug_reservation_service_server::SlugReservationService,
    },
    page::List,
    time,
};
use causeway_relocation::page::PageRequest;
use futures::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{filter, uuid};
use crate::{
    Error,
    slug_reservations::{self, ListFilter, Reservation, SlugReservations, WantedSlug},
};

/// The most answers of one message. With the longest slugs they take less than half of what a message may.
const ANSWERS: usize = 5000;

/// Answers the calls.
#[derive(Debug)]
pub(super) struct Handler {
    reservations: SlugReservations,
}

impl Handler {
    pub(super) fn new(reservations: SlugReservations) -> Self {
        Self { reservations }
    }
}

pub(super) fn wanted(request: OrganizationSlugRequest) -> WantedSlug {
    let OrganizationSlugRequest { organization_id, slug, name, taken_in_region } = request;
    WantedSlug { organization_id, slug, name, taken_in_region }
}

fn resolved(answer: slug_reservations::ResolvedSlug) -> ResolvedSlug {
    let slug_reservations::ResolvedSlug { organization_id, wanted_slug, slug } = answer;
    ResolvedSlug { organization_id, wanted_slug, slug }
}

fn encode(reservation: Reservation) -> SlugReservation {
    let kind = match reservation.kind {
        slug_reservations::ReservationType::Primary => ReservationType::Primary,
        slug_reservations::ReservationType::TemporaryRenameAlias => ReservationType::TemporaryRenameAlias,
    };
    SlugReservation {
        slug: reservation.slug,
        region: reservation.region,
        organization_id: reservation.organization_id,
        r#type: kind.into(),
        operation_id: reservation.operation_id.to_string(),
        create_time: Some(time::to_proto(reservation.created_at)),
    }
}

fn decode_type(number: i32) -> Result<Option<slug_reservations::ReservationType>, Error> {
    match ReservationType::try_from(number) {
        Ok(ReservationType::Unspecified) => Ok(None),
        Ok(ReservationType::Primary) => Ok(Some(slug_reservations::ReservationType::Primary)),
        Ok(ReservationType::TemporaryRenameAlias) => {
            Ok(Some(slug_reservations::ReservationType::TemporaryRenameAlias))
        }
        Err(_) => Err(Error::invalid("type", "is unknown")),
    }
}

/// The answers in messages, made one after the other as the caller takes them.
fn batches(
    answers: Vec<slug_reservations::ResolvedSlug>,
) -> impl Iterator<Item = Result<BulkCreateOrganizationSlugReservationsResponse, Status>> {
    let mut answers = answers.into_iter();
    iter::from_fn(move || {
        let slugs: Vec<_> = answers.by_ref().take(ANSWERS).map(resolved).collect();
        (!slugs.is_empty()).then_some(Ok(BulkCreateOrganizationSlugReservationsResponse { slugs }))
    })
}

#[tonic::async_trait]
impl SlugReservationService for Handler {
    type BulkCreateOrganizationSlugReservationsStream =
        Pin<Box<dyn Stream<Item = Result<BulkCreateOrganizationSlugReservationsResponse, Status>> + Send>>;

    async fn bulk_create_organization_slug_reservations(
        &self,
        request: Request<Streaming<BulkCreateOrganizationSlugReservationsRequest>>,
    ) -> Result<Response<Self::BulkCreateOrganizationSlugReservationsStream>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.message().await?.and_then(|first| first.part) else {
            return Err(Error::invalid("header", "must be the first message").into());
        };
        let operation_id = uuid("header.operation_id", &header.operation_id)?;
        let mut incoming = self.reservations.begin(&header.region, operation_id).await?;
        while let Some(message) = parts.message().await? {
            let Some(Part::Batch(batch)) = message.part else {
                return Err(Error::invalid("batch", "must be every message but the first").into());
            };
            incoming.add(batch.requests.into_iter().map(wanted).collect())?;
        }
        let answers = self.reservations.bulk_create(incoming).await?;
        Ok(Response::new(Box::pin(stream::iter(batches(answers)))))
    }

    async fn confirm_organization_slug_reservations(
        &self,
        request: Request<ConfirmOrganizationSlugReservationsRequest>,
    ) -> Result<Response<ConfirmOrganizationSlugReservationsResponse>, Status> {
        let ConfirmOrganizationSlugReservationsRequest { region, operation_id } = request.into_inner();
        let operation_id = uuid("operation_id", &operation_id)?;
        let reservation_count = self.reservations.confirm(&region, operation_id).await?;
        Ok(Response::new(ConfirmOrganizationSlugReservationsResponse { reservation_count }))
    }

    async fn release_organization_slug_reservations(
        &self,
        request: Request<ReleaseOrganizationSlugReservationsRequest>,
    ) -> Result<Response<ReleaseOrganizationSlugReservationsResponse>, Status> {
        let ReleaseOrganizationSlugReservationsRequest { region, operation_id } = request.into_inner();
        let operation_id = uuid("operation_id", &operation_id)?;
        let released_count = self.reservations.release(&region, operation_id).await?.cast_signed();
        Ok(Response::new(ReleaseOrganizationSlugReservationsResponse { released_count }))
    }

    async fn release_organizations(
        &self,
        request: Request<ReleaseOrganizationsRequest>,
    ) -> Result<Response<ReleaseOrganizationsResponse>, Status> {
        let ReleaseOrganizationsRequest { region, organization_ids } = request.into_inner();
        let released_count =
            self.reservations.release_organizations(&region, organization_ids).await?.cast_signed();
        Ok(Response::new(ReleaseOrganizationsResponse { released_count }))
    }

    async fn list_slug_reservations(
        &self,
        request: Request<ListSlugReservationsRequest>,
    ) -> Result<Response<ListSlugReservationsResponse>, Status> {
        let ListSlugReservationsRequest { region, r#type, page_size, page_token } = request.into_inner();
        let kind = decode_type(r#type)?;
        let filters = [region.as_str(), &r#type.to_string()];
        let list = List::new("ListSlugReservations", &filters);
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let filter = ListFilter { region: filter(region.clone()), kind };
        let page = self.reservations.list(&filter, &page_request).await?;
        Ok(Response::new(ListSlugReservationsResponse {
            reservations: page.items.into_iter().map(encode).collect(),
            next_page_token: list.token(page.next),
        }))
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::MAX_MESSAGE_BYTES;

    use super::*;

    #[test]
    fn the_largest_message_of_answers_is_well_below_the_limit() {
        let answer = |organization_id| slug_reservations::ResolvedSlug {
            organization_id,
            wanted_slug: "x".repeat(crate::slug_operation::MAX_TEXT),
            slug: "x".repeat(crate::slug::MAX_LENGTH),
        };
        let first = crate::regions::MAX_ID - 12_000;
        let sizes: Vec<(usize, usize)> = batches((first..first + 12_000).map(answer).collect())
            .map(|batch| {
                let batch = batch.expect("no batch fails");
                (batch.slugs.len(), prost::Message::encoded_len(&batch))
            })
            .collect();
        assert_eq!(sizes.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [5000, 5000, 2000]);
        assert!(sizes.iter().all(|(_, bytes)| *bytes < MAX_MESSAGE_BYTES / 2), "{sizes:?}");
    }
}
