//! Unary gRPC handlers in addition to `ResolveSlug`, in the same server and with messages of the same size:
//! one that does nothing, to compare others with, and one that answers from a directory in memory, as a
//! router would.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use causeway_directory::Directory;
use causeway_proto::control::v1::{ResolveSlugRequest, ResolveSlugResponse, ResolvedOrganization};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{Grpc, NamedService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

/// The handler that does nothing.
pub(crate) const EMPTY: &str = "/causeway.bench.v1.Unary/Empty";
/// The handler that answers from a directory in memory.
pub(crate) const DIRECTORY: &str = "/causeway.bench.v1.Unary/Directory";

/// The service with both handlers.
#[derive(Debug, Clone)]
pub(crate) struct Unary(pub(crate) Directory);

impl NamedService for Unary {
    const NAME: &'static str = "causeway.bench.v1.Unary";
}

/// The empty handler: the same answer to every call.
struct Empty;

impl UnaryService<ResolveSlugRequest> for Empty {
    type Response = ResolveSlugResponse;
    type Future = Ready<Result<Response<ResolveSlugResponse>, Status>>;

    fn call(&mut self, _request: Request<ResolveSlugRequest>) -> Self::Future {
        ready(Ok(answer(ResolvedOrganization {
            canonical_slug: String::new(),
            slug: "elsewhere-1234".to_owned(),
            organization_id: 1_234,
            region: "elsewhere".to_owned(),
            region_address: "http://127.0.0.1:50052".to_owned(),
        })))
    }
}

/// The handler with a directory: answers with what the directory knows.
struct Known(Directory);

impl UnaryService<ResolveSlugRequest> for Known {
    type Response = ResolveSlugResponse;
    type Future = Ready<Result<Response<ResolveSlugResponse>, Status>>;

    fn call(&mut self, request: Request<ResolveSlugRequest>) -> Self::Future {
        let slug = request.into_inner().slug;
        ready(match self.0.resolve(&slug) {
            None => Err(Status::not_found("nobody has this slug")),
            Some(found) => Ok(answer(ResolvedOrganization {
                canonical_slug: if found.canonical_slug == slug {
                    String::new()
                } else {
                    found.canonical_slug
                },
                slug,
                organization_id: found.organization_id,
                region: found.region.as_ref().to_owned(),
                region_address: found.region_address.as_ref().to_owned(),
            })),
        })
    }
}

fn answer(organization: ResolvedOrganization) -> Response<ResolveSlugResponse> {
    Response::new(ResolveSlugResponse { organization: Some(organization) })
}

impl Service<http::Request<Body>> for Unary {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let directory = self.0.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            if request.uri().path() == EMPTY {
                return Ok(grpc.unary(Empty, request).await);
            }
            Ok(grpc.unary(Known(directory), request).await)
        })
    }
}

/// Calls the handler at `path`.
///
/// # Errors
/// If the call fails.
pub(crate) async fn call(
    channel: &Channel,
    path: &'static str,
    slug: String,
) -> Result<ResolveSlugResponse, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec: ProstCodec<ResolveSlugRequest, ResolveSlugResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static(path);
    Ok(client.unary(Request::new(ResolveSlugRequest { slug }), path, codec).await?.into_inner())
}
