//! `causeway.control.v1.RegionService`.

use causeway_proto::{
    control::v1::{
        AddRegionRequest, AddRegionResponse, GetRegionRequest, GetRegionResponse, HeldIds, IdConflict,
        IdConflictKind, IdRange, LeaseIdsRequest, LeaseIdsResponse, ListRegionsRequest, ListRegionsResponse,
        Region, RegionSuspension, RegisterRegionRequest, RegisterRegionResponse, RemoveRegionRequest,
        RemoveRegionResponse, ResumeRegionRequest, ResumeRegionResponse, SuspendRegionRequest,
        SuspendRegionResponse, TakeOverRegionRequest, TakeOverRegionResponse,
        region_service_server::RegionService,
    },
    page::{List, PageKey, fitting},
    time,
};
use causeway_silo::page::PageRequest;
use causeway_tls::{Caller, CertificateEnd, Role};
use tonic::{Request, Response, Status};

use super::{bound_caller, uuid};
use crate::{
    Error,
    model::region,
    regions::{Regions, Registration},
};

#[derive(Debug)]
pub(super) struct Handler {
    regions: Regions,
    page_key: PageKey,
}

impl Handler {
    pub(super) fn new(regions: Regions, page_key: PageKey) -> Self {
        Self { regions, page_key }
    }
}

fn suspension(suspension: region::Suspension) -> RegionSuspension {
    RegionSuspension {
        suspend_time: Some(time::to_proto(suspension.suspended_at)),
        suspended_by: suspension.suspended_by.unwrap_or_default(),
        text: suspension.text.unwrap_or_default(),
    }
}

fn encode(region: region::KnownRegion) -> Region {
    let added = Region {
        name: region.name,
        add_time: Some(time::to_proto(region.added_at)),
        added_by: region.added_by.unwrap_or_default(),
        suspension: region.suspension.map(suspension),
        feed_version: region.feed_version.unwrap_or_default(),
        has_id_conflicts: region.has_id_conflicts,
        ..Region::default()
    };
    let Some(registered) = region.registered else { return added };
    Region {
        address: registered.address,
        create_time: Some(time::to_proto(registered.created_at)),
        last_seen_time: Some(time::to_proto(registered.last_seen_at)),
        last_contact_time: registered.last_contact_at.map(time::to_proto),
        certificate_end_time: registered.certificate_end.map(time::to_proto),
        identity: registered.identity.unwrap_or_default(),
        ..added
    }
}

/// Who gets those details of a region that only operators and the region itself should know.
enum Audience {
    /// An operator, or somebody where callers need no identity.
    All,
    /// A region or router, by the names of its regions.
    Regions(Vec<String>),
}

impl Audience {
    fn of<T>(request: &Request<T>) -> Self {
        let Some(caller) = bound_caller(request) else { return Self::All };
        let regions = caller.identities().filter(|identity| identity.role() == Role::Region);
        Self::Regions(regions.map(|region| region.name().to_owned()).collect())
    }

    fn may_see(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Regions(own) => own.iter().any(|own| own == name),
        }
    }

    /// Leaves out who added, suspended or registered the region, and why it was suspended.
    fn shown(&self, region: Region) -> Region {
        if self.may_see(&region.name) {
            return region;
        }
        let suspension = region
            .suspension
            .map(|it| RegionSuspension { suspend_time: it.suspend_time, ..RegionSuspension::default() });
        Region { added_by: String::new(), identity: String::new(), suspension, ..region }
    }
}

/// Who calls in this role, as the port knows it.
fn caller<T>(request: &Request<T>, role: Role) -> region::Caller {
    let caller = request.extensions().get::<Caller>();
    region::Caller {
        identity: caller.and_then(|caller| caller.with_role(role)).map(ToString::to_string),
        certificate_end: request.extensions().get::<CertificateEnd>().map(|end| end.0),
    }
}

fn held_ids(ids: HeldIds) -> region::HeldIds {
    let range = |range: IdRange| region::IdRange { first: range.first_id, last: range.last_id };
    region::HeldIds {
        model: ids.model,
        ranges: ids.ranges.into_iter().map(range).collect(),
        is_exact: ids.exact,
    }
}

fn conflict(conflict: region::IdConflict) -> IdConflict {
    let kind = match conflict.kind {
        region::ConflictKind::Leased => IdConflictKind::Leased,
        region::ConflictKind::Held => IdConflictKind::Held,
        region::ConflictKind::Reserved => IdConflictKind::Reserved,
    };
    IdConflict {
        model: conflict.model,
        ids: Some(IdRange { first_id: conflict.ids.first, last_id: conflict.ids.last }),
        region: conflict.region,
        kind: kind.into(),
    }
}

