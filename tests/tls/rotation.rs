//! Certificates that change while a service runs.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway::serve::Tls;
use causeway_client::{
    Client, ClientTls, Service, Timeouts,
    feed::{AllFeeds, AllFeedsUpdate, SILENCE},
};
use causeway_harness::{
    cluster::{Cluster, Store},
    pki::Pki,
};
use causeway_silo::env::Environment;
use causeway_tls::{FileError, Refreshed, Role, ServerFiles, ServerTls, rustls::pki_types::CertificateDer};
use tokio::{net::TcpStream, time::timeout};

use crate::support::{LIMIT, Server, pki, says, settings, until, version};

/// The certificate that a server shows to a new connection.
async fn shown(url: &str, client: &ClientTls) -> CertificateDer<'static> {
    let address = url.trim_start_matches("https://");
    let tcp = TcpStream::connect(address).await.expect("it listens");
    let connector = tokio_rustls::TlsConnector::from(client.config());
    let stream = connector.connect("127.0.0.1".try_into().expect("a name"), tcp).await.expect("it is good");
    let certificates = stream.get_ref().1.peer_certificates().expect("it has shown one");
    certificates[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_while_calls_and_a_feed_are_open() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster = Cluster::builder(Store::Sqlite).region("us").tls(&pki).start().await.expect("it starts");
    let (url, operator) = (cluster.control_url(), pki.operator().expect("issued"));
    let before = shown(&url, &operator).await;

    let control = cluster.control();
    let registered =
        async || control.reserve("us", "00000000-0000-4000-8000-000000000001", 1, "one").await.is_ok();
    until("the region has registered", registered).await;
    control.confirm("us", "00000000-0000-4000-8000-000000000001").await.expect("it is confirmed");
    let mut feeds = AllFeeds::open(&control, Vec::new(), SILENCE).await.expect("it is opened");
    let opened = timeout(LIMIT, feeds.next()).await.expect("in time").expect("it is open");
    assert!(matches!(opened, AllFeedsUpdate::Regions(_)), "{opened:?}");

    // Calls on one connection, one after the other, all the time.
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let urls = [url.clone()];
    let caller = Client::with_tls(Service::Control, &urls, Timeouts::default(), Some(Arc::clone(&operator)))
        .expect("a URL");
    let calling = tokio::spawn({
        let (done, calls) = (Arc::clone(&done), Arc::clone(&calls));
        async move {
            while !done.load(Ordering::Relaxed) {
                version(&caller).await.expect("no call is lost");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..3 {
        let before = shown(&url, &operator).await;
        pki.pair(Role::Control, "control").expect("issued");
        until("the new certificate is shown", async || shown(&url, &operator).await != before).await;
    }
    let so_far = calls.load(Ordering::Relaxed);
    until("calls go on", async || calls.load(Ordering::Relaxed) > so_far).await;
    done.store(true, Ordering::Relaxed);
    calling.await.expect("no call is lost");
    assert_ne!(shown(&url, &operator).await, before);

    // The stream that was opened before still hears of what happens now.
    control.reserve("us", "00000000-0000-4000-8000-000000000002", 2, "two").await.expect("it is reserved");
    control.confirm("us", "00000000-0000-4000-8000-000000000002").await.expect("it is confirmed");
    let heard = async {
        loop {
            let update = feeds.next().await.expect("the stream is not broken");
            if matches!(&update, AllFeedsUpdate::Feed { .. }) && format!("{update:?}").contains("\"two\"") {
                break;
            }
        }
    };
    timeout(LIMIT, heard).await.expect("it is heard");
    cluster.stop().await;
}

#[test]
fn half_a_pair_keeps_what_was_there() {
    let pki = pki();
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let tls = ServerTls::load(pki.server_files(pair.clone()), pki.clock()).expect("it can be used");
    let before = tls.config();
    assert_eq!(tls.refresh(), Refreshed::Unchanged);

    let next = pki.sign(&pki.parameters(Role::Control, "main").expect("a name")).expect("issued");
    fs::write(&pair.cert, &next.cert).expect("written");
    for _ in 0..2 {
        let Refreshed::Kept(error) = tls.refresh() else { panic!("half a pair is used") };
        assert!(matches!(error, FileError::Mismatch { .. }), "{error}");
        says(&error.to_string(), &["control-main-key.pem does not belong to the certificate"]);
    }
    assert!(Arc::ptr_eq(&tls.config(), &before), "the old pair stays in use");
    fs::write(&pair.key, next.key.as_bytes()).expect("written");
    assert_eq!(tls.refresh(), Refreshed::Replaced);
    assert!(!Arc::ptr_eq(&tls.config(), &before));

    let kept = tls.config();
    fs::remove_file(&pair.cert).expect("it is there");
    assert!(matches!(tls.refresh(), Refreshed::Kept(FileError::Unreadable { .. })));
    fs::write(&pair.cert, "nonsense").expect("written");
    assert!(matches!(tls.refresh(), Refreshed::Kept(FileError::Empty { .. })));
    assert!(Arc::ptr_eq(&tls.config(), &kept));
    fs::write(&pair.cert, &next.cert).expect("written");
    assert_eq!(tls.refresh(), Refreshed::Unchanged);
}

#[tokio::test]
async fn a_client_shows_its_new_certificate_on_its_next_connection() {
    let server = Server::start().await;
    let mut odd = server.pki.parameters(Role::Operator, "me").expect("a name");
    odd.subject_alt_names.retain(|name| !matches!(name, rcgen::SanType::URI(_)));
    let pair = server.pki.issue("me", &odd).expect("issued");
    let client = server.pki.client(Some(pair)).expect("it can be used");
    let error = server.asked_with(Arc::clone(&client)).await.expect_err("it names nobody");
    assert!(error.reason().is_some(), "{error}");
    server.pki.issue("me", &server.pki.parameters(Role::Operator, "me").expect("a name")).expect("issued");
    server.asked_with(client).await.expect("it names somebody now");
    server.running.stop().await;
}

#[tokio::test]
async fn a_ca_that_is_taken_away_lets_nobody_in_any_more() {
    let pki = pki();
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let tls = Tls { look_every: Duration::from_millis(10), ..pki.server(pair).expect("good") };
    let server = Server::with(pki, settings(tls)).await;
    let other = crate::support::pki();
    // The file of the CA also is what the client checks the server by, so that has a copy.
    let ca = server.pki.path("copy.pem");
    fs::copy(server.pki.ca(), &ca).expect("copied");
    let pair = server.pki.pair(Role::Operator, "me").expect("issued");
    let files = causeway_client::ClientFiles { ca, pair: Some(pair) };
    let client = Arc::new(ClientTls::load(files, server.pki.clock()).expect("it can be used"));
    server.asked_with(Arc::clone(&client)).await.expect("it is let in");
    fs::copy(other.ca(), server.pki.ca()).expect("replaced");
    let refused = "it is not signed by a CA of its --tls-client-ca";
    until("it is refused", async || {
        server.asked_with(Arc::clone(&client)).await.is_err_and(|error| error.to_string().contains(refused))
    })
    .await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_revoked_meanwhile_opens_no_connection_and_keeps_none() {
    let pki = pki();
    let params = pki.parameters(Role::Operator, "me").expect("a name");
    let pair = pki.issue("me", &params).expect("issued");
    let other = pki.parameters(Role::Operator, "other").expect("a name").serial_number.expect("it has one");
    let files = ServerFiles {
        client_crl: Some(pki.revoke(&[other]).expect("written")),
        ..pki.server_files(pki.pair(Role::Control, "main").expect("issued"))
    };
    let certificates = Arc::new(ServerTls::load(files, pki.clock()).expect("they can be used"));
    let tls = Tls { look_every: Duration::from_millis(10), ..Tls::new(certificates, None) };
    let server = Server::with(pki, settings(tls)).await;
    let client = server.pki.client(Some(pair)).expect("it can be used");
    let urls = [server.running.url()];
    let tls = Some(Arc::clone(&client));
    let open = Client::with_tls(Service::Control, &urls, Timeouts::default(), tls).expect("a URL");
    version(&open).await.expect("it is let in");
    server.pki.revoke(&[params.serial_number.expect("it has one")]).expect("written");
    let refused = "it has been revoked";
    until("it is refused", async || {
        server.asked_with(Arc::clone(&client)).await.is_err_and(|error| error.to_string().contains(refused))
    })
    .await;
    // The connection that was open is ended; on the next one, the caller hears why.
    until("the open connection is ended", async || {
        version(&open).await.is_err_and(|error| error.to_string().contains(refused))
    })
    .await;
    server.running.stop().await;
}

#[test]
fn what_ends_within_14_days_is_warned_of() {
    let pki = pki();
    for (days, wanted) in [
        (15, None),
        (14, Some("expires on 2030-06-29 12:00 UTC; issue a new one before that")),
        (1, Some("expires on 2030-06-16 12:00 UTC")),
    ] {
        let mut params = pki.parameters(Role::Control, "main").expect("a name");
        pki.set_days(&mut params, -1, days).expect("a time");
        let tls = pki.server(pki.issue("control", &params).expect("issued")).expect("it is valid");
        let warnings = tls.certificates.warnings();
        match wanted {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(words) => says(&warnings[0], &["control.pem", words]),
        }
        assert!(warnings.len() < 2, "the CA has years left: {warnings:?}");
    }
}
