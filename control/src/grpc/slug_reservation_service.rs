//! `causeway.control.v1.SlugReservationService`.

use std::{pin::Pin, time::Duration};

use causeway_proto::{
    control::v1::{
        self as proto, BulkCreateOrganizationSlugReservationsRequest,
        BulkCreateOrganizationSlugReservationsResponse, ConfirmOrganizationSlugReservationsRequest,
        ConfirmOrganizationSlugReservationsResponse, CreateOrganizationSlugReservationRequest,
        CreateOrganizationSlugReservationResponse, GetSlugOperationRequest, GetSlugOperationResponse,
        GetSlugRenameRequest, GetSlugRenameResponse, ListSlugOperationsRequest, ListSlugOperationsResponse,
        ListSlugReservationsRequest, ListSlugReservationsResponse,
        ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationSlugReservationsResponse,
        ReleaseOrganizationsRequest, ReleaseOrganizationsResponse, ReleaseSlugAliasRequest,
        ReleaseSlugAliasResponse, RenameState, ReservationType, SlugOperationState,
        UpdateOrganizationSlugRequest, UpdateOrganizationSlugResponse, WatchAllSlugReservationsRequest,
        WatchAllSlugReservationsResponse, WatchSlugReservationsRequest, WatchSlugReservationsResponse,
        feed_event::Change, slug_reservation_service_server::SlugReservationService,
    },
    page::{List, PageKey, fitting},
    time,
};
use causeway_silo::page::PageRequest;
use causeway_tls::Role;
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{
    bound_caller, bulk_create, caller,
    convert::{encode, kind, wanted_slug},
    filter, uuid,
};
use crate::{
    Error,
    feed::{self, Feeds, Message, all::AllMessage},
    model::{
        feed::FeedReservation,
        operation::{OperationFilter, OperationPosition, OperationSummary, Progress},
        rename::{self, Refusal, RenameRequest},
        reservation::{self, ListFilter},
    },
    slug::{
        renames::{self, Renames},
        reservations::SlugReservations,
    },
};

/// How long a call waits for the end of a rename if the caller sets no time.
const RENAME_WAIT: Duration = Duration::from_secs(10);
/// The longest wait that a caller may ask for.
const MAX_RENAME_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Handler {
    reservations: SlugReservations,
    renames: Renames,
    feeds: Feeds,
    page_key: PageKey,
}

impl Handler {
    pub(super) fn new(
        reservations: SlugReservations,
        renames: Renames,
        feeds: Feeds,
        page_key: PageKey,
    ) -> Self {
        Self { reservations, renames, feeds, page_key }
    }
}

fn decode_type(number: i32) -> Result<Option<reservation::ReservationType>, Error> {
    match ReservationType::try_from(number) {
        Ok(ReservationType::Unspecified) => Ok(None),
        Ok(ReservationType::Primary) => Ok(Some(reservation::ReservationType::Primary)),
        Ok(ReservationType::TemporaryRenameAlias) => {
            Ok(Some(reservation::ReservationType::TemporaryRenameAlias))
        }
        Ok(ReservationType::VanityAlias) => Ok(Some(reservation::ReservationType::VanityAlias)),
        Err(_) => Err(Error::invalid("type", "is unknown")),
    }
}

fn operation_state(progress: Progress) -> SlugOperationState {
    match progress {
        Progress::Reserving => SlugOperationState::Reserving,
        Progress::Reserved => SlugOperationState::Reserved,
        Progress::Confirming => SlugOperationState::Confirming,
        Progress::Confirmed => SlugOperationState::Confirmed,
        Progress::Releasing => SlugOperationState::Releasing,
        Progress::Released => SlugOperationState::Released,
    }
}

fn slug_operation(operation: OperationSummary) -> proto::SlugOperation {
    proto::SlugOperation {
        region: operation.region,
        operation_id: operation.operation_id.to_string(),
        state: operation_state(operation.progress).into(),
        organization_count: operation.organization_count,
        confirmed_count: operation.confirmed_count,
        released_count: operation.released_count,
        create_time: Some(time::to_proto(operation.created_at)),
        update_time: Some(time::to_proto(operation.updated_at)),
    }
}

