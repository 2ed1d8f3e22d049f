//! A unary gRPC handler that does nothing, to measure others against: it takes and gives messages of the same size as
//! `ResolveSlug`, in the same server.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use causeway_proto::control::v1::{ResolveSlugRequest, ResolveSlugResponse, ResolvedOrganization};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{Grpc, NamedService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

const PATH: &str = "/causeway.bench.v1.Empty/ResolveSlug";

/// What every call is answered.
fn answer() -> ResolveSlugResponse {
    ResolveSlugResponse {
        organization: Some(ResolvedOrganization {
            canonical_slug: String::new(),
            slug: "elsewhere-1234".to_owned(),
            organization_id: 1_234,
            region: "elsewhere".to_owned(),
            region_address: "http://127.0.0.1:50052".to_owned(),
        }),
    }
}

/// The service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Empty;

impl NamedService for Empty {
    const NAME: &'static str = "causeway.bench.v1.Empty";
}

struct Answer;

impl UnaryService<ResolveSlugRequest> for Answer {
    type Response = ResolveSlugResponse;
    type Future = Ready<Result<Response<ResolveSlugResponse>, Status>>;

    fn call(&mut self, _request: Request<ResolveSlugRequest>) -> Self::Future {
        ready(Ok(Response::new(answer())))
    }
}

impl Service<http::Request<Body>> for Empty {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Answer, request).await) })
    }
}

/// Calls it.
///
/// # Errors
/// If the call fails.
pub(crate) async fn call(channel: &Channel, slug: String) -> Result<ResolveSlugResponse, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec: ProstCodec<ResolveSlugRequest, ResolveSlugResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static(PATH);
    Ok(client.unary(Request::new(ResolveSlugRequest { slug }), path, codec).await?.into_inner())
}
