//! `causeway.control.v1.DirectoryService`.

use causeway_proto::{
    control::v1::{
        BatchResolveSlugsRequest, BatchResolveSlugsResponse, CheckSlugsRequest, CheckSlugsResponse,
        DirectoryOrganization, GetOrganizationRequest, GetOrganizationResponse, HeldOrganization,
        ListHeldOrganizationsRequest, ListHeldOrganizationsResponse, ListOrganizationsRequest,
        ListOrganizationsResponse, ProductMapping, ProductRows, ProductState, RefusedOrganization,
        ReportOrganizationsRequest, ReportOrganizationsResponse, ReportedOrganization, ResolveSlugRequest,
        ResolveSlugResponse, ResolvedOrganization, SlugCheck, directory_service_server::DirectoryService,
    },
    organization_status,
    page::{List, PageKey, fitting},
    time,
};
use causeway_silo::page::PageRequest;
use tonic::{Request, Response, Status};

use super::{
    bound_caller,
    bulk_create::verdict,
    convert::{encode, wanted_slug},
    filter, planning,
    status::reason,
};
use crate::{
    Error,
    directory::{Directory, Refused},
    import::write::ControlImports,
    model::directory,
    slug::product_renames::ProductRenames,
};

#[derive(Debug)]
pub(super) struct Handler {
    directory: Directory,
    product_renames: ProductRenames,
    imports: ControlImports,
    page_key: PageKey,
}

impl Handler {
    pub(super) fn new(
        directory: Directory,
        product_renames: ProductRenames,
        imports: ControlImports,
        page_key: PageKey,
    ) -> Self {
        Self { directory, product_renames, imports, page_key }
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
        id_taken_by_region: check.id_taken_by.unwrap_or_default(),
        candidate: if check.candidate == check.slug { String::new() } else { check.candidate },
        slug: check.slug,
    }
}

/// What a region learns about its organizations when it asks for no import. Control does not check that these exist, so
/// it tells no more than the region would learn by reserving the slugs, or by resolving them.
fn compared(checked: directory::SlugCheck, region: &str) -> SlugCheck {
    if let Some(other) = checked.id_taken_by {
        return SlugCheck { slug: checked.slug, id_taken_by_region: other, ..SlugCheck::default() };
    }
    let is_public = checked.owner_is_public;
    let taken_by = checked.taken_by.filter(|owner| is_public || owner.region == region);
    check(directory::SlugCheck { taken_by, ..checked })
}

fn reported(
    (index, organization): (usize, ReportedOrganization),
) -> Result<directory::ReportedOrganization, Error> {
    let status = organization_status::to_stored(organization.status()).ok_or_else(|| {
        Error::invalid(
            format!("organizations[{index}].status"),
            "must be a status, and not the unspecified one",
        )
    })?;
    let ReportedOrganization { organization_id, slug, name, .. } = organization;
    Ok(directory::ReportedOrganization { organization_id, slug, name, status })
}

fn refusal(refused: &Refused) -> RefusedOrganization {
    RefusedOrganization {
        organization_id: refused.organization_id,
        reason: reason(&refused.error).into(),
        message: refused.error.to_string(),
    }
}

fn listed(organization: directory::DirectoryOrganization) -> DirectoryOrganization {
    DirectoryOrganization {
        organization_id: organization.organization_id,
        slug: organization.slug,
        name: organization.name,
        status: organization_status::from_stored(organization.status).into(),
        region: organization.region,
        report_time: Some(time::to_proto(organization.reported_at)),
    }
}

fn rows(rows: directory::ProductRows) -> ProductRows {
    ProductRows { count: rows.count, digest: rows.digest }
}

fn product(state: directory::ProductState) -> ProductState {
    let mapping = |mapping: directory::ProductMapping| ProductMapping {
        slug: mapping.slug,
        name: mapping.name,
        status: mapping.status,
        other_region: mapping.other_region.unwrap_or_default(),
    };
    ProductState {
        slug: state.slug.unwrap_or_default(),
        other_region: state.other_region.unwrap_or_default(),
        waiting: state.waiting,
        mapping: state.mapping.map(mapping),
        mapped_members: state.members.as_ref().map_or(0, |members| members.count),
        members: state.members.map(rows),
        teams: state.teams.map(rows),
        team_members: state.team_members.map(rows),
        tokens: state.tokens.map(rows),
    }
}

