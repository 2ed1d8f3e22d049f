//! What a server logs at its start about TLS, and what it refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use causeway_client::{Client, ClientTls, PairFiles, Service, Timeouts};
use causeway_harness::{
    pki::{Pki, TRUST_DOMAIN},
    process::{self, Process},
};
use causeway_proto::relocation::v1::{GetVersionRequest, version_service_client::VersionServiceClient};
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

/// A control with this certificate.
fn with_pair(directory: &TempDir, pair: &PairFiles) -> std::process::Command {
    let mut command =
        command(&["control", "--listen", "127.0.0.1:0", "--database-url", &database(directory)]);
    command.arg("--tls-cert").arg(&pair.cert).arg("--tls-key").arg(&pair.key);
    command
}

fn cert(pair: &PairFiles) -> String {
    pair.cert.display().to_string()
}

async fn why_not(arguments: &[&str]) -> String {
    why_not_of(command(arguments)).await
}

/// The last line of a server that does not start.
async fn why_not_of(command: std::process::Command) -> String {
    let mut command = tokio::process::Command::from(command);
    let output =
        timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("it ends").expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{command:?}");
    let stderr = String::from_utf8(output.stderr).expect("it is text");
    stderr.lines().last().unwrap_or_default().to_owned()
}

fn database(directory: &TempDir) -> String {
    format!("sqlite:{}", directory.path().join("control.db").display())
}

#[tokio::test]
async fn a_server_without_tls_listens_on_loopback_only_unless_insecure_is_given() {
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
    let open = control.served_at().expect("it serves").replace("0.0.0.0", "127.0.0.1");
    assert!(
        control.log().contains("whoever reaches the port can read and make every call"),
        "{}",
        control.log()
    );
    assert!(is_insecure(&open, None).await, "a monitor learns of it");
    drop(control);
    // On loopback, --insecure leaves nothing open.
    let arguments = ["control", "--database-url", &database, "--listen", "127.0.0.1:0", "--insecure"];
    let mut control = Process::start(command(&arguments)).expect("it runs");
    assert!(!is_insecure(&control.served_at().expect("it serves"), None).await);
    let pki = Pki::new(Environment::system()).expect("a CA");
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let mut with_tls = command(&["control", "--listen", "0.0.0.0:0", "--database-url", &database]);
    with_tls.arg("--tls-cert").arg(&pair.cert).arg("--tls-key").arg(&pair.key);
    drop(control);
    let mut control = Process::start(with_tls).expect("it runs");
    let url = control.served_at().expect("it serves").replace("http://0.0.0.0", "https://127.0.0.1");
    assert!(!is_insecure(&url, Some(pki.client(None).expect("it can be used"))).await);
}

/// Whether a control says that it is open to whoever reaches its port.
async fn is_insecure(url: &str, tls: Option<Arc<ClientTls>>) -> bool {
    let control = Client::connect_with_tls(Service::Control, url, Timeouts::default(), tls).await;
    let control = control.expect("it listens");
    let asked = control.call(LIMIT, GetVersionRequest::default(), async |channel, request| {
        VersionServiceClient::new(channel).get_version(request).await
    });
    asked.await.expect("it answers").insecure
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
    let mut params = pki.parameters(Role::Control, "main").expect("a name");
    pki.set_days(&mut params, -10, -1).expect("a time");
    let pair = pki.issue("control", &params).expect("issued");
    let refusal = why_not_of(with_pair(&directory, &pair)).await;
    says(
        &refusal,
        &["the server cannot speak TLS: the certificate", &cert(&pair), "has expired on", "issue a new one"],
    );
    pki.set_days(&mut params, -10, 3).expect("a time");
    pki.issue("control", &params).expect("issued");
    let mut control = Process::start(with_pair(&directory, &pair)).expect("it runs");
    let line = control.logged("expires on").expect("it is warned of");
    assert!(line.contains(&cert(&pair)) && line.contains("WARN"), "{line}");
}

#[test]
fn a_private_key_that_others_can_read_is_warned_of() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let mut control = Process::start(with_pair(&directory, &pair)).expect("it runs");
    control.served_at().expect("it serves");
    assert!(!control.kill().expect("it runs").contains("can read"), "no other user can read it");
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut control = Process::start(with_pair(&directory, &pair)).expect("it runs");
    control.served_at().expect("it serves");
    let log = control.kill().expect("it runs");
    for word in [
        "other users of this machine can read a file with a secret",
        "644",
        &format!("chmod 600 '{}'", pair.key.display()),
    ] {
        assert!(log.contains(word), "{word:?} is not in {log}");
    }
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[tokio::test]
async fn a_process_reads_its_certificate_again() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let pair = pki.pair(Role::Control, "main").expect("issued");
    let mut control = Process::start(with_pair(&directory, &pair)).expect("it runs");
    control.served_at().expect("it serves");
    fs::write(&pair.cert, "nonsense").expect("written");
    let line = control.logged("stay in use").expect("it is noticed");
    assert!(line.contains("ERROR") && line.contains(&cert(&pair)), "{line}");
    pki.pair(Role::Control, "main").expect("issued");
    control.logged("were read again").expect("it is noticed");
    control.signal("TERM").expect("it runs");
    let ended = tokio::task::spawn_blocking(move || control.ended());
    let (status, _) = timeout(LIMIT, ended).await.expect("it ends").expect("no panic").expect("ended");
    assert_eq!(status.code(), Some(0));
}

