//! Decoding and encoding of `causeway.relocation.v1.VersionService`.

use causeway_proto::{
    relocation::v1::{
        Capability, GetVersionRequest, GetVersionResponse, ServiceKind,
        version_service_server::VersionService,
    },
    version::Service,
};
use tonic::{Request, Response, Status};

use crate::import::Engine;

/// What this region is.
#[derive(Debug)]
pub(super) struct Handler(Service);

impl Handler {
    pub(super) fn new(engine: &Engine) -> Self {
        let mut capabilities = vec![Capability::Revert];
        if engine.key().is_some() {
            capabilities.push(Capability::EncryptedExports);
        }
        Self(Service {
            kind: ServiceKind::Region,
            version: env!("CARGO_PKG_VERSION"),
            capabilities,
            region: engine.context().region.clone(),
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
