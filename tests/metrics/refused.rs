//! Settings that are refused, and a port that ends with its service.

use std::net::{TcpListener, TcpStream};

use causeway_harness::process::{self, Process};
use tempfile::TempDir;

use crate::support::get;

fn control(directory: &TempDir, arguments: &[&str]) -> std::process::Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(["control", "--listen", "127.0.0.1:0", "--database-url", "sqlite:control.db"]);
    command.args(arguments).current_dir(directory.path());
    command
}

fn refused(arguments: &[&str]) -> String {
    let directory = TempDir::new().expect("a directory");
    let output = control(&directory, arguments).output().expect("it runs");
    assert!(!output.status.success(), "{arguments:?}");
    assert!(!directory.path().join("control.db").exists(), "no database is touched");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn metrics_are_not_shown_to_other_machines_by_mistake() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9000"] {
        let error = refused(&["--metrics-listen", address]);
        let said = format!("{address} of --metrics-listen can be reached from other machines");
        assert!(error.contains(&said) && error.contains("--insecure"), "{error}");
    }
    for address in ["9000", "localhost:x", ""] {
        let error = refused(&["--metrics-listen", address]);
        assert!(error.contains("--metrics-listen"), "{error}");
    }
}

#[test]
fn a_port_that_is_in_use_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("an address").to_string();
    let error = refused(&["--metrics-listen", &address]);
    assert!(error.contains(&format!("cannot listen on {address} (--metrics-listen)")), "{error}");
}

#[test]
fn metrics_are_shown_elsewhere_if_that_is_wanted_and_end_with_the_service() {
    let directory = TempDir::new().expect("a directory");
    let started = Process::start(control(&directory, &["--metrics-listen", "0.0.0.0:0", "--insecure"]));
    let mut service = started.expect("it starts");
    let line = service.logged("metrics can be scraped at").expect("it says where");
    assert!(service.log().contains("whoever reaches the port of --metrics-listen"), "{}", service.log());
    let (_, port) = line.trim().trim_end_matches("/metrics").rsplit_once(':').expect("a port");
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    service.served_at().expect("it serves");
    assert_eq!(get(address, "/metrics", "*/*").0, 200);
    assert_eq!(get(address, "/", "*/*").0, 404);
    service.signal("TERM").expect("it runs");
    let (status, log) = service.ended().expect("it ends");
    assert!(status.success(), "{log}");
    TcpStream::connect(address).expect_err("nobody listens");
}

#[test]
fn without_the_option_nobody_listens() {
    let directory = TempDir::new().expect("a directory");
    let mut service = Process::start(control(&directory, &[])).expect("it starts");
    service.served_at().expect("it serves");
    service.signal("TERM").expect("it runs");
    let (_, log) = service.ended().expect("it ends");
    assert!(!log.contains("metrics"), "{log}");
}