/// Decodes the state filter of a list; `None` (all states) if it is unspecified.
fn progress(number: i32) -> Result<Option<Progress>, Error> {
    if number == i32::from(SlugOperationState::Unspecified) {
        return Ok(None);
    }
    let known = Progress::ALL.into_iter().find(|progress| i32::from(operation_state(*progress)) == number);
    known.map(Some).ok_or_else(|| Error::invalid("state", "is unknown"))
}

fn feed_change(reservation: FeedReservation) -> Change {
    let FeedReservation { slug, organization_id, kind: of, canonical_slug, operation_id, wanted } =
        reservation;
    let operation_id = operation_id.to_string();
    match of {
        Some(of) => Change::Reservation(proto::FeedReservation {
            slug,
            organization_id,
            r#type: kind(of).into(),
            canonical_slug: canonical_slug.unwrap_or_default(),
            operation_id,
            wanted,
        }),
        None => Change::Removed(proto::FeedRemoval { slug, organization_id, operation_id }),
    }
}

/// Encodes a reservation of a snapshot; `None` if the slug is free, because a snapshot leaves free slugs out.
fn feed_reservation(reservation: FeedReservation) -> Option<proto::FeedReservation> {
    match feed_change(reservation) {
        Change::Reservation(reservation) => Some(reservation),
        Change::Removed(_) => None,
    }
}

fn feed_message(message: Message) -> WatchSlugReservationsResponse {
    use proto::watch_slug_reservations_response::Part as Proto;
    let part = match message.part {
        feed::Part::Snapshot { version, reservations, first, last } => Proto::Snapshot(proto::FeedSnapshot {
            version,
            reservations: reservations.into_iter().filter_map(feed_reservation).collect(),
            first,
            last,
        }),
        feed::Part::Events(events) => Proto::Events(proto::FeedEvents {
            events: events
                .into_iter()
                .map(|event| proto::FeedEvent {
                    version: event.version,
                    change: Some(feed_change(event.reservation)),
                })
                .collect(),
        }),
        feed::Part::Heartbeat => Proto::Heartbeat(proto::FeedHeartbeat {}),
    };
    WatchSlugReservationsResponse { part: Some(part), current_version: message.current_version }
}

fn all_message(message: AllMessage) -> WatchAllSlugReservationsResponse {
    use proto::{region_feed, watch_all_slug_reservations_response::Part as All};
    let part = match message {
        AllMessage::Regions { regions, first, last } => {
            let regions = regions.into_iter().map(|(name, address)| proto::FeedRegion { name, address });
            All::Regions(proto::FeedRegions { regions: regions.collect(), first, last })
        }
        AllMessage::Feed { region, message } => {
            use proto::watch_slug_reservations_response::Part;
            let WatchSlugReservationsResponse { part, current_version } = feed_message(message);
            let part = match part {
                Some(Part::Snapshot(snapshot)) => Some(region_feed::Part::Snapshot(snapshot)),
                Some(Part::Events(events)) => Some(region_feed::Part::Events(events)),
                Some(Part::Heartbeat(_)) | None => None,
            };
            All::Feed(proto::RegionFeed { region, part, current_version })
        }
        AllMessage::Positions(positions) => {
            let positions =
                positions.into_iter().map(|(region, version)| proto::FeedPosition { region, version });
            All::Positions(proto::FeedPositions { positions: positions.collect() })
        }
    };
    WatchAllSlugReservationsResponse { part: Some(part) }
}

/// The region that calls, if that is a region: it renames its own organizations only. The access layer has checked
/// this, but the organization may have changed its owner since.
fn own_region<T>(request: &Request<T>) -> Option<String> {
    bound_caller(request)?.with_role(Role::Region).map(|region| region.name().to_owned())
}

#[tonic::async_trait]
impl SlugReservationService for Handler {
    type BulkCreateOrganizationSlugReservationsStream =
        Pin<Box<dyn Stream<Item = Result<BulkCreateOrganizationSlugReservationsResponse, Status>> + Send>>;

