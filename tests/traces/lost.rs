//! A collector that is away or slow: nothing waits for it, and what it does not take is counted and reported.

use std::time::Duration;

use causeway_harness::{
    cluster::{Cluster, Service, Store},
    process::{self, OwnPort, Process},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use crate::support::{eventually, import, run, stderr};

/// How much longer a process may take to end than it would without a collector.
const STOP: Duration = Duration::from_secs(2);

/// How many spans the metrics of a service say that it has dropped.
async fn dropped(cluster: &Cluster, service: Service) -> Option<f64> {
    let log = cluster.log(service).expect("it has logged");
    let (_, after) = log.split_once("metrics can be scraped at http://")?;
    let address = after.split('/').next()?;
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("it is sent");
    let mut page = String::new();
    connection.read_to_string(&mut page).await.expect("it answers");
    let value = page.lines().find_map(|line| line.strip_prefix("causeway_trace_spans_dropped_total "));
    Some(value.expect("it is shown").parse().expect("a number"))
}

/// Imports with services and a command that send their traces to `endpoint`, and checks that all goes well and that all
/// of them report what was dropped.
async fn all_goes_well_with(endpoint: &str) {
    let argument = format!("--otlp-endpoint={endpoint}");
    let cluster = Cluster::builder(Store::Sqlite)
        .region("us")
        .processes(env!("CARGO_BIN_EXE_causeway"))
        .arguments(&[&argument, "--shutdown-drain=0s", "--metrics-listen=127.0.0.1:0"])
        .start()
        .await
        .expect("a cluster");
    let output = import(cluster.region(0).url(), &[&argument]).await;
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("spans of traces were dropped"), "{log}");
    assert!(log.contains(&format!("endpoint={endpoint}")), "{log}");
    for service in [Service::Region(0), Service::Control(0)] {
        eventually("what was dropped is in the metrics", async || {
            dropped(&cluster, service).await.is_some_and(|dropped| dropped > 0.0)
        })
        .await;
        let begun = Instant::now();
        cluster.signal(service, "TERM").expect("it runs");
        let status = cluster.ended(service).await.expect("it ends");
        assert_eq!(status.code(), Some(0));
        // Without a drain, and with nothing to do, it ends at once.
        assert!(begun.elapsed() < STOP + Duration::from_secs(8), "{:?}", begun.elapsed());
        let log = cluster.log(service).expect("it has logged");
        assert_eq!(log.matches("spans of traces were dropped").count(), 1, "{log}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_collector_that_is_away() {
    let own = OwnPort::new().expect("a port");
    all_goes_well_with(&format!("http://{}", own.address)).await;
}

/// A collector that accepts connections and never answers, and its URL.
async fn silent() -> (JoinHandle<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let accepting = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            open.push(tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while connection.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            }));
        }
    });
    (accepting, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_collector_that_does_not_answer() {
    let (accepting, url) = silent().await;
    all_goes_well_with(&url).await;
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_does_not_wait_for_the_collector() {
    let (accepting, url) = silent().await;
    let mut control = process::command(env!("CARGO_BIN_EXE_causeway"));
    let directory = tempfile::tempdir().expect("a directory");
    control.args(["control", "--listen", "127.0.0.1:0", "--database-url", "sqlite:control.db"]);
    control.args(["--shutdown-drain", "30s", "--shutdown-timeout", "30s", "--otlp-endpoint", &url]);
    control.current_dir(directory.path());
    let ended = tokio::task::spawn_blocking(move || {
        let mut control = Process::start(control)?;
        let url = control.served_at()?;
        // A call whose span the collector does not take.
        let mut list = process::command(env!("CARGO_BIN_EXE_causeway"));
        let listed = list.args(["regions", "list", "--control", &url]).output()?;
        anyhow::ensure!(listed.status.success(), "{listed:?}");
        control.signal("TERM")?;
        control.logged("a second signal stops at once")?;
        control.signal("TERM")?;
        control.ended()
    });
    let (status, log) = ended.await.expect("it does not panic").expect("it ends");
    assert_eq!(status.code(), Some(1), "{log}");
    // Its last line comes before the collector is waited for, and before what was dropped is logged.
    assert!(log.trim_end().ends_with("stopped at once"), "{log}");
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_collector_is_refused() {
    for (endpoint, why) in [
        ("https://127.0.0.1:4317", "TLS to a collector is not supported"),
        ("http://127.0.0.1:4318/v1/traces", "it must have no path"),
        ("http://me:hunter2@127.0.0.1:4317", "it must have no user and no password"),
        ("127.0.0.1:4317", "it must be http://HOST:PORT"),
        ("", "it must be http://HOST:PORT"),
    ] {
        let output = run(&["imports", "list", "--otlp-endpoint", endpoint]).await;
        let log = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{endpoint}: {log}");
        assert!(log.contains(why), "{endpoint}: {log}");
    }
}
