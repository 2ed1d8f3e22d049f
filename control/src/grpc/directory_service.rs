//! `causeway.control.v1.DirectoryService`.

use causeway_proto::{
    control::v1::{
        BatchResolveSlugsRequest, BatchResolveSlugsResponse, CheckSlugsRequest, CheckSlugsResponse,
        DirectoryOrganization, HeldOrganization, ListHeldOrganizationsRequest, ListHeldOrganizationsResponse,
        ListOrganizationsRequest, ListOrganizationsResponse, ReportOrganizationsRequest,
        ReportOrganizationsResponse, ReportedOrganization, ResolveSlugRequest, ResolveSlugResponse,
        ResolvedOrganization, SlugCheck, directory_service_server::DirectoryService,
    },
    page::List,
    time,
};
use causeway_relocation::page::PageRequest;
use tonic::{Request, Response, Status};

use super::{
    bulk_create::verdict,
    filter,
    slug_reservation_service::{encode, wanted},
};
use crate::{
    directory::{self, Directory},
    held,
};

/// Answers the calls.
#[derive(Debug)]
pub(super) struct Handler {
    directory: Directory,
}

impl Handler {
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory }
    }
}

fn resolved(organization: directory::ResolvedOrganization) -> ResolvedOrganization {
    let directory::ResolvedOrganization { slug, canonical_slug, organization_id, region, region_address } =
        organization;
    ResolvedOrganization { slug, organization_id, region, region_address, canonical_slug }
}

fn check(check: directory::SlugCheck) -> SlugCheck {
    SlugCheck {
        verdict: verdict(check.reason).into(),
        would_become: check.would_become,
        taken_by: check.taken_by.map(resolved),
        candidate: if check.candidate == check.slug { String::new() } else { check.candidate },
        slug: check.slug,
    }
}

fn reported(organization: ReportedOrganization) -> directory::ReportedOrganization {
    let ReportedOrganization { organization_id, slug, name, status } = organization;
    directory::ReportedOrganization { organization_id, slug, name, status }
}

fn listed(organization: directory::DirectoryOrganization) -> DirectoryOrganization {
    DirectoryOrganization {
        organization_id: organization.organization_id,
        slug: organization.slug,
        name: organization.name,
        status: organization.status,
        region: organization.region,
        report_time: Some(time::to_proto(organization.reported_at)),
    }
}

fn held(organization: held::HeldOrganization) -> HeldOrganization {
    HeldOrganization {
        organization_id: organization.organization_id,
        reservations: organization.reservations.into_iter().map(encode).collect(),
        listed: organization.listed.map(listed),
        rename_operation_id: organization.rename.map(|id| id.to_string()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl DirectoryService for Handler {
    async fn resolve_slug(
        &self,
        request: Request<ResolveSlugRequest>,
    ) -> Result<Response<ResolveSlugResponse>, Status> {
        let organization = self.directory.resolve(&request.into_inner().slug).await?;
        Ok(Response::new(ResolveSlugResponse { organization: Some(resolved(organization)) }))
    }

    async fn batch_resolve_slugs(
        &self,
        request: Request<BatchResolveSlugsRequest>,
    ) -> Result<Response<BatchResolveSlugsResponse>, Status> {
        let organizations = self.directory.batch_resolve(&request.into_inner().slugs).await?;
        let organizations = organizations.into_iter().map(resolved).collect();
        Ok(Response::new(BatchResolveSlugsResponse { organizations }))
    }

    async fn check_slugs(
        &self,
        request: Request<CheckSlugsRequest>,
    ) -> Result<Response<CheckSlugsResponse>, Status> {
        let CheckSlugsRequest { slugs, organizations } = request.into_inner();
        let organizations = organizations.into_iter().map(wanted).collect();
        let checks = self.directory.check_all(slugs, organizations).await?;
        Ok(Response::new(CheckSlugsResponse { checks: checks.into_iter().map(check).collect() }))
    }

    async fn report_organizations(
        &self,
        request: Request<ReportOrganizationsRequest>,
    ) -> Result<Response<ReportOrganizationsResponse>, Status> {
        let ReportOrganizationsRequest { region, organizations } = request.into_inner();
        self.directory.report(&region, organizations.into_iter().map(reported).collect()).await?;
        Ok(Response::new(ReportOrganizationsResponse {}))
    }

    async fn list_organizations(
        &self,
        request: Request<ListOrganizationsRequest>,
    ) -> Result<Response<ListOrganizationsResponse>, Status> {
        let ListOrganizationsRequest { region, page_size, page_token } = request.into_inner();
        let filters = [region.as_str()];
        let list = List::new("ListOrganizations", &filters);
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let page = self.directory.list(filter(region.clone()).as_deref(), &page_request).await?;
        Ok(Response::new(ListOrganizationsResponse {
            organizations: page.items.into_iter().map(listed).collect(),
            next_page_token: list.token(page.next),
        }))
    }

    async fn list_held_organizations(
        &self,
        request: Request<ListHeldOrganizationsRequest>,
    ) -> Result<Response<ListHeldOrganizationsResponse>, Status> {
        let ListHeldOrganizationsRequest { region, page_size, page_token, organization_ids } =
            request.into_inner();
        let filters = [region.as_str()];
        let list = List::new("ListHeldOrganizations", &filters);
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let found = self.directory.held(&region, organization_ids, &page_request).await?;
        Ok(Response::new(ListHeldOrganizationsResponse {
            organizations: found.page.items.into_iter().map(held).collect(),
            next_page_token: list.token(found.page.next),
            feed_version: found.feed_version,
        }))
    }
}
