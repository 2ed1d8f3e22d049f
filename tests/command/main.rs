//! Tests of the command: what it shows and where it goes, `--findings-file`, which writes the findings of an import as
//! lines of JSON, and `--dry-run`.

#![expect(clippy::expect_used, reason = "all of this is test code, the helpers too")]

mod looks;
mod streams;
mod terminal;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use causeway_harness::process;
use tempfile::TempDir;

const ID: &str = "5d7e8f10-2b3c-4d5e-8f90-a1b2c3d4e5f7";

/// The directory in which the command runs, with the data of its embedded region.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        command.args(arguments).current_dir(self.0.path()).output().expect("it runs")
    }

    fn lines(&self, name: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path(name)).expect("it is there");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }
}

fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.json").display().to_string()
}

#[test]
fn the_findings_of_an_import_are_lines_of_json() {
    let place = Place::new();
    // A file that exists already is replaced.
    fs::write(place.path("findings.jsonl"), "old").expect("it is written");
    let line =
        ["import", "organizations", &example(), "--import-id", ID, "--findings-file", "findings.jsonl"];
    let output = place.run(&line);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let findings = place.lines("findings.jsonl");
    let slugs: Vec<_> =
        findings.iter().filter(|finding| finding["kind"] == "FINDING_KIND_SLUG_CHANGED").collect();
    assert_eq!(slugs.len(), 2, "{findings:?}");
    for finding in slugs {
        assert_eq!(finding["severity"], "SEVERITY_INFO");
        assert_eq!(finding["model"], "sentry.organization");
        assert_eq!(finding["field"], "slug");
        for field in ["ordinal", "sourcePk", "byteOffset", "reason", "remedy"] {
            assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {finding}");
        }
    }

    // A later command writes the same findings.
    let output = place.run(&["imports", "show", ID, "--findings-file", "again.jsonl"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(place.lines("again.jsonl"), findings);
    let mut names: Vec<_> = fs::read_dir(place.0.path())
        .expect("it is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["again.jsonl", "causeway-data", "findings.jsonl"], "something was left behind");
}

#[test]
fn the_findings_of_a_failed_import_are_written_too() {
    let place = Place::new();
    fs::write(place.path("bad.json"), r#"[{"model": "sentry.user", "pk": 7, "fields": {"username": 1}}]"#)
        .expect("it is written");
    let output = place.run(&["import", "organizations", "bad.json", "--findings-file", "findings.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let findings = place.lines("findings.jsonl");
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0]["kind"], "FINDING_KIND_VALIDATION_ERROR");
    assert_eq!(findings[0]["field"], "username");
    assert_eq!(findings[0]["byteOffset"], "1");
}

/// An import that fails prints in its first line and in its last one that it went into the local data
/// directory.
#[test]
fn an_import_that_fails_names_the_local_data_directory_first_and_last() {
    let place = Place::new();
    fs::write(place.path("bad.json"), r#"[{"model": "sentry.user", "pk": 7, "fields": {"username": 1}}]"#)
        .expect("it is written");
    for (option, first, last) in [
        ("--merge-users", "into the local data directory", "this went into the local data directory"),
        ("--dry-run", "checked against the local", "this was checked against the local data directory"),
    ] {
        let output = place.run(&["import", "organizations", "bad.json", option]);
        assert!(matches!(output.status.code(), Some(1 | 10)), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let data = place.path("causeway-data").canonicalize().expect("it is there").display().to_string();
        let lines: Vec<&str> = stderr.lines().collect();
        for (line, expected) in [(lines.first(), first), (lines.last(), last)] {
            assert!(line.is_some_and(|line| line.contains(expected) && line.contains(&data)), "{stderr}");
        }
        assert!(lines.last().is_some_and(|line| line.contains("--region URL imports into")), "{stderr}");
    }
}

/// The message about a file that cannot be read names its path, and nothing is begun.
#[test]
fn a_file_that_is_not_there_or_is_a_directory_is_named() {
    let place = Place::new();
    fs::create_dir(place.path("exports")).expect("it is made");
    for (file, why) in [("absent/export.json", "No such file or directory"), ("exports", "directory")] {
        for path in [file.to_owned(), place.path(file).display().to_string()] {
            let output = place.run(&["import", "organizations", &path]);
            assert_eq!(output.status.code(), Some(1));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains(&path) && stderr.contains(why), "{stderr}");
        }
    }
    assert!(!place.path("causeway-data").exists(), "an import was started");
}

#[test]
fn a_place_that_cannot_be_written_is_reported_before_anything_is_begun() {
    let place = Place::new();
    for file in ["nowhere/findings.jsonl", ".", "-"] {
        let output = place.run(&["import", "organizations", &example(), "--findings-file", file]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("the findings cannot be written to"), "{stderr}");
    }
    assert!(!place.path("causeway-data").exists(), "an import was started");
}

#[test]
fn a_dry_run_shows_what_would_happen_and_ends_with_its_exit_code() {
    let place = Place::new();
    let write = |name: &str, text: &str| fs::write(place.path(name), text).expect("it is written");
    write("bad.json", r#"[{"model": "sentry.user", "pk": 7, "fields": {"username": 1}}]"#);
    write("odd.json", r#"[{"model": "sentry.nonsense", "pk": 7, "fields": {}}]"#);
    let dry = |file: &str, code: i32| {
        let output =
            place.run(&["import", "organizations", file, "--dry-run", "--findings-file", "findings.jsonl"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
    };
    // Paragraphs are wrapped.
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (stdout, _) = dry(&example(), 11);
    let (stdout, all) = (flat(&stdout), stdout);
    assert!(!all.contains("free"), "the organization that gets its slug is a count: {all}");
    for line in [
        "PLANNED; nothing was written",
        "Of 111 records: 108 would arrive as in the file; 2 would arrive changed; 0 would not arrive",
        "reserved word support-?",
        "1 other organization would get the slug wanted",
        "SLUG_CHANGED (warning): 2",
        "would become `zurich-grosse`",
    ] {
        assert!(stdout.contains(line), "{line} is not in {stdout}");
    }
    let clean = r#"[{"model": "sentry.organization", "pk": 1, "fields": {"slug": "clean", "name": "Clean"}},
        {"model": "sentry.user", "pk": 2, "fields": {"username": "ann", "password": "x", "email": "ann@example.com"}},
        {"model": "sentry.organizationmember", "pk": 3, "fields": {"organization": 1, "user_id": 2, "role": "owner"}}]"#;
    write("clean.json", clean);
    let (stdout, stderr) = dry("clean.json", 0);
    assert!(
        flat(&stdout).contains("Of 3 records: 3 would arrive as in the file; 0 would arrive changed"),
        "{stdout}"
    );
    // An address for the user is no warning.
    assert!(flat(&stdout).contains("1 row would be added for which the file has no record"), "{stdout}");
    let added = place.lines("findings.jsonl");
    assert!(added.len() == 1 && added[0].to_string().contains("ROW_ADDED"), "{added:?}");
    // The command names the data directory that it checked, in the first line and in the last one.
    let data = place.path("causeway-data").canonicalize().expect("it is there").display().to_string();
    let lines: Vec<&str> = stderr.lines().collect();
    let expected = format!("checked against the local data directory {data}");
    assert!(lines.first().is_some_and(|line| line.contains(&expected)), "{stderr}");
    assert!(
        lines.last().is_some_and(|line| line.contains(&expected) && line.contains("--region")),
        "{stderr}"
    );
    dry(&example(), 11);
    assert_eq!(place.lines("findings.jsonl").len(), 2);
    let (_, stderr) = dry("bad.json", 10);
    assert!(stderr.contains("the import would fail"), "{stderr}");
    assert_eq!(place.lines("findings.jsonl")[0]["kind"], "FINDING_KIND_VALIDATION_ERROR");
    let (stdout, _) = dry("odd.json", 11);
    assert!(stdout.contains("UNKNOWN_MODEL (warning): 1"), "{stdout}");
    assert!(stdout.contains("NOTHING_TO_IMPORT (warning): 1"), "{stdout}");
    let row = stdout.lines().find(|line| line.starts_with("  sentry.nonsense")).expect("a row of its own");
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["sentry.nonsense", "1", "1"]);
    let (_, stderr) = dry("odd.json", 11);
    assert!(stderr.contains("warning: nothing would be imported"), "{stderr}");
    let output = place.run(&["import", "organizations", "odd.json"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("warning: nothing was imported"), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    for (line, expected) in
        [(lines.first(), "into the local data directory"), (lines.last(), "went into the local")]
    {
        assert!(line.is_some_and(|line| line.contains(expected) && line.contains(&data)), "{stderr}");
    }

    // The dry run reserved nothing, so the import itself gets the slug that it wants.
    let output = place.run(&["import", "organizations", &example(), "--import-id", ID, "--all"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("       1  acme "), "the slug was taken");
}

#[test]
fn a_log_of_everything_has_no_secret_of_the_export() {
    let place = Place::new();
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    let line = ["import", "organizations", &example(), "--import-id", ID];
    let command = command.args(line).env("CAUSEWAY_LOG", "trace").current_dir(place.0.path());
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.lines().filter(|line| line.contains("TRACE")).count() > 1_000, "it logs everything");
    for secret in [
        // A hash of a password, an e-mail address, the token of an invitation, and the secret key of a project.
        "md5$example$",
        "olivia@example.com",
        "newcomer@example.com",
        "0123456789abcdef0123456789abcdef",
        "b1b1b1b1b1b1b1b1",
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(secret)).take(3).collect();
        assert!(lines.is_empty(), "{secret} is in the log: {lines:#?}");
    }
}
