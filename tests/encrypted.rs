//! Tests of the command with encrypted exports. Tests next to the code of the format check the format itself.
//! The test vectors of both are in `tests/encrypted-exports`; another implementation made them.

#![expect(clippy::expect_used, reason = "all of this is test code, the helpers too")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use causeway_harness::process::{self, Process};
use tempfile::TempDir;

const ID: &str = "5d7e8f10-2b3c-4d5e-8f90-a1b2c3d4e5f6";

fn vector(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encrypted-exports").join(name).display().to_string()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("it runs")
}

#[track_caller]
fn done(arguments: &[&str]) -> Vec<u8> {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Checks that the command fails with this message, and prints nothing on standard output.
#[track_caller]
fn fails(arguments: &[&str], says: &str) {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(says), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// A temporary directory, and paths in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("it is there");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn plain() -> Vec<u8> {
    fs::read(vector("export.json")).expect("it is there")
}

#[test]
fn an_export_is_encrypted_and_decrypted() {
    let place = Place::new();
    fs::write(place.path("export.json"), plain()).expect("it is written");
    let (file, tar) = (place.name("export.json"), place.name("export.json.tar"));
    done(&["encrypt", &file, "--with", &vector("test-key-public.pem")]);
    let encrypted = fs::read(&tar).expect("it has this name");
    assert!(!encrypted.windows(4).any(|bytes| bytes == b"acme"));

    // It does not overwrite an existing file, unless `--force` is given.
    let private = vector("test-key-private.pem");
    fs::write(&file, "mine").expect("it is written");
    fails(&["decrypt", &tar, "--with", &private], "export.json exists already; --force replaces it");
    assert_eq!(fs::read(&file).expect("it is there"), b"mine");
    done(&["decrypt", &tar, "--with", &private, "--force"]);
    assert_eq!(fs::read(&file).expect("it is there"), plain());
    fails(&["encrypt", &file, "--with", &vector("test-key-public.pem")], "exists already; --force");
    assert_eq!(fs::read(&tar).expect("it is there"), encrypted);
    assert_eq!(place.names(), ["export.json", "export.json.tar"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn stdout_is_a_place_too() {
    let place = Place::new();
    let private = vector("test-key-private.pem");
    assert_eq!(done(&["decrypt", &vector("python.tar"), "--with", &private, "--to", "-"]), plain());
    let encrypted =
        done(&["encrypt", &vector("export.json"), "--with", &vector("test-key-public.pem"), "--to", "-"]);
    fs::write(place.path("x.tar"), encrypted).expect("it is written");
    done(&["decrypt", &place.name("x.tar"), "--with", &private]);
    assert_eq!(fs::read(place.path("x.json")).expect("it has this name"), plain());
}

#[test]
fn what_cannot_be_opened_leaves_nothing() {
    let place = Place::new();
    let (tar, to) = (place.name("changed.tar"), place.name("out.json"));
    let private = vector("test-key-private.pem");
    let mut encrypted = fs::read(vector("python.tar")).expect("it is there");
    // Change a byte in the ciphertext, after a tar header and the beginning of the token.
    encrypted[512 + 60] = if encrypted[512 + 60] == b'A' { b'B' } else { b'A' };
    fs::write(&tar, encrypted).expect("it is written");

    fails(&["decrypt", &tar, "--with", &private, "--to", &to], "authentication code is wrong");
    fails(&["decrypt", &tar, "--with", &private, "--to", "-"], "authentication code is wrong");
    let other = vector("other-test-key-private.pem");
    let good = vector("python.tar");
    fails(&["decrypt", &good, "--with", &other, "--to", &to], "not the one that this file was encrypted for");
    fails(&["decrypt", &vector("export.json"), "--with", &private, "--to", &to], "there is no tar header");
    let public = vector("test-key-public.pem");
    fails(&["decrypt", &good, "--with", &public, "--to", &to], "not an RSA private key");
    fails(&["decrypt", &good, "--with", &place.name("absent.pem"), "--to", &to], "cannot be read");
    fails(&["decrypt", &place.name("absent.tar"), "--with", &private, "--to", &to], "cannot be read");
    let directory = place.0.path().display().to_string();
    fails(&["decrypt", &directory, "--with", &private, "--to", &to], "not a regular file");
    fails(&["encrypt", &directory, "--with", &public, "--to", &to], "not a regular file");
    fails(&["encrypt", &good, "--with", &private, "--to", &to], "not an RSA public key");
    fails(&["encrypt", &good, "--with", &vector("weak-test-key-public.pem"), "--to", &to], "1024 bits");
    assert_eq!(place.names(), ["changed.tar"]);
}

#[test]
fn an_encrypted_export_is_imported() {
    let place = Place::new();
    let data = place.name("data");
    let private = vector("test-key-private.pem");
    let line = ["--data-dir", &data, "--import-id", ID, "--output", "json"];
    let import = |file: &str, rest: &[&str]| -> serde_json::Value {
        let arguments = [&["import", "organizations", file], rest, &line].concat();
        serde_json::from_slice(&done(&arguments)).expect("it is JSON")
    };

    let other = vector("other-test-key-private.pem");
    let tar = vector("python.tar");
    fails(
        &["import", "organizations", &tar, "--decrypt-with", &other, "--data-dir", &data],
        "not the one that this file was encrypted for",
    );
    assert!(place.names().is_empty(), "nothing was begun");

    let mut json = import(&tar, &["--decrypt-with", &private]);
    assert_eq!(json["state"], "IMPORT_STATE_SUCCEEDED");
    assert_eq!(json["organizations"][0]["slug"], "acme");
    assert_eq!(json["encrypted"], true);
    // To the region it is the same import as that of the plain export.
    let mut again = import(&vector("export.json"), &[]);
    // Each command starts services of its own, on other ports.
    for import in [&mut json, &mut again] {
        let addresses = import["controlAddresses"].take();
        assert_eq!(addresses.as_array().map(Vec::len), Some(1), "{addresses}");
        // The first answer may be from before control's directory has the organization, which is a change of the import.
        import["updateTime"].take();
    }
    assert_eq!(again, json);
}

#[test]
fn a_command_without_the_key_of_an_encrypted_export_says_so() {
    let place = Place::new();
    let tar = vector("python.tar");
    fails(
        &["import", "organizations", &tar, "--data-dir", &place.name("data")],
        "this region has no private key",
    );
}

/// A control and a region as processes, which end when the test does, and the URL of the region.
struct Services {
    processes: [Process; 2],
    region: String,
}

/// Starts a service, and waits until it reports where it serves.
fn serve(place: &Place, name: &str, arguments: &[&str]) -> (Process, String) {
    let database = format!("sqlite:{}", place.name(&format!("{name}.db")));
    let mut command = command(arguments);
    command.args(["--listen", "127.0.0.1:0", "--database-url", &database]);
    let mut process = Process::start(command).expect("it runs");
    let url = process.served_at().expect("it serves");
    (process, url)
}

/// Starts a control and a region with this private key, or without a key.
fn services(place: &Place, key: Option<&str>) -> Services {
    let (control, url) = serve(place, "control", &["control"]);
    let spool = place.name("spool");
    let mut arguments = vec!["region", "--name", "us", "--control", &url, "--spool-dir", &spool];
    arguments.extend(key.map(|key| ["--decryption-key", key]).into_iter().flatten());
    let (region, url) = serve(place, "region", &arguments);
    Services { processes: [control, region], region: url }
}

#[test]
fn an_export_for_another_key_is_encrypted_again_for_the_region() {
    let place = Place::new();
    let (own, other) = (vector("test-key-private.pem"), vector("other-test-key-private.pem"));
    let services = services(&place, Some(&other));
    let line = ["--region", &services.region, "--import-id", ID, "--output", "json"];
    let tar = vector("python.tar");
    fails(
        &[&["import", "organizations", &tar], &line[..]].concat(),
        "encrypted for another key than this region's",
    );
    let arguments = [&["import", "organizations", &tar, "--decrypt-with", &own], &line[..]].concat();
    let output = run(&arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("DECRYPTED"), "{stderr}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&json["state"], &json["encrypted"]), (&"IMPORT_STATE_SUCCEEDED".into(), &true.into()));
    // Each upload is encrypted again, and is still the same import.
    let without_change = |mut import: serde_json::Value| {
        // It changes once more when the directory has it.
        import["updateTime"].take();
        import
    };
    let again = serde_json::from_slice(&done(&arguments)).expect("it is JSON");
    assert_eq!(without_change(again), without_change(json));
}

#[test]
fn a_region_opens_exports_with_each_of_its_keys_and_warns_of_one_that_others_can_read() {
    let place = Place::new();
    let [own, other] = ["test-key-private.pem", "other-test-key-private.pem"].map(|name| {
        let copy = place.path(name);
        fs::copy(vector(name), &copy).expect("copied");
        copy
    });
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    mode(&own, 0o600);
    mode(&other, 0o640);
    let both = format!("{},{}", other.display(), own.display());
    let services = services(&place, Some(&both));
    // The file names the key that it was encrypted for: the second one, for which no new export is encrypted any more.
    let line = ["import", "organizations", &vector("python.tar"), "--region", &services.region];
    let json: serde_json::Value =
        serde_json::from_slice(&done(&[&line[..], &["--output", "json"]].concat())).expect("it is JSON");
    assert_eq!((&json["state"], &json["encrypted"]), (&"IMPORT_STATE_SUCCEEDED".into(), &true.into()));
    let [_control, region] = services.processes;
    let log = region.kill().expect("it runs");
    let warned: Vec<&str> =
        log.lines().filter(|line| line.contains("other users of this machine can read")).collect();
    assert_eq!(warned.len(), 1, "{warned:#?}");
    let line = warned[0];
    assert!(line.contains("640") && line.contains(&format!("chmod 600 '{}'", other.display())), "{line}");
}

#[test]
fn an_export_is_decrypted_for_a_region_without_a_key_and_that_is_said() {
    let place = Place::new();
    let services = services(&place, None);
    let private = vector("test-key-private.pem");
    let output = run(&[
        &["import", "organizations", &vector("python.tar"), "--decrypt-with", &private],
        &["--region", &services.region, "--output", "json"][..],
    ]
    .concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("the export travels to it DECRYPTED"), "{stderr}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["state"], "IMPORT_STATE_SUCCEEDED");
    assert_ne!(json["encrypted"], true);
}

#[test]
fn a_region_takes_no_key_that_is_not_safe() {
    let place = Place::new();
    for (key, says) in
        [("test-key-public.pem", "not an RSA private key"), ("export.json", "not an RSA private key")]
    {
        let (key, spool) = (vector(key), place.name("spool"));
        let database = format!("sqlite:{}", place.name("region.db"));
        let arguments = ["region", "--name", "us", "--control", "http://127.0.0.1:1", "--spool-dir", &spool];
        let more = ["--database-url", &database, "--listen", "127.0.0.1:0", "--decryption-key", &key];
        fails(&[&arguments[..], &more].concat(), says);
    }
    assert!(place.names().is_empty());
}
