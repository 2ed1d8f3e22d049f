//! The layer by itself, with every rule of the contract, and with bodies that a well-behaved client never sends.

use std::{collections::HashMap, sync::Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use causeway_proto::{
    control::v1::{LeaseIdsRequest, UpdateOrganizationSlugRequest},
    failure::reason_of,
    region::v1::GetImportRequest,
};
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;
use tonic::Code;

use super::*;

/// Who owns what: organization 7 is of `us`, import 1 was begun by `ann`, import 2 by nobody.
#[derive(Debug)]
struct Owning;

impl Owners for Owning {
    fn owner(self: Arc<Self>, of: Owned) -> BoxFuture<'static, Result<Owner, Status>> {
        let owner = match of {
            Owned::Organization(7) => Ok(Owner::Named("us".to_owned())),
            Owned::Organization(8) => Err(Status::unavailable("no database")),
            Owned::Import(id) if id == Uuid::from_u128(1) => {
                Ok(Owner::Named("spiffe://test.example/importer/ann".to_owned()))
            }
            Owned::Import(id) if id == Uuid::from_u128(2) => Ok(Owner::Nobody),
            _ => Ok(Owner::Absent),
        };
        // Not at once, as a database answers.
        Box::pin(async {
            tokio::task::yield_now().await;
            owner
        })
    }
}

/// Reads all of its requests, and returns what it got.
#[derive(Debug, Clone, Default)]
struct Handler(Arc<Mutex<Vec<Result<Bytes, Status>>>>);

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let seen = Arc::clone(&self.0);
        Box::pin(async move {
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            seen.lock().expect("nobody panics with it").push(body);
            Ok(Response::new(Body::empty()))
        })
    }
}

fn identity(role: Role, name: &str) -> Identity {
    Identity::new("test.example".parse().expect("a domain"), role, name).expect("a name")
}

/// A message as gRPC sends it.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a small message"));
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// What the handler gets of a request with this body, or the status that the layer refuses the call with.
async fn given(path: &str, caller: Identity, body: Vec<Bytes>) -> Result<Bytes, Status> {
    let handler = Handler::default();
    let access = Access::new(Arc::new(Owning)).expect("every call has a rule");
    let frames =
        futures::stream::iter(body.into_iter().map(|data| Ok::<_, Status>(http_body::Frame::data(data))));
    let mut request =
        Request::builder().uri(path).body(Body::new(StreamBody::new(frames))).expect("a request");
    request.extensions_mut().insert(Caller::new(caller));
    let response = access.layer(handler.clone()).call(request).await.expect("it cannot fail");
    let seen = handler.0.lock().expect("nobody panics with it").pop();
    match Status::from_header_map(response.headers()) {
        Some(status) => {
            assert!(seen.is_none(), "the handler has seen a call that was refused");
            Err(status)
        }
        None => seen.expect("the handler has seen it"),
    }
}

const LEASE: &str = "/causeway.control.v1.RegionService/LeaseIds";
const RENAME: &str = "/causeway.control.v1.SlugReservationService/UpdateOrganizationSlug";
const GET_IMPORT: &str = "/causeway.region.v1.ImportService/GetImport";

fn lease(region: &str) -> Vec<u8> {
    LeaseIdsRequest { region: region.to_owned(), count: 3, ..LeaseIdsRequest::default() }.encode_to_vec()
}

fn reason(outcome: &Result<Bytes, Status>) -> Option<ErrorReason> {
    reason_of(outcome.as_ref().expect_err("it is refused"))
}

#[tokio::test]
async fn every_rule_lets_in_its_roles_and_no_others() {
    let rules = access::rules().expect("every call has a rule");
    let mut outcomes: HashMap<bool, usize> = HashMap::new();
    for (path, rule) in &rules {
        for of in Role::ALL {
            let outcome = given(path, identity(of, "us"), Vec::new()).await;
            let allowed = rule.roles.as_ref().is_none_or(|roles| roles.contains(&role(of)));
            if !allowed {
                assert_eq!(reason(&outcome), Some(ErrorReason::RoleNotAllowed), "{path} by {of}");
            } else {
                assert_eq!(outcome.expect("it is let in"), Bytes::new(), "{path} by {of}");
            }
            *outcomes.entry(allowed).or_default() += 1;
        }
    }
    assert!(outcomes[&true] > 50 && outcomes[&false] > 50, "{outcomes:?}");
}