/// A command with this certificate, which asks callers for one of the same CA.
fn mutual(mut command: std::process::Command, pki: &Pki, pair: &PairFiles) -> std::process::Command {
    command.arg("--tls-cert").arg(&pair.cert).arg("--tls-key").arg(&pair.key);
    command.arg("--tls-client-ca").arg(pki.ca());
    command
}

/// A control that asks callers for identities, and its URL.
fn control_of(directory: &TempDir, pki: &Pki, more: &[&str]) -> (Process, String) {
    let control = command(&["control", "--listen", "127.0.0.1:0", "--database-url", &database(directory)]);
    let mut control = mutual(control, pki, &pki.pair(Role::Control, "main").expect("issued"));
    control.args(["--trust-domain", TRUST_DOMAIN]).args(more);
    let mut control = Process::start(control).expect("it runs");
    let url = control.served_at().expect("it serves").replace("http://", "https://");
    (control, url)
}

/// The region `us` with this certificate.
fn region_of(directory: &TempDir, pki: &Pki, pair: &PairFiles, control: &str) -> Process {
    Process::start(region_command(directory, pki, pair, control)).expect("it runs")
}

fn region_command(directory: &TempDir, pki: &Pki, pair: &PairFiles, control: &str) -> std::process::Command {
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut region = command(&["region", "--name", "us", "--listen", "127.0.0.1:0", "--control", control]);
    region.args(["--database-url", &format!("sqlite:{}", path("us.db")), "--spool-dir", &path("spool")]);
    mutual(region, pki, pair)
}

/// Until control knows who it is and somebody has added it, a region waits, and so do its imports. It needs no restart.
#[test]
fn a_region_whose_certificate_names_nobody_waits_for_a_better_one() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (mut control, url) = control_of(&directory, &pki, &[]);
    let mut params = pki.parameters(Role::Region, "us").expect("a name");
    params.subject_alt_names.retain(|name| !matches!(name, rcgen::SanType::URI(_)));
    let pair = pki.issue("region", &params).expect("issued");
    let mut region = region_of(&directory, &pki, &pair, &url);
    region.logged("the certificate of the caller does not say who it is").expect("it is refused");
    let line = control.logged("calls on a connection are refused").expect("it is logged");
    assert!(line.contains("it has no URI"), "{line}");
    pki.issue("region", &pki.parameters(Role::Region, "us").expect("a name")).expect("issued");
    // The log contains each reason once for which the region waits.
    let line = region.logged("no operator has added region us").expect("it is refused for something else");
    assert!(line.contains(&format!("`causeway regions add us --control {url}`")), "{line}");
    let operator = pki.pair(Role::Operator, "me").expect("issued");
    let mut add = command(&["regions", "add", "us", "--control", &url]);
    add.arg("--tls-cert").arg(&operator.cert).arg("--tls-key").arg(&operator.key);
    let added = add.arg("--tls-ca").arg(pki.ca()).output().expect("it runs");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    region.logged("registered with control").expect("it is accepted");
}

#[test]
fn importers_merge_users_at_a_region_that_was_started_with_allow_merge() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (_control, control) = control_of(&directory, &pki, &["--accept-regions", "any"]);
    let pair = pki.pair(Role::Region, "us").expect("issued");
    let importer = pki.pair(Role::Importer, "ann").expect("issued");
    for (more, may) in [(&[][..], false), (&["--allow-merge"], true)] {
        let mut region = region_command(&directory, &pki, &pair, &control);
        region.args(["--trust-domain", TRUST_DOMAIN]).args(more);
        let mut region = Process::start(region).expect("it runs");
        let url = region.served_at().expect("it serves").replace("http://", "https://");
        let mut import =
            command(&["import", "organizations", "examples/acme.json", "--merge-users", "--region", &url]);
        import.arg("--tls-ca").arg(pki.ca()).arg("--tls-cert").arg(&importer.cert);
        let output = import.arg("--tls-key").arg(&importer.key).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), may, "{stderr}");
        assert!(may || stderr.contains("--allow-merge"), "{stderr}");
    }
}

#[test]
fn control_may_take_any_region_that_has_an_identity() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (_control, url) = control_of(&directory, &pki, &["--accept-regions", "any"]);
    let pair = pki.pair(Role::Region, "us").expect("issued");
    let mut region = region_of(&directory, &pki, &pair, &url);
    region.logged("registered with control").expect("any may register");
}
