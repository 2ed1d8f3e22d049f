//! Who a caller is according to its certificate, and that a call without such an identity reaches no handler.

use causeway_client::{Client, Service, Timeouts};
use causeway_harness::pki::Pki;
use causeway_proto::{
    control::v1::WatchAllSlugReservationsRequest, failure::reason_of, relocation::v1::ErrorReason,
};
use causeway_tls::Role;
use rcgen::{CertificateParams, SanType};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{Server, says};

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// The parameters of an operator, with these URIs in place of its own.
fn with_uris(pki: &Pki, uris: &[&str]) -> CertificateParams {
    let mut params = pki.parameters(Role::Operator, "me").expect("a name");
    params.subject_alt_names.retain(|name| !matches!(name, SanType::URI(_)));
    params.subject_alt_names.extend(uris.iter().map(|text| uri(text)));
    params
}

/// What unary calls and streams are refused with, for a certificate with these URIs.
async fn refusals(server: &Server, uris: &[&str]) -> [Status; 3] {
    let pair = server.pki.issue("odd", &with_uris(&server.pki, uris)).expect("issued");
    let tls = server.pki.client(Some(pair)).expect("it can be used");
    let url = server.running.url();
    let client = Client::connect_with_tls(Service::Control, &url, Timeouts::default(), Some(tls)).await;
    let channel = client.expect("the certificate itself is good").channel();
    let mut health = HealthClient::new(channel.clone());
    let mut slugs =
        causeway_proto::control::v1::slug_reservation_service_client::SlugReservationServiceClient::new(
            channel,
        );
    let request = WatchAllSlugReservationsRequest::default();
    [
        health.check(HealthCheckRequest::default()).await.expect_err("a unary call"),
        health.watch(HealthCheckRequest::default()).await.expect_err("a stream"),
        slugs.watch_all_slug_reservations(request).await.expect_err("a feed"),
    ]
}

#[tokio::test]
async fn a_certificate_that_names_nobody_is_refused_before_any_handler() {
    let server = Server::start().await;
    for (uris, why) in [
        (&["spiffe://other.example/operator/me"][..], "is not of the trust domain test.example"),
        (
            &["spiffe://test.example/operator/me", "spiffe://test.example/region/us"],
            "it has 2 URIs; it must have one",
        ),
        (&[], "it has no URI; it needs spiffe://test.example/ROLE/NAME"),
        (&["https://test.example/operator/me"], "does not begin with spiffe://"),
        (&["spiffe://test.example/operator"], "is not spiffe://test.example/ROLE/NAME"),
        (&["spiffe://test.example/root/me"], "has an unknown role"),
    ] {
        for status in refusals(&server, uris).await {
            assert_eq!(status.code(), Code::Unauthenticated, "{uris:?}: {status:?}");
            assert_eq!(reason_of(&status), Some(ErrorReason::IdentityInvalid), "{uris:?}: {status:?}");
            says(status.message(), &["the certificate of the caller does not say who it is: ", why]);
        }
    }
    server.running.stop().await;
}

#[tokio::test]
async fn every_role_is_let_in() {
    let server = Server::start().await;
    for role in Role::ALL {
        let pair = server.pki.pair(role, "some-1").expect("issued");
        let tls = server.pki.client(Some(pair)).expect("it can be used");
        server.asked_with(tls).await.unwrap_or_else(|error| panic!("{role}: {error}"));
    }
    server.running.stop().await;
}

#[tokio::test]
async fn without_a_trust_domain_any_certificate_of_the_ca_is_let_in() {
    let pki = crate::support::pki();
    let tls = pki.server(pki.pair(Role::Control, "main").expect("issued")).expect("it can be used");
    let tls = causeway::serve::Tls { trust_domain: None, ..tls };
    let server = Server::with(pki, crate::support::settings(tls)).await;
    let pair = server.pki.issue("odd", &with_uris(&server.pki, &[])).expect("issued");
    server.asked_with(server.pki.client(Some(pair)).expect("it can be used")).await.expect("it is let in");
    server.running.stop().await;
}
