//! Certificates that one side does not accept, and which error the caller gets. Each is tried with a client
//! that connects first and with one that connects for its call.

use std::sync::Arc;

use causeway::certs::Authority;
use causeway_client::{ClientFiles, ClientTls, Clock, FileError, PairFiles};
use causeway_silo::env::Environment;
use causeway_tls::{Role, ServerFiles, ServerTls};
use chrono::TimeDelta;

use crate::support::{Server, ask, ask_lazily, now, pki, says, settings};

async fn refused(server: &Server, tls: Arc<ClientTls>, words: &[&str]) {
    let url = server.running.url();
    for refusal in [ask(&url, Some(Arc::clone(&tls))).await, ask_lazily(&url, Some(tls)).await] {
        let error = refusal.expect_err("it is refused");
        says(&error.to_string(), words);
        says(&error.to_string(), &["control at https://127.0.0.1:", "cannot be reached: "]);
    }
}

#[tokio::test]
async fn a_caller_with_a_certificate_is_let_in() {
    let server = Server::start().await;
    server.asked_with(server.pki.operator().expect("issued")).await.expect("it is accepted");
    server.running.stop().await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let server = Server::start().await;
    let nobody = server.pki.client(None).expect("the CA is there");
    refused(&server, nobody, &["the server wants a certificate: give --tls-cert and --tls-key"]).await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_caller_of_another_ca_is_refused() {
    let (server, other) = (Server::start().await, pki());
    let pair = other.pair(Role::Operator, "me").expect("issued");
    let stranger = server.pki.client(Some(pair)).expect("it can be used");
    refused(&server, stranger, &["does not accept this certificate", "--tls-client-ca"]).await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (server, other) = (Server::start().await, pki());
    let ca = other.ca().display().to_string();
    let client = other.operator().expect("issued");
    refused(
        &server,
        client,
        &["its certificate is not signed by a CA of", &ca, "give the CA that signed it (--tls-ca"],
    )
    .await;
    server.running.stop().await;
}

/// A client whose clock shows a time so many days from now.
fn client_at(
    pki: &causeway_harness::pki::Pki,
    pair: causeway_client::PairFiles,
    days: i64,
) -> Arc<ClientTls> {
    let clock = Clock::new(move || now() + TimeDelta::days(days));
    let files = ClientFiles { ca: pki.ca(), pair: Some(pair) };
    Arc::new(ClientTls::load(files, clock).expect("it is valid by that clock"))
}

#[tokio::test]
async fn a_caller_whose_certificate_is_not_valid_now_is_refused() {
    let pki = pki();
    let mut params = pki.parameters(Role::Control, "main").expect("a name");
    pki.set_days(&mut params, -30, 30).expect("a time");
    let tls = pki.server(pki.issue("control", &params).expect("issued")).expect("it can be used");
    let server = Server::with(pki, settings(tls)).await;
    // The clocks differ, or the client would not even begin.
    for (from, until, clock) in [(-10, -1, -5), (1, 10, 5)] {
        let mut params = server.pki.parameters(Role::Operator, "me").expect("a name");
        server.pki.set_days(&mut params, from, until).expect("a time");
        let pair = server.pki.issue("other", &params).expect("issued");
        let words =
            ["does not accept this certificate: it has expired, or its time has not come", "issue a new one"];
        refused(&server, client_at(&server.pki, pair, clock), &words).await;
    }
    server.running.stop().await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_valid_now_is_refused() {
    let server = Server::start().await;
    let mut params = server.pki.parameters(Role::Operator, "me").expect("a name");
    server.pki.set_days(&mut params, -300, 300).expect("a time");
    let pair = server.pki.issue("long", &params).expect("issued");
    for (days, words) in [
        (100, "its certificate has expired on 2030-09-13 12:00 UTC"),
        (-1, "its certificate is not valid before 2030-06-15 11:55 UTC"),
    ] {
        refused(&server, client_at(&server.pki, pair.clone(), days), &[words]).await;
    }
    server.running.stop().await;
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let pki = pki();
    let mut params = pki.parameters(Role::Control, "main").expect("a name");
    params.subject_alt_names.retain(|name| !matches!(name, rcgen::SanType::IpAddress(_)));
    let tls = pki.server(pki.issue("control", &params).expect("issued")).expect("it can be used");
    let server = Server::with(pki, settings(tls)).await;
    let client = server.pki.operator().expect("issued");
    let words = ["its certificate is for localhost and not for 127.0.0.1", "issue one for this name"];
    refused(&server, Arc::clone(&client), &words).await;
    let url = server.running.url().replace("127.0.0.1", "localhost");
    ask(&url, Some(client)).await.expect("that is its name");
    server.running.stop().await;
}

/// The most usual mistake with a CA of one's own.
#[tokio::test]
async fn a_certificate_for_the_other_side_is_refused() {
    let pki = pki();
    let mut params = pki.parameters(Role::Control, "main").expect("a name");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let tls = pki.server(pki.issue("main", &params).expect("issued")).expect("it can be read");
    let server = Server::with(pki, settings(tls)).await;
    let client = server.pki.operator().expect("issued");
    refused(&server, client, &["its certificate is not for this side of a connection"]).await;
    server.running.stop().await;

    let server = Server::start().await;
    let mut params = server.pki.parameters(Role::Operator, "me").expect("a name");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let client = server.pki.client(Some(server.pki.issue("me", &params).expect("issued")));
    refused(&server, client.expect("it can be read"), &["not one for callers", "clientAuth"]).await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_caller_whose_certificate_has_been_revoked_is_refused() {
    let pki = pki();
    let params = pki.parameters(Role::Operator, "me").expect("a name");
    let revoked = pki.issue("revoked", &params).expect("issued");
    let list = pki.revoke(&[params.serial_number.expect("it has one")]).expect("written");
    let files = ServerFiles {
        client_crl: Some(list),
        ..pki.server_files(pki.pair(Role::Control, "main").expect("issued"))
    };
    let certificates = Arc::new(ServerTls::load(files, pki.clock()).expect("they can be used"));
    let tls = causeway::serve::Tls::new(certificates, None);
    let server = Server::with(pki, settings(tls)).await;
    let client = server.pki.client(Some(revoked)).expect("it can be used");
    refused(&server, client, &["does not accept this certificate: it has been revoked"]).await;
    server.asked_with(server.pki.operator().expect("issued")).await.expect("that one is not revoked");
    server.running.stop().await;
}

/// While one CA replaces another, the new one has no list yet.
#[tokio::test]
async fn a_ca_without_a_revocation_list_has_revoked_nothing() {
    let pki = pki();
    let params = pki.parameters(Role::Operator, "me").expect("a name");
    let revoked = pki.issue("revoked", &params).expect("issued");
    // A list belongs to the CA of its name, so the new CA has another one.
    let (env, until) = (Environment::fixed(now(), 8), now() + TimeDelta::days(90));
    let domain = "new.example".parse().expect("a trust domain");
    let (new, of_new) = Authority::make(domain, now(), until, &env).expect("a CA");
    let issued = new.sign(&params).expect("issued");
    let old = std::fs::read_to_string(pki.ca()).expect("it is there");
    let pair = PairFiles { cert: pki.path("new.pem"), key: pki.path("new-key.pem") };
    let client_ca = pki.path("both.pem");
    for (path, text) in
        [(&client_ca, &[old, of_new.cert].concat()), (&pair.cert, &issued.cert), (&pair.key, &issued.key)]
    {
        std::fs::write(path, text).expect("written");
    }
    let files = ServerFiles {
        client_ca: Some(client_ca),
        client_crl: Some(pki.revoke(&[params.serial_number.expect("it has one")]).expect("written")),
        ..pki.server_files(pki.pair(Role::Control, "main").expect("issued"))
    };
    let certificates = Arc::new(ServerTls::load(files, pki.clock()).expect("they can be used"));
    let server = Server::with(pki, settings(causeway::serve::Tls::new(certificates, None))).await;
    server
        .asked_with(server.pki.client(Some(pair)).expect("it can be used"))
        .await
        .expect("no list names it");
    let client = server.pki.client(Some(revoked)).expect("it can be used");
    refused(&server, client, &["it has been revoked"]).await;
    server.running.stop().await;
}

#[test]
fn an_own_certificate_that_is_not_valid_now_is_an_error_at_once() {
    let pki = pki();
    let mut params = pki.parameters(Role::Operator, "me").expect("a name");
    pki.set_days(&mut params, -10, -1).expect("a time");
    let error = pki.client(Some(pki.issue("old", &params).expect("issued"))).expect_err("it is over");
    says(&error.to_string(), &["old.pem has expired on 2030-06-14 12:00 UTC; issue a new one"]);
    pki.set_days(&mut params, 1, 10).expect("a time");
    let error = pki.server(pki.issue("new", &params).expect("issued")).expect_err("it has not begun");
    says(&error.to_string(), &["new.pem is not valid before 2030-06-16 12:00 UTC; set this machine's clock"]);
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let pki = pki();
    let good = pki.pair(Role::Control, "main").expect("issued");
    let other = pki.pair(Role::Control, "other").expect("issued");
    let load = |pair| ServerTls::load(pki.server_files(pair), pki.clock()).expect_err("it cannot be used");
    let pair = |cert: &std::path::PathBuf, key: &std::path::PathBuf| causeway_client::PairFiles {
        cert: cert.clone(),
        key: key.clone(),
    };
    let error = load(pair(&pki.path("absent.pem"), &good.key));
    says(&error.to_string(), &["absent.pem cannot be read: No such file or directory"]);
    let error = load(pair(&good.key, &good.key));
    says(&error.to_string(), &["control-main-key.pem has no certificate in PEM form"]);
    let error = load(pair(&good.cert, &good.cert));
    says(
        &error.to_string(),
        &[
            "control-main.pem has no private key without a passphrase (`openssl pkey -in OLD -out NEW` removes one) in PEM form",
        ],
    );
    let error = load(pair(&good.cert, &other.key));
    assert!(matches!(error, FileError::Mismatch { .. }), "{error:?}");
    says(
        &error.to_string(),
        &["control-other-key.pem does not belong to the certificate", "control-main.pem"],
    );
}

#[tokio::test]
async fn an_address_with_https_needs_a_ca() {
    let server = Server::start().await;
    let error = ask(&server.running.url(), None).await.expect_err("it has no CA");
    says(&error.to_string(), &["begins with https://: give --tls-ca"]);
    server.running.stop().await;
}
