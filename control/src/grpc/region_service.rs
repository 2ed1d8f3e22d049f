//! `causeway.control.v1.RegionService`.

use causeway_proto::{
    control::v1::{
        GetRegionRequest, GetRegionResponse, LeaseIdsRequest, LeaseIdsResponse, ListRegionsRequest,
        ListRegionsResponse, Region, RegisterRegionRequest, RegisterRegionResponse,
        region_service_server::RegionService,
    },
    page::List,
    time,
};
use causeway_relocation::page::PageRequest;
use tonic::{Request, Response, Status};

use super::uuid;
use crate::{
    Error,
    regions::{self, Regions},
};

/// Answers the calls.
#[derive(Debug)]
pub(super) struct Handler {
    regions: Regions,
}

impl Handler {
    pub(super) fn new(regions: Regions) -> Self {
        Self { regions }
    }
}

fn encode(region: regions::Region) -> Region {
    Region {
        name: region.name,
        address: region.address,
        create_time: Some(time::to_proto(region.created_at)),
        last_seen_time: Some(time::to_proto(region.last_seen_at)),
    }
}

#[tonic::async_trait]
impl RegionService for Handler {
    async fn register_region(
        &self,
        request: Request<RegisterRegionRequest>,
    ) -> Result<Response<RegisterRegionResponse>, Status> {
        let RegisterRegionRequest { name, address, instance_id } = request.into_inner();
        let instance_id = uuid("instance_id", &instance_id)?;
        let region = self.regions.register(&name, &address, instance_id).await?;
        Ok(Response::new(RegisterRegionResponse { region: Some(encode(region)) }))
    }

    async fn get_region(
        &self,
        request: Request<GetRegionRequest>,
    ) -> Result<Response<GetRegionResponse>, Status> {
        let region = self.regions.get(&request.into_inner().name).await?;
        Ok(Response::new(GetRegionResponse { region: Some(encode(region)) }))
    }

    async fn list_regions(
        &self,
        request: Request<ListRegionsRequest>,
    ) -> Result<Response<ListRegionsResponse>, Status> {
        let ListRegionsRequest { page_size, page_token } = request.into_inner();
        let list = List::new("ListRegions", &[]);
        let page = self
            .regions
            .list(&PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? })
            .await?;
        Ok(Response::new(ListRegionsResponse {
            regions: page.items.into_iter().map(encode).collect(),
            next_page_token: list.token(page.next),
        }))
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
