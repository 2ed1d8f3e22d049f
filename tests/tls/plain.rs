//! One side speaks TLS and the other does not: both report that. Services run as processes, because their
//! logs are read.

use std::net::SocketAddr;

use causeway_harness::pki::Pki;
use causeway_harness::process::{self, Process};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use tempfile::TempDir;

use crate::support::{ask, ask_lazily, says};

/// A process with a control, with TLS or without, and its address.
pub(crate) fn control(directory: &TempDir, pki: Option<&Pki>) -> (Process, SocketAddr) {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    let database = format!("sqlite:{}", directory.path().join("control.db").display());
    command.args(["control", "--listen", "127.0.0.1:0", "--database-url", &database]);
    if let Some(pki) = pki {
        let pair = pki.pair(Role::Control, "main").expect("issued");
        command.arg("--tls-cert").arg(pair.cert).arg("--tls-key").arg(pair.key);
        command
            .arg("--tls-client-ca")
            .arg(pki.ca())
            .args(["--trust-domain", causeway_harness::pki::TRUST_DOMAIN]);
    }
    let mut process = Process::start(command).expect("it runs");
    let url = process.served_at().expect("it serves");
    (process, url.trim_start_matches("http://").parse().expect("an address"))
}

#[tokio::test]
async fn a_client_without_tls_and_a_server_with_it_say_so() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (mut control, address) = control(&directory, Some(&pki));
    let url = format!("http://{address}");
    for refusal in [ask(&url, None).await, ask_lazily(&url, None).await] {
        let error = refusal.expect_err("it speaks TLS");
        says(&error.to_string(), &["cannot be reached: the server speaks TLS: use https:// and --tls-ca"]);
    }
    let line = control.logged("a connection was refused").expect("it is logged");
    for word in ["the client does not speak TLS; it must use https://", "peer=\"127.0.0.1:"] {
        assert!(line.contains(word), "{line}");
    }
    ask(&format!("https://{address}"), Some(pki.operator().expect("issued"))).await.expect("that is right");
}

#[tokio::test]
async fn a_client_with_tls_and_a_server_without_it_say_so() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (mut control, address) = control(&directory, None);
    let url = format!("https://{address}");
    let tls = pki.operator().expect("issued");
    for refusal in [ask(&url, Some(tls.clone())).await, ask_lazily(&url, Some(tls.clone())).await] {
        let error = refusal.expect_err("it speaks no TLS");
        says(
            &error.to_string(),
            &["cannot be reached: the server does not speak TLS: use http://, or start it with"],
        );
    }
    let line = control.logged("a connection was refused").expect("it is logged");
    for word in ["the client speaks TLS, and this port does not; it must use http://", "peer=\"127.0.0.1:"] {
        assert!(line.contains(word), "{line}");
    }
}

#[tokio::test]
async fn a_server_logs_why_it_has_refused_a_caller() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (mut control, address) = control(&directory, Some(&pki));
    let url = format!("https://{address}");
    ask(&url, Some(pki.client(None).expect("the CA is there"))).await.expect_err("it has no certificate");
    let line = control.logged("the client has no certificate").expect("it is logged");
    assert!(line.contains("a connection was refused") && line.contains("peer=\"127.0.0.1:"), "{line}");
}
