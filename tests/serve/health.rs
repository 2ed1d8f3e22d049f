//! `causeway health`: what it prints and how it exits, for each thing that a service may do. tests/tls has the same with
//! certificates.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener as StdListener},
    process::Output,
    time::Instant,
};

use causeway_harness::process::{self, OwnPort, Process};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::spawn_blocking};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::ServingStatus;

use crate::{LIMIT, control};

fn run_blocking(arguments: &[&str]) -> Output {
    process::command(env!("CARGO_BIN_EXE_causeway")).arg("health").args(arguments).output().expect("it runs")
}

/// Runs the command while this thread goes on serving.
async fn run(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || run_blocking(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    spawn_blocking(run).await.expect("it does not panic")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("it is text")
}

/// Checks the exit code, all of stdout, and what stderr contains; nothing if that is empty.
#[track_caller]
fn is(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), stdout), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains(stderr) && said.lines().count() <= 1, "{stderr:?} is not all of {said:?}");
    assert!(!stderr.is_empty() || said.is_empty(), "{said}");
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// A server that has nothing but health, with these statuses. Without one for the whole server (`""`), it has forgotten
/// that.
async fn server(statuses: &[(&'static str, ServingStatus)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (mut reporter, service) = tonic_health::server::health_reporter();
    reporter.clear_service_status("").await;
    for (name, status) in statuses {
        reporter.set_service_status(*name, *status).await;
    }
    let server = Server::builder().add_service(service);
    tokio::spawn(async move {
        let _reporter = reporter;
        server.serve_with_incoming(TcpIncoming::from(listener)).await
    });
    url
}

#[tokio::test]
async fn a_service_that_serves_is_healthy() {
    let directory = TempDir::new().expect("a directory");
    let control = control(directory.path()).await;
    let url = control.url();
    is(&run(&[&url]).await, 0, "SERVING\n", "");
    is(&run(&[&url, "--alive", "--timeout", "30s"]).await, 0, "SERVING\n", "");
    let output = run(&[&url, "--output", "json"]).await;
    assert_eq!(json(&output), serde_json::json!({ "url": url, "status": "SERVING" }));

    let service = "causeway.control.v1.DirectoryService";
    is(&run(&[&url, "--service", service]).await, 0, &format!("SERVING  {service}\n"), "");
    let other = "causeway.control.v1.RegionService";
    let output = run(&[&url, "--service", service, "--service", other, "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let services = [service, other].map(|name| serde_json::json!({ "service": name, "status": "SERVING" }));
    assert_eq!(json(&output), serde_json::json!({ "url": url, "status": "SERVING", "services": services }));
    control.stop().await;
    is(&run(&[&url]).await, 1, "", "cannot be asked: Connection refused");
}

#[tokio::test]
async fn the_address_may_be_a_variable() {
    let url = server(&[("", ServingStatus::Serving)]).await;
    let run = move || {
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        command.arg("health").env("CAUSEWAY_HEALTH_URL", url).output().expect("it runs")
    };
    is(&spawn_blocking(run).await.expect("it does not panic"), 0, "SERVING\n", "");
}

#[tokio::test]
async fn a_service_that_does_not_serve_is_not_healthy_and_alive() {
    let (good, bad) = ("causeway.region.v1.ImportService", "causeway.region.v1.OrganizationService");
    let url = server(&[
        ("", ServingStatus::NotServing),
        (good, ServingStatus::Serving),
        (bad, ServingStatus::NotServing),
    ])
    .await;
    is(&run(&[&url]).await, 1, "NOT_SERVING\n", "answers and does not serve");
    is(&run(&[&url, "--alive"]).await, 0, "NOT_SERVING\n", "answers and does not serve");
    is(&run(&[&url, "--service", good]).await, 0, &format!("SERVING  {good}\n"), "");
    let both = run(&[&url, "--service", good, "--service", bad]).await;
    is(&both, 1, &format!("SERVING  {good}\nNOT_SERVING  {bad}\n"), "answers and does not serve");
    let both = run(&[&url, "--service", good, "--service", bad, "--output", "json"]).await;
    assert_eq!((both.status.code(), &json(&both)["status"]), (Some(1), &"NOT_SERVING".into()), "{both:?}");
    // A server that does not know what it is, or has forgotten it because it stops, does not serve.
    for status in [&[("", ServingStatus::Unknown)][..], &[]] {
        let url = server(status).await;
        is(&run(&[&url]).await, 1, "NOT_SERVING\n", "answers and does not serve");
    }
}

/// A region that control does not know serves, and says which of its services do not.
#[tokio::test]
async fn a_region_without_control_says_what_does_not_serve() {
    let directory = TempDir::new().expect("a directory");
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.current_dir(directory.path()).args(["region", "--name", "us", "--listen", "127.0.0.1:0"]);
    command.args(["--database-url", "sqlite:us.db", "--control", "http://127.0.0.1:9"]);
    let (_region, url) = spawn_blocking(|| {
        let mut region = Process::start(command).expect("it runs");
        let url = region.served_at().expect("it serves");
        (region, url)
    })
    .await
    .expect("it does not panic");
    is(&run(&[&url]).await, 0, "SERVING\n", "");
    let service = "causeway.region.v1.ImportService";
    let output = run(&[&url, "--service", service]).await;
    is(&output, 1, &format!("NOT_SERVING  {service}\n"), "the region is not registered");
}

#[tokio::test]
async fn a_service_of_a_wrong_name_is_unknown_also_to_a_liveness_probe() {
    let directory = TempDir::new().expect("a directory");
    let control = control(directory.path()).await;
    let (url, name) = (control.url(), "causeway.control.v1.Directory");
    for alive in [&[][..], &["--alive"]] {
        let output = run(&[&[url.as_str(), "--service", name], alive].concat()).await;
        is(&output, 1, &format!("SERVICE_UNKNOWN  {name}\n"), "has no such service; names are those of");
    }
    let output = run(&[&url, "--service", name, "--output", "json"]).await;
    assert_eq!(json(&output)["status"], "SERVICE_UNKNOWN");
    control.stop().await;
}

#[test]
fn a_port_that_nobody_listens_on_is_not_healthy() {
    let own = OwnPort::new().expect("a free port");
    let url = format!("http://{}", own.address);
    for alive in [&[][..], &["--alive"]] {
        let output = run_blocking(&[&[url.as_str()], alive].concat());
        is(&output, 1, "", "cannot be asked: Connection refused");
    }
    let output = run_blocking(&[&url, "--output", "json"]);
    let object = json(&output);
    assert_eq!((output.status.code(), &object["status"]), (Some(1), &"UNREACHABLE".into()), "{output:?}");
    assert!(object["error"].as_str().is_some_and(|error| error.contains("refused")), "{object}");
}

/// The address of a port whose connections are taken by `serve`, one after the other.
fn port(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

#[test]
fn a_port_that_never_answers_is_given_up_in_time() {
    // The connections stay open as long as this test lasts: a thread holds them.
    let address = port(std::mem::forget);
    for (url, limit) in [
        (format!("http://{address}"), "100ms"),
        // A handshake that does not go on is the same.
        (format!("https://{address}"), "100ms"),
    ] {
        let ca = TempDir::new().expect("a directory");
        let tls = ca.path().join("ca.pem");
        let mut init = process::command(env!("CARGO_BIN_EXE_causeway"));
        let made = init.args(["certs", "init", "--dir"]).arg(ca.path()).output().expect("it runs");
        assert!(made.status.success(), "{made:?}");
        let began = Instant::now();
        let output = run_blocking(&[&url, "--timeout", limit, "--tls-ca", &tls.display().to_string()]);
        assert!(began.elapsed() < LIMIT, "it took {:?}", began.elapsed());
        is(&output, 1, "", "cannot be asked: no answer within 100ms");
    }
}

#[test]
fn what_does_not_speak_grpc_is_not_healthy() {
    let address = port(|mut stream| {
        let _closed = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    });
    let output = run_blocking(&[&format!("http://{address}")]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{output:?}");
    assert!(text(&output.stderr).contains("cannot be asked: "), "{output:?}");
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
}

#[test]
fn a_wrong_line_is_no_answer_about_the_service() {
    for (line, said) in [
        (&["127.0.0.1:50051"][..], "it must begin with http:// or https://"),
        (&[], "<URL>"),
        (&["http://127.0.0.1:1", "--timeout", "0"], "it must be more than zero"),
        (&["http://127.0.0.1:1", "--service", ""], "it must be the name of a gRPC service"),
    ] {
        let output = run_blocking(line);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(said), "{said:?} is not in {output:?}");
    }
    let output = run_blocking(&["https://127.0.0.1:1"]);
    is(&output, 1, "", "needs --tls-ca, the CA that signed the certificate of the service");
}
