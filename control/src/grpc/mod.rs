//! The gRPC services. They decode a request, call one use case, and encode the answer. The use cases check requests;
//! this layer refuses only what the plain types cannot represent.

mod bulk_create;
mod control_import_service;
mod convert;
mod directory_service;
mod planning;
mod region_service;
mod report_service;
mod slug_reservation_service;
mod status;

use causeway_proto::{
    control::v1::{
        control_import_service_server::ControlImportServiceServer,
        directory_service_server::DirectoryServiceServer, region_service_server::RegionServiceServer,
        report_service_server::ReportServiceServer,
        slug_reservation_service_server::SlugReservationServiceServer,
    },
    limits::MAX_MESSAGE_BYTES,
    relocation::v1::{Capability, ServiceKind, version_service_server::VersionServiceServer},
    version::Service,
};
use causeway_tls::Caller;
use tonic::{Request, service::RoutesBuilder};
use uuid::Uuid;

use crate::{Control, Error};

/// Adds all services of a control. `insecure` if it listens without TLS where other machines can reach it.
pub(crate) fn add_services(control: &Control, routes: &mut RoutesBuilder, insecure: bool) {
    let page_key = || control.page_key().clone();
    let regions = region_service::Handler::new(control.regions().clone(), page_key());
    let reservations = slug_reservation_service::Handler::new(
        control.slug_reservations().clone(),
        control.renames().clone(),
        control.feeds().clone(),
        page_key(),
    );
    let directory = directory_service::Handler::new(
        control.directory().clone(),
        control.product_renames().clone(),
        control.imports().clone(),
        page_key(),
    );
    let imports = control_import_service::Handler::new(control.imports().clone(), page_key());
    routes
        .add_service(VersionServiceServer::new(service_description(insecure)))
        .add_service(control.audit().service())
        .add_service(
            ControlImportServiceServer::new(imports)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            RegionServiceServer::new(regions)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            SlugReservationServiceServer::new(reservations)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            DirectoryServiceServer::new(directory)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            ReportServiceServer::new(report_service::Handler::new(control.reports().clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        );
}

/// What control reports about itself to the version service.
fn service_description(insecure: bool) -> Service {
    Service {
        kind: ServiceKind::Control,
        version: env!("CARGO_PKG_VERSION"),
        capabilities: vec![Capability::SlugOperations, Capability::AllFeeds, Capability::Revert],
        region: String::new(),
        insecure,
    }
}

/// The caller; `None` if callers need no identity.
fn caller<T>(request: &Request<T>) -> Option<&Caller> {
    request.extensions().get()
}

/// The caller, if its rights are those of its region or router only: it is not an operator, and callers need an identity.
fn bound_caller<T>(request: &Request<T>) -> Option<&Caller> {
    caller(request).filter(|caller| !caller.is_operator())
}

fn uuid(field: &str, text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|_| Error::invalid(field, "must be a UUID"))
}

/// Decodes an optional text: in a request, an empty one means that it is not set.
fn filter(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
