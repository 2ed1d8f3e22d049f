//! Calls to controls of other releases.

use causeway_client::{Service, Timeouts};
use causeway_proto::{
    failure::Failure,
    limits::{MAX_FIND_BYTES, MAX_FIND_VALUES},
    relocation::v1::{
        ErrorReason, GetVersionResponse,
        version_service_server::{VersionService, VersionServiceServer},
    },
};

use super::{imports::batches_of_values, *};
use crate::error::Error;

#[test]
fn values_are_asked_for_in_calls_that_control_takes() {
    let short: Vec<String> = (0..MAX_FIND_VALUES + 1).map(|number| number.to_string()).collect();
    let sizes =
        |values: &[String]| batches_of_values(values.to_vec()).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&short), [MAX_FIND_VALUES, 1]);
    assert_eq!(batches_of_values(short.clone()).concat(), short);
    let long = vec!["x".repeat(1_000); MAX_FIND_BYTES / 1_000 + 1];
    assert_eq!(sizes(&long), [MAX_FIND_BYTES / 1_000, 1]);
    assert_eq!(sizes(&[]), [0_usize; 0]);
}

/// A control of another release: it serves another revision of the contract, and nothing else that is known here.
struct OtherRelease;

#[tonic::async_trait]
impl VersionService for OtherRelease {
    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        assert_eq!(request.get_ref().contract_revision, NEEDED_REVISION);
        Err(Failure::new(ErrorReason::ContractNotSupported, "of another release").into())
    }
}

#[tokio::test]
async fn an_older_control_need_not_know_of_a_plan() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let older = tonic::transport::Server::builder()
        .add_service(VersionServiceServer::new(OtherRelease))
        .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
    let serving = tokio::spawn(older);
    let client = Client::new(Service::Control, &[url], Timeouts::default()).unwrap();
    ControlClient::new(client, "us").plan_import(Uuid::from_u128(1)).await.unwrap();
    serving.abort();
}

#[tokio::test]
async fn imports_wait_while_control_does_not_know_who_the_region_is() {
    let urls = ["https://127.0.0.1:1".to_owned()];
    let client = Client::new(Service::Control, &urls, Timeouts::default()).expect("a client");
    let refused = Failure::new(ErrorReason::IdentityInvalid, "the certificate names nobody");
    assert!(Error::Control(client.failed(refused.into())).is_transient());
    let refused = Failure::new(ErrorReason::ChunkContentDiffers, "it is another one");
    assert!(!Error::Control(client.failed(refused.into())).is_transient());
}

#[tokio::test]
async fn a_region_does_not_register_with_a_control_that_does_not_fit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(VersionServiceServer::new(OtherRelease))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let client = Client::new(Service::Control, &[url], Timeouts::default()).expect("a client");
    let control = ControlClient::new(client, "us");
    let registered = control.register("http://us.example.com", Uuid::nil(), String::new(), Vec::new()).await;
    let error = registered.expect_err("it does not fit");
    assert_eq!(error.reason(), Some(ErrorReason::ContractNotSupported));
    assert!(Error::Control(error).is_transient(), "an operator can mend it, and until then imports wait");
    serving.abort();
}
