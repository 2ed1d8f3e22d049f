//! Refuses calls of those who may not make them, before any handler: unary calls, and every message of a stream. Who
//! may make which call is an option of the call in the contract, `causeway.access.v1.access`.

mod bound;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use causeway_proto::{
    access::{self, NoRule, Rule},
    failure::Failure,
    relocation::v1::ErrorReason,
};
use causeway_tls::{Caller, Identity, Role};
use futures::future::{BoxFuture, Either, Ready, ready};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};
use uuid::Uuid;

use bound::{Binding, BoundBody};

/// The services that are not of the contract. Everybody with an identity may call them.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Something of which only its owner may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owned {
    /// An organization, by its id. A region owns it.
    Organization(i64),
    /// An import, by its id. Whoever began it owns it.
    Import(Uuid),
}

/// Which caller owns an organization or an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// It does not exist.
    Absent,
    /// It exists, and its owner is unknown.
    Nobody,
    /// The name of the region that owns an organization, or the URI of the identity that began an import.
    Named(String),
}

/// Looks up who owns what.
pub(super) trait Owners: Send + Sync + 'static {
    /// Who owns something. Fails if the database does not answer.
    fn owner(self: Arc<Self>, of: Owned) -> BoxFuture<'static, Result<Owner, Status>>;
}

/// The rules of all calls. A tower layer, inside the one that finds out who calls. It lets calls pass that have no
/// [`Caller`]: the service needs no identities then.
#[derive(Clone)]
pub(super) struct Access {
    rules: Arc<HashMap<String, Rule>>,
    owners: Arc<dyn Owners>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

/// What becomes of a call.
enum Admission {
    /// It may be made, whatever its request contains.
    Free,
    /// It may be made if all messages of its request keep to this.
    Bound(Box<Binding>),
}

/// The role of an identity as the contract has it.
fn role(role: Role) -> access::Role {
    match role {
        Role::Region => access::Role::Region,
        Role::Control => access::Role::Control,
        Role::Router => access::Role::Router,
        Role::Operator => access::Role::Operator,
        Role::Importer => access::Role::Importer,
        Role::Monitor => access::Role::Monitor,
    }
}

/// Whether a rule checks the request of a caller with this role.
fn binds(rule: &Rule, role: Role) -> bool {
    match role {
        Role::Region => rule.own_region.is_some() || rule.own_organization.is_some(),
        Role::Importer => rule.own_import.is_some(),
        Role::Control | Role::Router | Role::Operator | Role::Monitor => false,
    }
}

impl Access {
    /// The rules of the contract.
    ///
    /// # Errors
    /// If a call has none.
    pub(super) fn new(owners: Arc<dyn Owners>) -> Result<Self, NoRule> {
        Ok(Self { rules: Arc::new(access::rules()?), owners })
    }

    fn admit(&self, path: &str, caller: &Caller) -> Result<Admission, Status> {
        if OPEN.iter().any(|service| path.starts_with(service)) {
            return Ok(Admission::Free);
        }
        let Some(rule) = self.rules.get(path) else {
            return Err(Status::unimplemented("there is no such call"));
        };
        let Some(roles) = &rule.roles else { return Ok(Admission::Free) };
        let allowed: Vec<&Identity> =
            caller.identities().filter(|identity| roles.contains(&role(identity.role()))).collect();
        if allowed.is_empty() {
            let roles = rule.roles_in_words();
            let message =
                format!("the call needs one of these roles, which the caller does not have: {roles}");
            return Err(Failure::new(ErrorReason::RoleNotAllowed, message).with("roles", roles).into());
        }
        if allowed.iter().any(|identity| !binds(rule, identity.role())) {
            return Ok(Admission::Free);
        }
        let callers = allowed.into_iter().cloned().collect();
        Ok(Admission::Bound(Box::new(Binding::new(rule.clone(), callers, Arc::clone(&self.owners)))))
    }
}

impl<S> Layer<S> for Access {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, access: self.clone() }
    }
}

/// A service that is called only if the rules allow it.
#[derive(Debug, Clone)]
pub(super) struct Guarded<S> {
    inner: S,
    access: Access,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Either::Left(self.inner.call(request));
        };
        match self.access.admit(request.uri().path(), caller) {
            Ok(Admission::Free) => Either::Left(self.inner.call(request)),
            Ok(Admission::Bound(binding)) => {
                Either::Left(self.inner.call(request.map(|body| Body::new(BoundBody::new(body, *binding)))))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}
