//! Certificates that change while a service runs.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway::serve::Tls;
use causeway_client::{
    Client, ClientTls, Clock, Service, Timeouts,
    feed::{AllFeeds, AllFeedsUpdate, SILENCE},
};
use causeway_harness::{
    cluster::{Cluster, Store},
    pki::{Pki, TRUST_DOMAIN},
};
use causeway_silo::env::Environment;
use causeway_tls::{FileError, Refreshed, Role, ServerFiles, ServerTls, rustls::pki_types::CertificateDer};
use chrono::TimeDelta;
use rcgen::CertificateParams;
use tokio::{net::TcpStream, time::timeout};

use crate::support::{LIMIT, Server, now, pki, says, settings, until, version};

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

/// The time of a test, which it moves on.
#[derive(Clone, Default)]
struct Moving(Arc<AtomicI64>);

impl Moving {
    fn pass(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_seconds(), Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let passed = Arc::clone(&self.0);
        Clock::new(move || now() + TimeDelta::seconds(passed.load(Ordering::Relaxed)))
    }
}

/// A control whose certificates go by this time, which looks at them all the time, and pings silent connections as
/// often; and the serial numbers that it has been told of as revoked.
async fn watchful(time: &Moving) -> Server {
    let pki = pki();
    let other = pki.parameters(Role::Operator, "other").expect("a name").serial_number.expect("it has one");
    let files = ServerFiles {
        client_crl: Some(pki.revoke(&[other]).expect("written")),
        ..pki.server_files(pki.pair(Role::Control, "main").expect("issued"))
    };
    let certificates = Arc::new(ServerTls::load(files, time.clock()).expect("they can be used"));
    let often = Duration::from_millis(10);
    let tls =
        Tls { look_every: often, ..Tls::new(certificates, Some(TRUST_DOMAIN.parse().expect("a name"))) };
    let mut settings = settings(tls);
    settings.connections.keepalive = often;
    Server::with(pki, settings).await
}

/// A feed of all regions that a router reads with this certificate, after its first message. Nothing is sent on it any
/// more: there is no region, and control sends a sign of life only every 5 seconds.
async fn silent_feed(server: &Server, params: &CertificateParams, file: &str) -> AllFeeds {
    let tls = server.pki.client(Some(server.pki.issue(file, params).expect("issued"))).expect("good");
    let urls = [server.running.url()];
    let control = Client::with_tls(Service::Control, &urls, Timeouts::default(), Some(tls)).expect("a URL");
    let mut feeds = AllFeeds::open(&control, Vec::new(), SILENCE).await.expect("it is opened");
    let opened = timeout(LIMIT, feeds.next()).await.expect("in time").expect("it is open");
    assert!(matches!(opened, AllFeedsUpdate::Regions(_)), "{opened:?}");
    feeds
}

/// Reads a feed up to the error that ends it.
async fn ended(mut feeds: AllFeeds) {
    let reading = async { while feeds.next().await.is_ok() {} };
    timeout(LIMIT, reading).await.expect("the feed is ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_ends_soon_after_its_certificate_was_revoked_or_has_expired() {
    let time = Moving::default();
    let server = watchful(&time).await;
    let of = |name: &str| server.pki.parameters(Role::Router, name).expect("a name");
    let (revoked, mut short, good) = (of("revoked"), of("short"), of("good"));
    server.pki.set_days(&mut short, -1, 1).expect("a time");
    let of_revoked = silent_feed(&server, &revoked, "revoked").await;
    let of_short = silent_feed(&server, &short, "short").await;
    let mut of_good = silent_feed(&server, &good, "good").await;

    server.pki.revoke(&[revoked.serial_number.clone().expect("it has one")]).expect("written");
    ended(of_revoked).await;
    time.pass(TimeDelta::days(1) + TimeDelta::seconds(1));
    ended(of_short).await;
    // The others go on, whatever became of these.
    let alive = timeout(LIMIT, of_good.next()).await.expect("a sign of life");
    alive.expect("its certificate is still good");
    server.running.stop().await;
}

/// What docs/tls.md says: the files are looked at, a silent connection is pinged, and a connection that is in use looks
/// once in a while.
#[test]
fn a_connection_that_is_not_accepted_any_more_ends_within_40_seconds() {
    let pki = pki();
    let tls = pki.server(pki.pair(Role::Control, "main").expect("issued")).expect("it can be used");
    let longest = tls.look_every + causeway::serve::ConnectionLimits::default().keepalive;
    assert!(longest + Duration::from_secs(1) <= Duration::from_secs(40), "{longest:?}");
}

#[test]
fn a_ca_that_ends_and_a_revocation_list_that_is_overdue_are_warned_of() {
    let pki = pki();
    let later = |days: i64| Clock::new(move || now() + TimeDelta::days(days));
    let mut params = pki.parameters(Role::Control, "main").expect("a name");
    // The CA of this test is for 3,650 days, and its certificates do not end before it does.
    pki.set_days(&mut params, -1, 4_000).expect("a time");
    let pair = pki.issue("control", &params).expect("issued");
    let warned = |crl: bool, days: i64| {
        let crl = crl.then(|| pki.path("crl.pem"));
        let files = ServerFiles { client_crl: crl, ..pki.server_files(pair.clone()) };
        ServerTls::load(files, later(days)).expect("it can be used").warnings()
    };
    assert_eq!(warned(false, 3_635), Vec::<String>::new(), "15 days are left");
    for (days, words) in [
        (3_636, "expires on 2040-06-12 12:00 UTC; issue a new one before that"),
        (3_651, "has expired on 2040-06-12 12:00 UTC; issue a new one"),
    ] {
        let warnings = warned(false, days);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        says(&warnings[0], &["a CA of ", "ca.pem ", words]);
        let files = causeway_client::ClientFiles { ca: pki.ca(), pair: None };
        let client = ClientTls::load(files, later(days)).expect("it can be used");
        assert_eq!(client.warnings(), warnings, "a client warns of it as well");
    }

    // The lists of this test say that the next one comes after 7 days.
    pki.revoke(&[]).expect("written");
    assert_eq!(warned(true, 7), Vec::<String>::new());
    let warnings = warned(true, 8);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    says(&warnings[0], &["crl.pem should have been renewed by 2030-06-22 12:00 UTC; get a newer one"]);
}

/// The lines are those of [`ServerTls::warnings`]: a service logs them when it starts.
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
