//! What a server says at its start about TLS, and what it refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output, time::Duration};

use causeway_harness::{
    pki::Pki,
    process::{self, Process},
};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{LIMIT, says};

fn command(arguments: &[&str]) -> std::process::Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments);
    command
}

async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(arguments));
    timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("it ends").expect("it runs")
}

/// The last line of a server that does not start.
async fn why_not(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let stderr = String::from_utf8(output.stderr).expect("it is text");
    stderr.lines().last().unwrap_or_default().to_owned()
}

fn database(directory: &TempDir) -> String {
    format!("sqlite:{}", directory.path().join("control.db").display())
}

#[tokio::test]
async fn a_server_without_tls_listens_on_loopback_only_unless_it_is_told_otherwise() {
    let directory = TempDir::new().expect("a directory");
    let database = database(&directory);
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7"] {
        let control = ["control", "--database-url", &database, "--listen", listen];
        let region =
            ["region", "--name", "us", "--control", "http://127.0.0.1:9", "--database-url", &database];
        for arguments in [&control[..], &[&region[..], &["--listen", listen]].concat()] {
            let refusal = why_not(arguments).await;
            says(&refusal, &[listen, "listens on loopback only", "--tls-cert and --tls-key", "--insecure"]);
        }
    }
    assert!(!directory.path().join("control.db").exists(), "nothing was begun");
    let arguments = ["control", "--database-url", &database, "--listen", "0.0.0.0:0", "--insecure"];
    let mut control = Process::start(command(&arguments)).expect("it runs");
    control.served_at().expect("it serves");
    assert!(
        control.log().contains("whoever reaches the port can read and make every call"),
        "{}",
        control.log()
    );
}

#[tokio::test]
async fn options_that_need_others_say_so() {
    let directory = TempDir::new().expect("a directory");
    let database = database(&directory);
    let control = ["control", "--listen", "127.0.0.1:0", "--database-url", &database];
    for (more, words) in [
        (&["--tls-cert", "a.pem"][..], "--tls-cert needs --tls-key"),
        (&["--tls-key", "a.pem"], "--tls-key needs --tls-cert"),
        (&["--tls-client-ca", "a.pem"], "--tls-client-ca needs --tls-cert and --tls-key"),
        (&["--trust-domain", "x"], "--trust-domain needs --tls-client-ca"),
        (&["--tls-client-crl", "a.pem"], "--tls-client-crl needs --tls-client-ca"),
        (&["--tls-cert", "a.pem", "--tls-key", "b.pem"], "the server cannot speak TLS: a.pem cannot be read"),
    ] {
        says(&why_not(&[&control[..], more].concat()).await, &[words]);
    }
    let region = ["region", "--name", "us", "--listen", "127.0.0.1:0", "--database-url", &database];
    let refusal = why_not(&[&region[..], &["--control", "https://127.0.0.1:9"]].concat()).await;
    says(&refusal, &["https://127.0.0.1:9 of --control needs --control-tls-ca"]);
    let refusal = why_not(&["slugs", "list", "--control", "https://127.0.0.1:9"]).await;
    says(&refusal, &["https://127.0.0.1:9 needs --tls-ca"]);
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_an_error_and_one_that_ends_soon_a_warning() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let database = database(&directory);
    let mut params = pki.parameters(Role::Control, "main").expect("a name");
    pki.set_days(&mut params, -10, -1).expect("a time");
    let pair = pki.issue("control", &params).expect("issued");
    let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let arguments = [
        "control",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        &database,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let refusal = why_not(&arguments).await;
    says(
        &refusal,
        &["the server cannot speak TLS: the certificate", &cert, "has expired on", "issue a new one"],
    );
    pki.set_days(&mut params, -10, 3).expect("a time");
    pki.issue("control", &params).expect("issued");
    let mut control = Process::start(command(&arguments)).expect("it runs");
    let line = control.logged("expires in").expect("it is warned of");
    assert!(line.contains(&cert) && line.contains("WARN"), "{line}");
}

#[tokio::test]
async fn a_private_key_that_others_can_read_is_warned_of() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let database = database(&directory);
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let arguments = [
        "control",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        &database,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let mut control = Process::start(command(&arguments)).expect("it runs");
    control.served_at().expect("it serves");
    assert!(!control.kill().expect("it runs").contains("can read"), "no other user can read it");
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut control = Process::start(command(&arguments)).expect("it runs");
    control.served_at().expect("it serves");
    let log = control.kill().expect("it runs");
    for word in ["other users of this machine can read a private key", "644", &format!("chmod 600 '{key}'")] {
        assert!(log.contains(word), "{word:?} is not in {log}");
    }
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[tokio::test]
async fn a_process_reads_its_certificate_again() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let database = database(&directory);
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let arguments = [
        "control",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        &database,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let mut control = Process::start(command(&arguments)).expect("it runs");
    control.served_at().expect("it serves");
    fs::write(&pair.cert, "nonsense").expect("written");
    let line = control.logged("stay in use").expect("it is noticed");
    assert!(line.contains("ERROR") && line.contains(&cert), "{line}");
    pki.pair(Role::Control, "main").expect("issued");
    control.logged("were read again").expect("it is noticed");
    // It is asked to end while it looks at its files.
    control.signal("TERM").expect("it runs");
    let ended = tokio::task::spawn_blocking(move || control.ended());
    let (status, _) =
        timeout(Duration::from_secs(30), ended).await.expect("it ends").expect("no panic").expect("ended");
    assert_eq!(status.code(), Some(0));
}
