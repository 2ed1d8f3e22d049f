//! The options of the command.

use causeway_harness::process::{Process, command};
use tempfile::TempDir;

use crate::http::Visitor;

fn control(directory: &TempDir, arguments: &[&str]) -> std::process::Command {
    let mut control = command(env!("CARGO_BIN_EXE_causeway"));
    let database = format!("sqlite:{}", directory.path().join("control.db").display());
    control.args(["control", "--listen", "127.0.0.1:0", "--database-url", &database]).args(arguments);
    control
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_serves_its_console_where_it_is_told_to() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("causeway.toml");
    std::fs::write(
        &file,
        "[control]\nconsole_listen = \"127.0.0.1:0\"\nconsole_host = [\"console.example\"]\n",
    )
    .expect("written");
    let mut command = control(&directory, &["--config", file.to_str().expect("UTF-8")]);
    command.arg("--shutdown-drain=0s");
    let mut process = Process::start(command).expect("it runs");
    let line = process.logged("the console is served").expect("served");
    let url = line.rsplit_once("url=").expect("a URL").1.trim().trim_matches('"').to_owned();
    let visitor = Visitor::new(&url, None);
    visitor.get("/").await.says(200, &["No region has reported an import"]);
    let named = visitor.request("GET", "/", &["Host: console.example"], "").await;
    assert_eq!(named.status, 200);
    process.logged("serving").expect("it serves");
    process.signal("TERM").expect("it is there");
    let (status, log) = process.ended().expect("it ends");
    assert!(status.success(), "{log}");
    assert!(visitor.send(b"GET / HTTP/1.1\r\n\r\n").await.is_err(), "the port is closed");
}

#[test]
fn a_console_for_other_machines_needs_identities() {
    let directory = TempDir::new().expect("a directory");
    for (arguments, words) in [
        (&["--console-listen", "0.0.0.0:0"][..], "give --trust-domain"),
        (&["--console-listen", "0.0.0.0:0", "--insecure"], "give --trust-domain"),
        (&["--console-host", "console.example"], "--console-host needs --console-listen"),
        (&["--console-listen", "127.0.0.1:0", "--console-host", "http://x"], "without scheme and port"),
        (&["--console-listen", "nowhere"], "invalid socket address"),
    ] {
        let output = control(&directory, arguments).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let directory = TempDir::new().expect("a directory");
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = control(&directory, &["--console-listen", &address]).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains(&format!("the console cannot listen on {address}")), "{stderr}");
}
