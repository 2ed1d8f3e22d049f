//! `causeway.region.v1.OrganizationService`.

use causeway_proto::{
    failure::shown,
    limits::MAX_NAMES_PER_CALL,
    page::{List, PageKey, fitting},
    region::v1::{
        ApproveOrganizationsRequest, ApproveOrganizationsResponse, GetOrganizationRequest,
        GetOrganizationResponse, ListOrganizationsRequest, ListOrganizationsResponse, ResolveSlugRequest,
        ResolveSlugResponse, get_organization_request::By, organization_service_server::OrganizationService,
    },
    time,
};
use causeway_silo::{
    db::count,
    page::{Page, PageRequest},
};
use tonic::{Request, Response, Status};

use super::{convert::organization_to_proto, import_service::import_id, status::database};
use crate::{
    error::Error,
    follower::Follower,
    import::{Approved, Imports},
    store::organization,
};

/// Handles the calls of the service.
#[derive(Debug)]
pub(super) struct Handler {
    imports: Imports,
    follower: Follower,
    page_key: PageKey,
}

impl Handler {
    pub(super) fn new(imports: Imports, follower: Follower, page_key: PageKey) -> Self {
        Self { imports, follower, page_key }
    }
}

#[tonic::async_trait]
impl OrganizationService for Handler {
    async fn get_organization(
        &self,
        request: Request<GetOrganizationRequest>,
    ) -> Result<Response<GetOrganizationResponse>, Status> {
        let (found, which) = match request.into_inner().by {
            Some(By::Id(id)) => (organization::by_id(&self.imports.context().db, id).await, id.to_string()),
            Some(By::Slug(slug)) => (
                organization::by_slug(&self.imports.context().db, &slug.to_ascii_lowercase()).await,
                shown(&slug),
            ),
            None => return Err(Error::invalid("by", "name an id or a slug").into()),
        };
        let organization = found.map_err(database)?.ok_or(Error::OrganizationNotFound(which))?;
        Ok(Response::new(GetOrganizationResponse { organization: Some(organization_to_proto(organization)) }))
    }

    async fn resolve_slug(
        &self,
        request: Request<ResolveSlugRequest>,
    ) -> Result<Response<ResolveSlugResponse>, Status> {
        let slug = request.into_inner().slug;
        if slug.is_empty() {
            return Err(Error::invalid("slug", "is missing").into());
        }
        let (found, staleness) = self.follower.resolve(&slug.to_ascii_lowercase()).await?;
        Ok(Response::new(ResolveSlugResponse {
            organization_id: found.organization_id,
            slug: found.slug,
            canonical_slug: found.canonical_slug,
            staleness: Some(time::duration_to_proto(staleness)),
        }))
    }

    async fn list_organizations(
        &self,
        request: Request<ListOrganizationsRequest>,
    ) -> Result<Response<ListOrganizationsResponse>, Status> {
        let ListOrganizationsRequest { page_size, page_token } = request.into_inner();
        let list = List::new(&self.page_key, "ListOrganizations", &[]);
        let page = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let found = organization::list(&self.imports.context().db, &page).await.map_err(database)?;
        let found = Page::cut(found, &page, |organization| organization.id);
        let key = |organization: &organization::Organization| organization.id;
        let (organizations, next) = fitting(found.items, found.next, key, organization_to_proto);
        Ok(Response::new(ListOrganizationsResponse { organizations, next_page_token: list.token(next) }))
    }

    async fn approve_organizations(
        &self,
        request: Request<ApproveOrganizationsRequest>,
    ) -> Result<Response<ApproveOrganizationsResponse>, Status> {
        let ApproveOrganizationsRequest { organization_ids, import_id: import } = request.into_inner();
        let wrong = |description: &str| Err(Error::invalid("organization_ids", description).into());
        let of = match (organization_ids.is_empty(), import.is_empty()) {
            (true, true) => return wrong("name organizations, or an import"),
            (false, false) => return wrong("name either organizations or an import"),
            (true, false) => Approved::Import(import_id(&import)?),
            (false, true) if organization_ids.len() > MAX_NAMES_PER_CALL => {
                return wrong("at most 1,000 in one call");
            }
            (false, true) => Approved::Organizations(organization_ids.into_iter().collect()),
        };
        let approved = count(self.imports.approve_organizations(of).await?).map_err(Error::from)?;
        Ok(Response::new(ApproveOrganizationsResponse { approved }))
    }
}