    async fn bulk_create_organization_slug_reservations(
        &self,
        request: Request<Streaming<BulkCreateOrganizationSlugReservationsRequest>>,
    ) -> Result<Response<Self::BulkCreateOrganizationSlugReservationsStream>, Status> {
        let (incoming, place) = bulk_create::receive(&self.reservations, request.into_inner()).await?;
        let given = self.reservations.bulk_create(incoming).await?;
        Ok(Response::new(Box::pin(bulk_create::send(&self.reservations, given, place))))
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
        let ReleaseOrganizationSlugReservationsRequest { region, operation_id, refusal, only_unconfirmed } =
            request.into_inner();
        let operation_id = uuid("operation_id", &operation_id)?;
        let refusal = refusal.map(|it| renames::refusal(it.reason(), &it.message)).transpose()?;
        let released_count = match (only_unconfirmed, refusal) {
            (false, refusal) => self.reservations.release_or_refuse(&region, operation_id, refusal).await?,
            (true, None) => self.reservations.release_stuck(&region, operation_id).await?,
            (true, Some(_)) => {
                return Err(
                    Error::invalid("only_unconfirmed", "must not be set together with refusal").into()
                );
            }
        };
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

    async fn update_organization_slug(
        &self,
        request: Request<UpdateOrganizationSlugRequest>,
    ) -> Result<Response<UpdateOrganizationSlugResponse>, Status> {
        let own_region = own_region(&request);
        let request = request.into_inner();
        let wait = match &request.wait {
            None => RENAME_WAIT,
            Some(wait) => time::duration_from_proto(wait)
                .filter(|wait| *wait <= MAX_RENAME_WAIT)
                .ok_or_else(|| Error::invalid("wait", "must be 0 to 60 s"))?,
        };
        let rename = RenameRequest {
            operation_id: uuid("operation_id", &request.operation_id)?,
            region: filter(request.region).or(own_region),
            organization_id: request.organization_id,
            desired_slug: request.desired_slug,
            require_exact: request.require_exact,
            keep_alias: request.keep_alias,
        };
        let rename = self.renames.update_organization_slug(&rename, wait).await?;
        let state = match rename.state {
            rename::RenameState::Pending => RenameState::Pending,
            _ => RenameState::Confirmed,
        };
        Ok(Response::new(UpdateOrganizationSlugResponse {
            state: state.into(),
            organization_id: rename.organization_id,
            region: rename.region,
            slug: rename.slug,
            previous_slug: rename.previous_slug,
        }))
    }

    async fn get_slug_rename(
        &self,
        request: Request<GetSlugRenameRequest>,
    ) -> Result<Response<GetSlugRenameResponse>, Status> {
        let operation_id = uuid("operation_id", &request.into_inner().operation_id)?;
        let rename = self.renames.get(operation_id).await?;
        let (state, refusal) = match rename.state {
            rename::RenameState::Pending => (RenameState::Pending, None),
            rename::RenameState::Confirmed => (RenameState::Confirmed, None),
            rename::RenameState::Refused(Refusal { reason, message }) => {
                (RenameState::Refused, Some(proto::SlugRefusal { reason: reason.into(), message }))
            }
        };
        Ok(Response::new(GetSlugRenameResponse {
            state: state.into(),
            organization_id: rename.organization_id,
            region: rename.region,
            desired_slug: rename.desired_slug,
            require_exact: rename.require_exact,
            keep_alias: rename.keep_alias,
            slug: rename.slug,
            previous_slug: rename.previous_slug,
            refusal,
        }))
    }

    async fn release_slug_alias(
        &self,
        request: Request<ReleaseSlugAliasRequest>,
    ) -> Result<Response<ReleaseSlugAliasResponse>, Status> {
        let ReleaseSlugAliasRequest { organization_id, slug } = request.into_inner();
        let released = self.renames.release_alias(organization_id, &slug).await?;
        Ok(Response::new(ReleaseSlugAliasResponse { released }))
    }

    async fn create_organization_slug_reservation(
        &self,
        request: Request<CreateOrganizationSlugReservationRequest>,
    ) -> Result<Response<CreateOrganizationSlugReservationResponse>, Status> {
        let CreateOrganizationSlugReservationRequest { region, operation_id, organization } =
            request.into_inner();
        let operation_id = uuid("operation_id", &operation_id)?;
        let organization = organization.ok_or_else(|| Error::invalid("organization", "is missing"))?;
        let slug = self.reservations.create(&region, operation_id, wanted_slug(organization)).await?;
        Ok(Response::new(CreateOrganizationSlugReservationResponse {
            slug: Some(bulk_create::resolved(slug)),
        }))
    }

    async fn get_slug_operation(
        &self,
        request: Request<GetSlugOperationRequest>,
    ) -> Result<Response<GetSlugOperationResponse>, Status> {
        let GetSlugOperationRequest { region, operation_id } = request.into_inner();
        let operation = self.reservations.operation(&region, uuid("operation_id", &operation_id)?).await?;
        Ok(Response::new(GetSlugOperationResponse { operation: Some(slug_operation(operation)) }))
    }

    async fn list_slug_operations(
        &self,
        request: Request<ListSlugOperationsRequest>,
    ) -> Result<Response<ListSlugOperationsResponse>, Status> {
        let ListSlugOperationsRequest { region, state, page_size, page_token } = request.into_inner();
        let filters = [region.as_str(), &state.to_string()];
        let list = List::new(&self.page_key, "ListSlugOperations", &filters);
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let filter = OperationFilter { region: filter(region.clone()), progress: progress(state)? };
        let page = self.reservations.operations(&filter, &page_request).await?;
        let (operations, next) = fitting(page.items, page.next, OperationPosition::of, slug_operation);
        Ok(Response::new(ListSlugOperationsResponse { operations, next_page_token: list.token(next) }))
    }

    type WatchSlugReservationsStream =
        Pin<Box<dyn Stream<Item = Result<WatchSlugReservationsResponse, Status>> + Send>>;

    async fn watch_slug_reservations(
        &self,
        request: Request<WatchSlugReservationsRequest>,
    ) -> Result<Response<Self::WatchSlugReservationsStream>, Status> {
        // The id of a database gives nobody rights: it is known to whoever has seen it.
        let may_be_the_region = match caller(&request) {
            Some(caller) => caller.is_region(&request.get_ref().region),
            None => true,
        };
        let WatchSlugReservationsRequest { region, after_version, instance_id } = request.into_inner();
        let instance_id = filter(instance_id).map(|id| uuid("instance_id", &id)).transpose()?;
        if instance_id.is_some() && !may_be_the_region {
            return Err(Error::NotOwnRegion { region }.into());
        }
        let messages = self.feeds.watch(&region, after_version, instance_id).await?;
        let messages = messages.into_stream().map(|message| Ok(feed_message(message?)));
        Ok(Response::new(Box::pin(messages)))
    }

    type WatchAllSlugReservationsStream =
        Pin<Box<dyn Stream<Item = Result<WatchAllSlugReservationsResponse, Status>> + Send>>;

    async fn watch_all_slug_reservations(
        &self,
        request: Request<WatchAllSlugReservationsRequest>,
    ) -> Result<Response<Self::WatchAllSlugReservationsStream>, Status> {
        let positions = request.into_inner().positions;
        let positions = positions.into_iter().map(|position| (position.region, position.version));
        let messages = self.feeds.watch_all(positions.collect()).await?;
        let messages = messages.into_stream().map(|message| Ok(all_message(message?)));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_slug_reservations(
        &self,
        request: Request<ListSlugReservationsRequest>,
    ) -> Result<Response<ListSlugReservationsResponse>, Status> {
        let ListSlugReservationsRequest { region, r#type, page_size, page_token } = request.into_inner();
        let kind = decode_type(r#type)?;
        let filters = [region.as_str(), &r#type.to_string()];
        let list = List::new(&self.page_key, "ListSlugReservations", &filters);
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let filter = ListFilter { region: filter(region.clone()), kind };
        let page = self.reservations.list(&filter, &page_request).await?;
        let (reservations, next) = fitting(page.items, page.next, |item| item.slug.clone(), encode);
        Ok(Response::new(ListSlugReservationsResponse { reservations, next_page_token: list.token(next) }))
    }
}
