//! The limits of a caller, where they act: at a control that speaks mutual TLS, for a raw client, for the client crate and
//! for the command.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use causeway::serve::{CallerLimits, Settings};
use causeway_client::{Client, ClientTls, Service, Timeouts};
use causeway_harness::{pki::Pki, process};
use causeway_proto::{
    control::v1::{
        ResolveSlugRequest, WatchAllSlugReservationsRequest, WatchAllSlugReservationsResponse,
        directory_service_client::DirectoryServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    failure::{metadata_of, reason_of},
    relocation::v1::ErrorReason,
};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{LIMIT, Server, caller, settings};

/// What a refused caller is asked to wait.
const WAIT: Duration = Duration::from_secs(1);

/// A control with these limits on each caller, by the clock of this machine, which the command has too.
async fn server(callers: CallerLimits) -> Server {
    let pki = Pki::new(Environment::system()).expect("a CA");
    let tls = pki.server(pki.pair(Role::Control, "main").expect("issued")).expect("it can be used");
    Server::with(pki, Settings { callers, ..settings(tls) }).await
}

fn client(server: &Server, tls: Arc<ClientTls>) -> Client {
    let urls = [server.running.url()];
    Client::with_tls(Service::Control, &urls, Timeouts::default(), Some(tls)).expect("a URL")
}

/// A stream without an end.
async fn watched(channel: Channel) -> Result<Streaming<WatchAllSlugReservationsResponse>, Status> {
    let request = WatchAllSlugReservationsRequest::default();
    let answer = SlugReservationServiceClient::new(channel).watch_all_slug_reservations(request).await?;
    Ok(answer.into_inner())
}

#[track_caller]
fn refused_for(status: &Status, of: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason_of(status), Some(ErrorReason::TooManyCalls), "{status:?}");
    assert_eq!(metadata_of(status, "of").as_deref(), Some(of), "{status:?}");
    let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry, Some(WAIT), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_beyond_its_limit_is_refused_and_is_let_in_after_the_wait() {
    let server = server(CallerLimits { calls: 1, ..CallerLimits::default() }).await;
    let edge = client(&server, caller(&server.pki, Role::Router, "edge"));
    let other = client(&server, caller(&server.pki, Role::Router, "other"));
    let held = watched(edge.channel()).await.expect("the first one");

    // A client that knows nothing of limits, on a connection of its own.
    let raw = client(&server, caller(&server.pki, Role::Router, "edge"));
    refused_for(&watched(raw.channel()).await.map(|_| ()).expect_err("its place is taken"), "calls");
    watched(other.channel()).await.expect("of another caller");
    // A call of another kind has places of its own.
    let slug = || ResolveSlugRequest { slug: "nobody".to_owned() };
    let absent = DirectoryServiceClient::new(raw.channel()).resolve_slug(slug()).await;
    assert_eq!(reason_of(&absent.expect_err("nobody has it")), Some(ErrorReason::SlugNotFound));

    // The client of the client crate is refused too, waits, and finds the place free.
    let (held, attempts) = (Arc::new(Mutex::new(Some(held))), Arc::new(AtomicU32::new(0)));
    let began = Instant::now();
    let request = WatchAllSlugReservationsRequest::default();
    let opened = edge.call(LIMIT, request, |channel, request| {
        let (held, attempts) = (Arc::clone(&held), Arc::clone(&attempts));
        async move {
            let answer =
                SlugReservationServiceClient::new(channel).watch_all_slug_reservations(request).await;
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                refused_for(answer.as_ref().map(|_| ()).expect_err("its place is taken"), "calls");
                held.lock().expect("nobody panics with it").take();
            }
            answer
        }
    });
    opened.await.expect("it is let in after the wait");
    assert!(attempts.load(Ordering::Relaxed) >= 2 && began.elapsed() >= WAIT);
    server.running.stop().await;
}

/// Commands of one caller at once, of which control lets one call in each second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_waits_as_long_as_a_service_asks() {
    let server = server(CallerLimits { rate: NonZeroU32::MIN, ..CallerLimits::default() }).await;
    let pair = server.pki.pair(Role::Operator, "me").expect("issued");
    let run = || {
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        command.args(["regions", "list", "--control", &server.running.url()]);
        command.arg("--tls-ca").arg(server.pki.ca());
        command.arg("--tls-cert").arg(&pair.cert).arg("--tls-key").arg(&pair.key);
        command.output().expect("it runs")
    };
    let (began, runs) = (Instant::now(), 3);
    let outputs = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..runs).map(|_| scope.spawn(run)).collect();
            running.into_iter().map(|it| it.join().expect("it ends")).collect::<Vec<_>>()
        })
    });
    for output in outputs {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
    }
    // One is let in at once, and each of the others only in a second of its own.
    assert!(began.elapsed() >= WAIT * (runs - 1), "{:?}", began.elapsed());
    server.running.stop().await;
}
