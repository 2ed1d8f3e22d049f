//! The gRPC layer: decodes a request, calls one use case, encodes the answer.

mod convert;
mod import_service;
mod organization_service;
mod reconciliation_service;
mod requester;
mod status;
mod throttle_service;
mod watch;

use causeway_proto::{
    page::PageKey,
    region::v1::{
        import_service_server::ImportServiceServer, organization_service_server::OrganizationServiceServer,
        reconciliation_service_server::ReconciliationServiceServer,
        throttle_service_server::ThrottleServiceServer,
    },
    relocation::v1::{Capability, ServiceKind, version_service_server::VersionServiceServer},
    version::Service,
};

use crate::{follower::Follower, import::Imports, reconcile::Reconciler};

/// Adds the region's services to `routes`.
pub(crate) fn add_services(
    imports: &Imports,
    follower: &Follower,
    reconciler: &Reconciler,
    page_key: &PageKey,
    routes: &mut tonic::service::RoutesBuilder,
    insecure: bool,
) {
    routes
        .add_service(ImportServiceServer::new(import_service::Handler::new(
            imports.clone(),
            page_key.clone(),
        )))
        .add_service(OrganizationServiceServer::new(organization_service::Handler::new(
            imports.clone(),
            follower.clone(),
            page_key.clone(),
        )))
        .add_service(VersionServiceServer::new(version_info(imports, insecure)))
        .add_service(ThrottleServiceServer::new(throttle_service::Handler::new(imports.clone())))
        .add_service(ReconciliationServiceServer::new(reconciliation_service::Handler::new(
            reconciler.clone(),
        )));
}

/// What this region reports about itself.
fn version_info(imports: &Imports, insecure: bool) -> Service {
    let mut capabilities = vec![Capability::Revert];
    if imports.context().keys().is_some() {
        capabilities.push(Capability::EncryptedExports);
    }
    Service {
        kind: ServiceKind::Region,
        version: env!("CARGO_PKG_VERSION"),
        capabilities,
        region: imports.context().region.clone(),
        insecure,
    }
}
