//! The gRPC layer: decodes, calls one use case, encodes.

mod import_service;
mod organization_service;
mod status;
mod watch;

use causeway_proto::region::v1::{
    import_service_server::ImportServiceServer, organization_service_server::OrganizationServiceServer,
};

use crate::{follower::Follower, import::Runner};

/// Adds the region's services.
pub(crate) fn add_services(runner: &Runner, follower: &Follower, routes: &mut tonic::service::RoutesBuilder) {
    routes.add_service(ImportServiceServer::new(import_service::Handler::new(runner.clone()))).add_service(
        OrganizationServiceServer::new(organization_service::Handler::new(
            runner.db().clone(),
            follower.clone(),
        )),
    );
}