#[tokio::test]
async fn what_is_no_call_of_the_contract_is_refused_but_for_health_and_reflection() {
    for role in Role::ALL {
        let outcome = given("/grpc.health.v1.Health/Check", identity(role, "x"), Vec::new()).await;
        outcome.expect("everybody may ask");
        for path in
            ["/", "/grpc.health.v1.HealthX/Check", "/causeway.control.v1.RegionService/leaseids", "/x.Y/Z"]
        {
            let outcome = given(path, identity(role, "x"), Vec::new()).await;
            assert_eq!(outcome.expect_err("nobody may").code(), Code::Unimplemented, "{path}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_checked_arrives_as_it_was_sent() {
    let whole = [framed(&lease("us")), framed(&lease("us"))].concat();
    for size in [1, 2, 4, 5, 6, 7, whole.len() - 1, whole.len()] {
        let parts = whole.chunks(size).map(Bytes::copy_from_slice).collect();
        let got = given(LEASE, identity(Role::Region, "us"), parts).await.expect("it is its own");
        assert_eq!(got, whole, "in parts of {size}");
    }
    // The beginning of a message arrives too: the handler reports what is wrong with it.
    let cut = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
    let got = given(LEASE, identity(Role::Region, "us"), vec![cut.clone()])
        .await
        .expect("nothing is named wrongly");
    assert_eq!(got, cut);
}

#[tokio::test]
async fn a_region_that_names_another_one_anywhere_is_refused() {
    let twice = [lease("us"), lease("eu")].concat();
    let first = [lease("eu"), lease("us")].concat();
    for body in [
        vec![framed(&lease("eu"))],
        vec![framed(&lease("US"))],
        vec![framed(&lease(""))],
        vec![framed(&[])],
        vec![framed(&twice)],
        vec![framed(&first)],
        vec![framed(&lease("us")), framed(&lease("eu"))],
    ] {
        let outcome = given(LEASE, identity(Role::Region, "us"), body.clone()).await;
        assert_eq!(reason(&outcome), Some(ErrorReason::NotOwnRegion), "{body:?}");
    }
    // Later messages need not name it again.
    let body = vec![framed(&lease("us")), framed(&lease(""))];
    given(LEASE, identity(Role::Region, "us"), body).await.expect("it is its own");
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_refused() {
    let us = || identity(Role::Region, "us");
    let compressed = [&[1, 0, 0, 0, 1][..], &[0]].concat();
    let outcome = given(LEASE, us(), vec![compressed.into()]).await;
    assert_eq!(outcome.expect_err("it is compressed").code(), Code::Unimplemented);
    let large = Bytes::from_static(&[0, 0, 64, 0, 1]);
    assert_eq!(given(LEASE, us(), vec![large]).await.expect_err("too large").code(), Code::OutOfRange);
    for broken in [&[0x0a, 0x7f][..], &[0x0b], &[0xff]] {
        let outcome = given(LEASE, us(), vec![framed(broken)]).await;
        assert_eq!(reason(&outcome), Some(ErrorReason::InvalidArgument), "{broken:?}");
    }
}

#[tokio::test]
async fn what_is_owned_is_looked_up() {
    let rename = |organization_id| {
        let request = UpdateOrganizationSlugRequest { organization_id, ..Default::default() };
        vec![framed(&request.encode_to_vec())]
    };
    given(RENAME, identity(Role::Region, "us"), rename(7)).await.expect("it is its own");
    given(RENAME, identity(Role::Operator, "me"), rename(9)).await.expect("an operator may");
    for (region, organization) in [("eu", 7), ("us", 9), ("us", 0)] {
        let outcome = given(RENAME, identity(Role::Region, region), rename(organization)).await;
        assert_eq!(reason(&outcome), Some(ErrorReason::NotOwnRegion), "{region} {organization}");
    }
    let outcome = given(RENAME, identity(Role::Region, "us"), rename(8)).await;
    assert_eq!(outcome.expect_err("nobody can say").code(), Code::Unavailable);

    let get =
        |import_id: &str| vec![framed(&GetImportRequest { import_id: import_id.to_owned() }.encode_to_vec())];
    let uuid = |number| Uuid::from_u128(number).to_string();
    let ann = || identity(Role::Importer, "ann");
    given(GET_IMPORT, ann(), get(&uuid(1))).await.expect("it is her own");
    given(GET_IMPORT, ann(), get(&uuid(1).to_uppercase())).await.expect("written in another way");
    given(GET_IMPORT, ann(), get(&uuid(3))).await.expect("there is none, and the handler says so");
    given(GET_IMPORT, ann(), get("7")).await.expect("it is not an id, and the handler says so");
    given(GET_IMPORT, identity(Role::Operator, "me"), get(&uuid(2))).await.expect("an operator may");
    for (name, import) in [("bob", 1), ("ann", 2)] {
        let outcome = given(GET_IMPORT, identity(Role::Importer, name), get(&uuid(import))).await;
        assert_eq!(reason(&outcome), Some(ErrorReason::NotOwnImport), "{name} {import}");
    }
}

#[tokio::test]
async fn a_caller_with_several_identities_may_what_one_of_them_may() {
    let handler = Handler::default();
    let access = Access::new(Arc::new(Owning)).expect("every call has a rule");
    let domain = "test.example".parse().expect("a domain");
    // The first identity comes from the certificate, the others from the table.
    let table = ["dns:x.example=region/us", "dns:x.example=region/eu", "dns:x.example=router/x"]
        .iter()
        .map(|entry| entry.parse::<causeway_tls::TableEntry>().expect("an entry"))
        .collect();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names.push(rcgen::SanType::DnsName("x.example".try_into().expect("ASCII")));
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let caller = Caller::of_certificate(certificate.der(), &domain, &table).expect("somebody");
    for (first, second, wanted) in [
        ("us", "us", None),
        ("eu", "eu", None),
        ("de", "de", Some(ErrorReason::NotOwnRegion)),
        // One call is made by one of them.
        ("us", "eu", Some(ErrorReason::NotOwnRegion)),
    ] {
        let frames = [framed(&lease(first)), framed(&lease(second))];
        let frames = futures::stream::iter(frames.map(|data| Ok::<_, Status>(http_body::Frame::data(data))));
        let mut request =
            Request::builder().uri(LEASE).body(Body::new(StreamBody::new(frames))).expect("a request");
        request.extensions_mut().insert(caller.clone());
        access.layer(handler.clone()).call(request).await.expect("it cannot fail");
        let seen = handler.0.lock().expect("nobody panics with it").pop().expect("it was called");
        assert_eq!(seen.err().and_then(|status| reason_of(&status)), wanted, "{first} {second}");
    }
}