fn held_organization(organization: directory::HeldOrganization) -> HeldOrganization {
    HeldOrganization {
        organization_id: organization.organization_id,
        reservations: organization.reservations.into_iter().map(encode).collect(),
        listed: organization.listed.map(listed),
        rename_operation_id: organization.rename.map(|id| id.to_string()).unwrap_or_default(),
        product: organization.product.map(product),
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
        let is_bound = bound_caller(&request).is_some();
        let CheckSlugsRequest { slugs, organizations, region, import_id } = request.into_inner();
        // A comparison asks for no import, but only about organizations by their ids.
        let names_organizations = slugs.is_empty() && organizations.iter().all(|it| it.organization_id > 0);
        let must_say = is_bound && !names_organizations;
        planning::check(&self.imports, must_say, &region, &import_id).await?;
        // The organizations of an import that is planned have no ids yet.
        if is_bound
            && !import_id.is_empty()
            && let Some(index) = organizations.iter().position(|it| it.organization_id != 0)
        {
            let field = format!("organizations[{index}].organization_id");
            return Err(Error::invalid(field, "must be 0 in a question for an import").into());
        }
        let organizations = organizations.into_iter().map(wanted_slug).collect();
        let asked_by = filter(region);
        let checks = self.directory.check_all(slugs, organizations, asked_by.as_deref()).await?;
        let answer = |checked| match asked_by.as_deref() {
            Some(region) if is_bound && import_id.is_empty() => compared(checked, region),
            _ => check(checked),
        };
        Ok(Response::new(CheckSlugsResponse { checks: checks.into_iter().map(answer).collect() }))
    }

    async fn report_organizations(
        &self,
        request: Request<ReportOrganizationsRequest>,
    ) -> Result<Response<ReportOrganizationsResponse>, Status> {
        let ReportOrganizationsRequest { region, organizations, restore_product, number } =
            request.into_inner();
        let organizations = organizations.into_iter().enumerate().map(reported).collect::<Result<_, _>>()?;
        let refused = self.directory.report(&region, number, organizations, restore_product).await?;
        Ok(Response::new(ReportOrganizationsResponse { refused: refused.iter().map(refusal).collect() }))
    }

    async fn get_organization(
        &self,
        request: Request<GetOrganizationRequest>,
    ) -> Result<Response<GetOrganizationResponse>, Status> {
        let organization = self.directory.get(request.into_inner().organization_id).await?;
        Ok(Response::new(GetOrganizationResponse { organization: Some(listed(organization)) }))
    }

    async fn list_organizations(
        &self,
        request: Request<ListOrganizationsRequest>,
    ) -> Result<Response<ListOrganizationsResponse>, Status> {
        let ListOrganizationsRequest { region, page_size, page_token } = request.into_inner();
        let filters = [region.as_str()];
        let list = List::new(&self.page_key, "ListOrganizations", &filters);
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        let page = self.directory.list(filter(region.clone()).as_deref(), &page_request).await?;
        let (organizations, next) = fitting(page.items, page.next, |item| item.organization_id, listed);
        Ok(Response::new(ListOrganizationsResponse { organizations, next_page_token: list.token(next) }))
    }

    async fn list_held_organizations(
        &self,
        request: Request<ListHeldOrganizationsRequest>,
    ) -> Result<Response<ListHeldOrganizationsResponse>, Status> {
        let ListHeldOrganizationsRequest { region, page_size, page_token, organization_ids } =
            request.into_inner();
        // The ids are a filter of the list: a page token is valid for these ids only.
        let ids = organization_ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let filters = [region.as_str(), &ids];
        let mut list = List::new(&self.page_key, "ListHeldOrganizations", &filters);
        if !organization_ids.is_empty() {
            list.default_size = list.max_size;
        }
        let page_request = PageRequest { limit: list.limit(page_size)?, after: list.after(&page_token)? };
        if page_request.after.is_none() && organization_ids.is_empty() {
            // A comparison must not take the product's renames for differences. What is left is one.
            self.product_renames.product_is_followed().await;
        }
        let found = self.directory.held_organizations(&region, organization_ids, &page_request).await?;
        let key = |item: &directory::HeldOrganization| item.organization_id;
        let (organizations, next) = fitting(found.page.items, found.page.next, key, held_organization);
        Ok(Response::new(ListHeldOrganizationsResponse {
            organizations,
            next_page_token: list.token(next),
            feed_version: found.feed_version,
        }))
    }
}