#[tonic::async_trait]
impl RegionService for Handler {
    async fn add_region(
        &self,
        request: Request<AddRegionRequest>,
    ) -> Result<Response<AddRegionResponse>, Status> {
        let caller = caller(&request, Role::Operator);
        let (region, added) = self.regions.add(&request.get_ref().name, &caller).await?;
        Ok(Response::new(AddRegionResponse { region: Some(encode(region)), existed: !added }))
    }

    async fn remove_region(
        &self,
        request: Request<RemoveRegionRequest>,
    ) -> Result<Response<RemoveRegionResponse>, Status> {
        let removed = self.regions.remove(&request.get_ref().name).await?;
        Ok(Response::new(RemoveRegionResponse { removed }))
    }

    async fn suspend_region(
        &self,
        request: Request<SuspendRegionRequest>,
    ) -> Result<Response<SuspendRegionResponse>, Status> {
        let caller = caller(&request, Role::Operator);
        let SuspendRegionRequest { name, text } = request.into_inner();
        let (region, suspended) = self.regions.suspend(&name, &text, &caller).await?;
        Ok(Response::new(SuspendRegionResponse { region: Some(encode(region)), was_suspended: !suspended }))
    }

    async fn resume_region(
        &self,
        request: Request<ResumeRegionRequest>,
    ) -> Result<Response<ResumeRegionResponse>, Status> {
        let (region, resumed) = self.regions.resume(&request.get_ref().name).await?;
        Ok(Response::new(ResumeRegionResponse { region: Some(encode(region)), was_suspended: resumed }))
    }

    async fn register_region(
        &self,
        request: Request<RegisterRegionRequest>,
    ) -> Result<Response<RegisterRegionResponse>, Status> {
        let caller = caller(&request, Role::Region);
        let RegisterRegionRequest { name, address, instance_id, held_ids, product_name } =
            request.into_inner();
        let instance_id = uuid("instance_id", &instance_id)?;
        let held_ids = held_ids.into_iter().map(self::held_ids).collect();
        let registration = Registration { name, address, instance_id, product_name, held_ids };
        let (region, conflicts) = self.regions.register_with_ids(registration, &caller).await?;
        Ok(Response::new(RegisterRegionResponse {
            region: Some(encode(region)),
            conflicts: conflicts.into_iter().map(conflict).collect(),
        }))
    }

    async fn take_over_region(
        &self,
        request: Request<TakeOverRegionRequest>,
    ) -> Result<Response<TakeOverRegionResponse>, Status> {
        let TakeOverRegionRequest { name, instance_id } = request.into_inner();
        let instance_id =
            if instance_id.is_empty() { None } else { Some(uuid("instance_id", &instance_id)?) };
        let region = self.regions.take_over(&name, instance_id).await?;
        Ok(Response::new(TakeOverRegionResponse { region: Some(encode(region)) }))
    }

    async fn get_region(
        &self,
        request: Request<GetRegionRequest>,
    ) -> Result<Response<GetRegionResponse>, Status> {
        let audience = Audience::of(&request);
        let name = request.into_inner().name;
        let region = self.regions.get(&name).await?;
        let conflicts =
            if audience.may_see(&name) { self.regions.id_conflicts(&name).await? } else { Vec::new() };
        Ok(Response::new(GetRegionResponse {
            region: Some(audience.shown(encode(region))),
            id_conflicts: conflicts.into_iter().map(conflict).collect(),
        }))
    }

    async fn list_regions(
        &self,
        request: Request<ListRegionsRequest>,
    ) -> Result<Response<ListRegionsResponse>, Status> {
        let audience = Audience::of(&request);
        let ListRegionsRequest { page_size, page_token } = request.into_inner();
        let list = List::new(&self.page_key, "ListRegions", &[]);
        let page = self
            .regions
            .list(&PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? })
            .await?;
        let encode = |region| audience.shown(encode(region));
        let (regions, next) = fitting(page.items, page.next, |region| region.name.clone(), encode);
        Ok(Response::new(ListRegionsResponse { regions, next_page_token: list.token(next) }))
    }

    async fn lease_ids(
        &self,
        request: Request<LeaseIdsRequest>,
    ) -> Result<Response<LeaseIdsResponse>, Status> {
        let LeaseIdsRequest { region, operation_id, model, count, above } = request.into_inner();
        let operation_id = uuid("operation_id", &operation_id)?;
        let block = self.regions.lease_ids(&region, operation_id, &model, i64::from(count), above).await?;
        let count = i32::try_from(block.count).map_err(|_| Error::invalid("count", "is out of bounds"))?;
        Ok(Response::new(LeaseIdsResponse { first_id: block.first_id, count }))
    }
}
