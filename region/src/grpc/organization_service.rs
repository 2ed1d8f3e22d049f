//! `causeway.region.v1.OrganizationService`.

use causeway_proto::{
    page::List,
    region::v1::{
        GetOrganizationRequest, GetOrganizationResponse, ListOrganizationsRequest, ListOrganizationsResponse,
        ResolveSlugRequest, ResolveSlugResponse, get_organization_request::By,
        organization_service_server::OrganizationService,
    },
    time,
};
use causeway_relocation::{
    db::Db,
    page::{Page, PageRequest},
};
use tonic::{Request, Response, Status};

use super::status::database;
use crate::{convert::organization_to_proto, error::Error, follower::Follower, store::organization};

/// Answers the calls.
#[derive(Debug)]
pub(super) struct Handler {
    db: Db,
    follower: Follower,
}

impl Handler {
    pub(super) fn new(db: Db, follower: Follower) -> Self {
        Self { db, follower }
    }
}

#[tonic::async_trait]
impl OrganizationService for Handler {
    async fn get_organization(
        &self,
        request: Request<GetOrganizationRequest>,
    ) -> Result<Response<GetOrganizationResponse>, Status> {
        let (found, which) = match request.into_inner().by {
            Some(By::Id(id)) => (organization::by_id(&self.db, id).await, id.to_string()),
            Some(By::Slug(slug)) if slug.contains('\0') => {
                return Err(Error::OrganizationNotFound(format!("{slug:?}")).into());
            }
            Some(By::Slug(slug)) => {
                (organization::by_slug(&self.db, &slug.to_ascii_lowercase()).await, format!("{slug:?}"))
            }
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
        if slug.contains('\0') {
            return Err(Error::SlugNotFound(slug).into());
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
        let list = List::new("ListOrganizations", &[]);
        let page = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let found = organization::list(&self.db, &page).await.map_err(database)?;
        let found = Page::cut(found, &page, |organization| organization.id);
        Ok(Response::new(ListOrganizationsResponse {
            organizations: found.items.into_iter().map(organization_to_proto).collect(),
            next_page_token: list.token(found.next),
        }))
    }
}
