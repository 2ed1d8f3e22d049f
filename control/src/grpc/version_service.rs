//! Decoding and encoding of `causeway.relocation.v1.VersionService`.

use causeway_proto::{
    relocation::v1::{
        Capability, GetVersionRequest, GetVersionResponse, ServiceKind,
        version_service_server::VersionService,
    },
    version::Service,
};
use tonic::{Request, Response, Status};

/// What control is.
#[derive(Debug)]
pub(super) struct Handler(Service);

impl Handler {
    pub(super) fn new() -> Self {
        Self(Service {
            kind: ServiceKind::Control,
            version: env!("CARGO_PKG_VERSION"),
            capabilities: vec![Capability::SlugOperations, Capability::AllFeeds, Capability::Revert],
            region: String::new(),
        })
    }
}

#[tonic::async_trait]
impl VersionService for Handler {
    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(self.0.answer(request.get_ref())?))
    }
}
