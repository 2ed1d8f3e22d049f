//! Refuses calls of those whose certificate does not identify them, before any handler: unary calls and
//! streams alike.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use causeway_proto::{failure::Failure, relocation::v1::ErrorReason};
use causeway_tls::Caller;
use futures::future::{Either, Ready, ready};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use super::transport::Peer;

/// Whether callers must have an identity. A tower layer, inside the one that counts calls. A call that passes has its
/// [`Caller`] among the extensions of its request, if callers must have an identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identities {
    pub(super) required: bool,
}

impl<S> Layer<S> for Identities {
    type Service = Identified<S>;

    fn layer(&self, inner: S) -> Identified<S> {
        Identified { inner, required: self.required }
    }
}

/// A service that knows its callers.
#[derive(Debug, Clone)]
pub(super) struct Identified<S> {
    inner: S,
    required: bool,
}

/// Who calls. The error is sent to the caller.
fn caller(peer: Option<Peer>) -> Result<Caller, Failure> {
    let why = match peer {
        Some(Ok(caller)) => return Ok(caller),
        Some(Err(error)) => error.to_string(),
        None => "it has shown no certificate".to_owned(),
    };
    let message = format!("the certificate of the caller does not say who it is: {why}");
    Err(Failure::new(ErrorReason::IdentityInvalid, message))
}

impl<S> Service<Request<Body>> for Identified<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let peer = request.extensions_mut().remove::<Peer>();
        if self.required {
            match caller(peer) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Err(failure) => return Either::Right(ready(Ok(Status::from(failure).into_http()))),
            }
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use causeway_proto::failure::reason_of;
    use causeway_tls::{Caller, Identity, IdentityError, Role};

    use super::*;

    /// Notes who has called it.
    #[derive(Clone, Default)]
    struct Handler(Arc<Mutex<Vec<Option<Caller>>>>);

    impl Service<Request<Body>> for Handler {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let caller = request.extensions().get::<Caller>().cloned();
            self.0.lock().expect("nobody panics with it").push(caller);
            ready(Ok(Response::new(Body::empty())))
        }
    }

    #[tokio::test]
    async fn a_handler_knows_its_caller_and_never_sees_one_without_an_identity() {
        let domain = "test.example".parse().expect("a trust domain");
        let caller = Caller::new(Identity::new(domain, Role::Region, "us").expect("a name"));
        for (required, peer, wanted) in [
            (true, Some(Ok(caller.clone())), Some(Some(caller.clone()))),
            (true, Some(Err(IdentityError::SeveralUris(2))), None),
            (true, None, None),
            (false, None, Some(None)),
        ] {
            let handler = Handler::default();
            let mut layered = Identities { required }.layer(handler.clone());
            let mut request = Request::new(Body::empty());
            if let Some(peer) = peer {
                request.extensions_mut().insert::<Peer>(peer);
            }
            let response = layered.call(request).await.expect("it cannot fail");
            let seen = handler.0.lock().expect("nobody panics with it").pop();
            assert_eq!(seen, wanted);
            let status = Status::from_header_map(response.headers());
            let reason = status.and_then(|status| reason_of(&status));
            assert_eq!(reason, wanted.is_none().then_some(ErrorReason::IdentityInvalid));
        }
    }
}
