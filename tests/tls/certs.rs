//! `causeway certs`: what it makes is what services and commands accept.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use causeway_harness::process::{self, Process};
use tempfile::TempDir;

use crate::support::says;

/// Runs the command in a directory.
fn run(directory: &Path, line: &str) -> Output {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.current_dir(directory).args(line.split_whitespace()).output().expect("it runs")
}

fn done(directory: &Path, line: &str) -> String {
    let output = run(directory, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

fn refused(directory: &Path, line: &str) -> String {
    let output = run(directory, line);
    assert_ne!(output.status.code(), Some(0), "{line}");
    let stderr = String::from_utf8(output.stderr).expect("it is text");
    // The first line says where the command goes.
    let mut lines = stderr.lines().filter(|line| !line.starts_with("causeway: asking "));
    lines.next().unwrap_or_default().to_owned()
}

/// The flags that the output asks to paste: its last line.
fn flags(output: &str) -> Vec<&str> {
    output.lines().last().expect("a line").split_whitespace().collect()
}

fn start(directory: &Path, server: &str, flags: &[&str]) -> (Process, String) {
    let mut command: Command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.current_dir(directory).args(server.split_whitespace()).args(flags);
    let mut process = Process::start(command).expect("it runs");
    let url = process.served_at().expect("it serves").replace("http://", "https://");
    (process, url)
}

#[test]
fn what_is_issued_is_what_services_and_commands_accept() {
    let directory = TempDir::new().expect("a directory");
    let dir = directory.path();
    let made = done(dir, "certs init");
    assert!(
        made.contains("./causeway-certs/ca.pem") && made.contains("causeway certs issue control main"),
        "{made}"
    );
    let of_control = done(dir, "certs issue control main");
    assert!(of_control.contains("identity     spiffe://causeway.local/control/main"), "{of_control}");
    let of_region = done(dir, "certs issue region us --valid-for 240h");
    let of_operator = done(dir, "certs issue operator me --valid-for 1h");
    assert!(
        of_operator.contains("\n  openssl pkcs12 -export -in ./causeway-certs/operator-me.pem"),
        "{of_operator}"
    );

    let (_control, control) =
        start(dir, "control --listen 127.0.0.1:0 --database-url sqlite:c.db", &flags(&of_control));
    let region =
        format!("region --name us --listen 127.0.0.1:0 --database-url sqlite:r.db --control {control}");
    let (mut process, region) = start(dir, &region, &flags(&of_region));
    // It may have printed that before it served.
    let is_refused = |line: &&str| line.contains("cannot register");
    let line = match process.log().lines().find(is_refused) {
        Some(line) => line.to_owned(),
        None => process.logged("cannot register").expect("nobody has added it"),
    };
    let with = flags(&of_operator).join(" ");
    let add = line.split("`causeway ").last().and_then(|add| add.split('`').next()).expect("a command");
    assert_eq!(add, format!("regions add us --control {control}"), "{line}");
    done(dir, &format!("{add} {with}"));
    process.logged("registered with control").expect("it was added");
    let output = run(dir, &format!("regions list --control {control} {with}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    let (listed, notes) = (text(output.stdout), text(output.stderr));
    let row: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((row.len(), &row[..3]), (6, &["us", region.as_str(), "registered"][..]), "{listed}");
    assert_eq!(row[4], "1", "the version of its feed: {listed}");
    for word in ["the certificate with which region us last registered ends on ", row[5]] {
        assert!(notes.contains(word), "{notes}");
    }

    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.json"), dir.join("acme.json"))
        .expect("copied");
    let report = done(dir, &format!("import organizations acme.json --region {region} {with}"));
    assert!(report.contains("in region us: SUCCEEDED"), "{report}");
    let resolved = done(dir, &format!("slugs resolve acme --control {control} {with}"));
    assert!(resolved.contains(&region), "the region has registered its address with https: {resolved}");
    done(dir, &format!("regions suspend us --reason test --control {control} {with}"));
    let suspended = run(dir, &format!("slugs rename acme other --control {control} {with}"));
    assert_eq!(suspended.status.code(), Some(1));
    let suspended = text(suspended.stderr);
    assert!(suspended.contains("(test)") && suspended.contains("causeway regions resume us"), "{suspended}");
    let row = done(dir, &format!("regions list --control {control} {with}"));
    assert!(row.contains(&format!("us      {region}  suspended")), "{row}");
    done(dir, &format!("regions resume us --control {control} {with}"));
    done(dir, &format!("slugs rename acme other --control {control} {with}"));
    let nobody = refused(dir, &format!("slugs list --control {control} --tls-ca causeway-certs/ca.pem"));
    says(&nobody, &["the server wants a certificate: give --tls-cert and --tls-key"]);
    let plain = control.replace("https://", "http://");
    let plain = refused(dir, &format!("slugs list --control {plain}"));
    says(&plain, &["the server speaks TLS: use https:// and --tls-ca"]);
    // A URL that is wrong does not mend itself: the file is sent once.
    let plain = region.replace("https://", "http://");
    let once = text(run(dir, &format!("import organizations acme.json --region {plain}")).stderr);
    assert!(
        once.contains("was not imported") && once.contains("the server speaks TLS: use https://"),
        "{once}"
    );
    assert!(!once.contains("starts again"), "{once}");
    // Whoever sees the list only in part learns that, and a check says whose certificate it needs.
    done(dir, "certs issue importer bob");
    let own = "--tls-ca causeway-certs/ca.pem --tls-cert causeway-certs/importer-bob.pem \
               --tls-key causeway-certs/importer-bob-key.pem";
    let list = run(dir, &format!("imports list --region {region} {own}"));
    let list = text(list.stderr);
    assert!(list.contains("an importer sees only its own"), "{list}");
    let doctor = text(run(dir, &format!("doctor --control {control} {own}")).stdout);
    assert!(
        doctor.contains("(ROLE_NOT_ALLOWED)\n")
            && doctor.contains("To do: use the certificate of an operator")
    );
    assert!(!doctor.contains("look at control's log"), "{doctor}");
}

#[test]
fn keys_are_private_and_nothing_is_replaced_without_a_word() {
    let directory = TempDir::new().expect("a directory");
    let dir = directory.path();
    says(&refused(dir, "certs issue control main"), &["ca.pem cannot be read", "causeway certs init"]);
    done(dir, "certs init --dir pki --trust-domain prod.example");
    done(dir, "certs issue importer loader --dir pki --host loader.example --host 192.0.2.7");
    for key in ["pki/ca-key.pem", "pki/importer-loader-key.pem"] {
        let mode = fs::metadata(dir.join(key)).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{key}");
    }
    let before = fs::read(dir.join("pki/importer-loader-key.pem")).expect("it is there");
    let again = "certs issue importer loader --dir pki";
    says(&refused(dir, again), &["importer-loader.pem is there already; --force replaces it"]);
    says(&refused(dir, "certs init --dir pki"), &["ca.pem is there already; --force replaces it"]);
    assert_eq!(fs::read(dir.join("pki/importer-loader-key.pem")).expect("it is there"), before);
    done(dir, &format!("{again} --force"));
    assert_ne!(fs::read(dir.join("pki/importer-loader-key.pem")).expect("it is there"), before);
}

#[test]
fn what_no_certificate_can_say_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let dir = directory.path();
    done(dir, "certs init");
    says(&refused(dir, "certs issue region US"), &["a region's name is "]);
    says(&refused(dir, "certs issue operator a/b"), &["a name is 1 to 64 letters"]);
    for (line, word) in [
        ("certs issue operator me --host a/b", "an IP address or a name of a host"),
        ("certs issue operator me --valid-for 0s", "at least 1m"),
        ("certs issue admin me", "invalid value 'admin'"),
        ("certs init --trust-domain Prod", "a trust domain is"),
    ] {
        let refusal = refused(dir, line);
        assert!(refusal.contains(word), "{refusal}");
    }
    says(&refused(dir, "certs issue operator me --dir nowhere"), &["causeway certs init"]);
    let refusal = refused(dir, "certs issue operator me --valid-for 3650d");
    says(&refusal, &["the CA ./causeway-certs/ca.pem ends on", "--valid-for may be 3649d at most"]);
}
