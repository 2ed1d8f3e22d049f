//! Commands that look: lists that are narrowed, an import that is watched, an export that is inspected, and where each of
//! them goes.

use std::fs;

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Store},
    export::Export,
    process,
};

use crate::{ID, Place, example};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command prints that ends with this code: on stdout, and on stderr.
fn run(place: &Place, code: i32, line: &[&str]) -> (String, String) {
    let output = place.run(line);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line:?}: {stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn a_list_of_imports_is_narrowed_and_marks_dry_runs() {
    let place = Place::new();
    fs::write(place.path("bad.json"), "[{}]").expect("it is written");
    run(&place, 1, &["import", "organizations", "bad.json"]);
    run(&place, 11, &["import", "organizations", &example(), "--dry-run"]);
    run(&place, 0, &["import", "organizations", &example(), "--import-id", ID]);
    let list = |more: &[&str]| run(&place, 0, &[&["imports", "list"], more].concat()).0;
    let rows = |more: &[&str]| list(more).lines().count() - 1;
    let all = list(&[]);
    assert!(all.lines().nth(1).is_some_and(|line| line.contains(ID) && line.contains("SUCCEEDED")), "{all}");
    assert!(
        all.lines().nth(2).is_some_and(|line| line.contains("PLANNED") && line.contains("dry run")),
        "{all}"
    );
    assert!(all.lines().nth(3).is_some_and(|line| line.ends_with("EXPORT_INVALID")), "{all}");
    assert_eq!(all.matches("dry run").count(), 1, "{all}");
    assert_eq!((rows(&["--state", "failed"]), rows(&["--state", "failed,planned"])), (1, 2));
    assert_eq!((rows(&["--limit", "2"]), rows(&["--limit", "1", "--state", "planned"])), (2, 1));
    assert_eq!((rows(&["--since", "1h"]), rows(&["--since", "2999-01-01"])), (3, 0));
    let json: serde_json::Value =
        serde_json::from_str(&list(&["--limit", "1", "--output", "json"])).expect("JSON");
    assert_eq!(json["imports"][0]["importId"], ID);
    for wrong in [&["--state", "dead"][..], &["--since", "yesterday"], &["--limit", "0"]] {
        run(&place, 2, &[&["imports", "list"], wrong].concat());
    }
}

/// What a report says of how long the import took.
fn took(report: &str) -> &str {
    report.lines().find_map(|line| line.split_once(", took ")).expect("how long it took").1
}

#[test]
fn an_approval_does_not_make_an_import_longer() {
    let place = Place::new();
    let file = example();
    let import = ["import", "organizations", &file, "--hide-organizations", "--import-id", ID];
    let imported = run(&place, 0, &import).0;
    // Each of these is a process of its own, so more time passes than the import has taken.
    run(&place, 0, &["organizations", "approve", "--import", ID]);
    let shown = run(&place, 0, &["imports", "show", ID]).0;
    assert_eq!(took(&shown), took(&imported));
}

#[test]
fn after_a_filter_that_matches_nothing_the_next_command_has_what_was_meant() {
    let place = Place::new();
    let import = ["import", "organizations", &example(), "--filter-org-slugs"];
    let (stdout, stderr) = run(&place, 1, &[&import[..], &["acmee"]].concat());
    assert_eq!(stdout.matches("none of the slugs of the filter").count(), 1, "{stdout}");
    assert!(!stdout.contains("(0)"), "{stdout}");
    let next = stderr.lines().find(|line| line.contains("causeway import organizations")).expect("a command");
    assert!(next.contains("--filter-org-slugs acme ") && !next.contains("acmee"), "{next}");
    let words = shlex::split(next).expect("a line of a shell");
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    run(&place, 0, &words);
    // Without anything alike, there is a word to replace.
    let (_, stderr) = run(&place, 1, &[&import[..], &["zzzzzzzz"]].concat());
    assert!(stderr.contains("--filter-org-slugs SLUGS "), "{stderr}");
}

#[test]
fn an_import_that_has_ended_is_watched_at_once() {
    let place = Place::new();
    fs::write(place.path("bad.json"), "[{}]").expect("it is written");
    run(&place, 0, &["import", "organizations", &example(), "--import-id", ID]);
    let (stdout, stderr) = run(&place, 0, &["imports", "watch", ID]);
    assert!(stdout.starts_with(&format!("Import {ID} in region embedded: SUCCEEDED\n")), "{stdout}");
    assert!(stderr.contains("SUCCEEDED 100%  111 records"), "{stderr}");
    // An import that has ended already is joined, and its outcome is printed once.
    let (_, stderr) = run(&place, 0, &["import", "organizations", &example(), "--import-id", ID]);
    assert!(stderr.contains("has this import already"), "{stderr}");
    assert_eq!(stderr.matches("SUCCEEDED 100%").count(), 1, "{stderr}");
    let other = "00000000-0000-4000-8000-000000000007";
    run(&place, 10, &["import", "organizations", "bad.json", "--dry-run", "--import-id", other]);
    let (_, stderr) = run(&place, 10, &["imports", "watch", other]);
    assert!(stderr.contains("the import would fail"), "{stderr}");
    let unknown = "00000000-0000-4000-8000-000000000008";
    let (_, stderr) = run(&place, 1, &["imports", "watch", unknown]);
    // What is wrong comes first, then the command to go on with; no log has more about it.
    let wrong = format!("causeway: this region has no import {unknown}; `causeway imports list");
    assert!(stderr.contains(&wrong) && stderr.trim_end().ends_with("(IMPORT_NOT_FOUND)"), "{stderr}");
    assert!(!stderr.contains("log of the service"), "{stderr}");
}

#[test]
fn an_import_is_named_by_the_beginning_of_its_id() {
    let place = Place::new();
    run(&place, 0, &["import", "organizations", &example(), "--import-id", ID]);
    let other = format!("{}0", &ID[..ID.len() - 1]);
    run(&place, 11, &["import", "organizations", &example(), "--dry-run", "--import-id", &other]);
    let (_, stderr) = run(&place, 1, &["imports", "show", &ID[..8]]);
    assert!(stderr.contains("the ids of 2 imports begin with") && stderr.contains(&other), "{stderr}");
    let (_, stderr) = run(&place, 1, &["imports", "keys", "ffffffff"]);
    assert!(stderr.contains("no import whose id begins with ffffffff; `causeway imports list"), "{stderr}");
    let (stdout, _) = run(&place, 0, &["imports", "revert", ID, "--yes"]);
    assert!(stdout.contains("REVERTED\n") && stdout.contains("\nReverted at "), "{stdout}");
    // Nobody is asked about what is done, and the report is the same.
    let (again, stderr) = run(&place, 0, &["imports", "revert", ID]);
    assert!(stderr.contains(&format!("import {ID} is reverted already")), "{stderr}");
    assert_eq!(again, stdout);
    // Its id is that of this import for ever.
    let (_, stderr) = run(&place, 1, &["import", "organizations", &example(), "--import-id", ID]);
    assert!(stderr.contains("this import has been reverted, and nothing is imported"), "{stderr}");
}

#[test]
fn a_slug_in_place_of_an_id_is_explained() {
    for line in [&["organizations", "approve", "acme"][..], &["organizations", "show", "acme"]] {
        let (_, stderr) = run(&Place::new(), 2, line);
        assert!(
            stderr.contains("an id is a number") && stderr.contains("`causeway slugs resolve acme"),
            "{stderr}"
        );
    }
}

#[test]
fn the_beginning_of_an_id_will_do_for_each_command() {
    let place = Place::new();
    run(&place, 0, &["import", "organizations", &example(), "--import-id", ID]);
    let short = &ID[..8];
    let whole = format!("Import {ID} in region embedded: SUCCEEDED\n");
    for line in [&["imports", "show", short][..], &["imports", "watch", short]] {
        let (stdout, _) = run(&place, 0, line);
        assert!(stdout.starts_with(&whole), "{stdout}");
        // Without a terminal, each row of a table has all of its columns.
        assert!(stdout.contains("inserted  seen\n") && !stdout.contains("left out:"), "{stdout}");
    }
    assert!(run(&place, 0, &["imports", "keys", short]).0.lines().count() > 100);
    let (stdout, _) = run(&place, 0, &["imports", "revert", short, "--yes"]);
    assert!(stdout.contains("all rows of ") && stdout.contains("Organizations it had (3)"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_is_shown_by_id_and_by_any_slug_that_leads_to_it() {
    let place = Place::new();
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let mut export = Export::new();
    export.organization(1, "acme");
    let import =
        cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    let id = import.organizations[0].id.to_string();
    let (region, control) = (cluster.region(0).url().to_owned(), cluster.control_url());
    // Commands wait for the services of this process.
    tokio::task::spawn_blocking(move || {
        let rename =
            ["slugs", "rename", "acme", "new", "--keep-alias", "--wait", "60", "--control", &control];
        run(&place, 0, &rename);
        let show = |code, by: &[&str]| {
            run(&place, code, &[&["organizations", "show"], by, &["--region", &region]].concat())
        };
        let (by_id, first) = show(0, &[&id]);
        assert!(by_id.starts_with(&format!("id      {id}\nslug    new\n")), "{by_id}");
        assert_eq!(first, format!("causeway: asking the region at {region} (--region)\n"));
        assert_eq!(show(0, &["--slug", "NEW"]).0, by_id);
        let (by_alias, note) = show(0, &["--slug", "acme"]);
        assert_eq!(by_alias, by_id);
        assert!(note.contains("acme is an old slug that still leads to it"), "{note}");
        let json: serde_json::Value =
            serde_json::from_str(&show(0, &[&id, "--output", "json"]).0).expect("JSON");
        assert_eq!(json["organization"]["id"], id);
        assert!(show(1, &["--slug", "nobody"]).1.contains("SLUG_NOT_FOUND"));
        assert!(show(1, &["7"]).1.contains("ORGANIZATION_NOT_FOUND"));
        for wrong in [&[][..], &["1", "--slug", "x"], &["acme"]] {
            show(2, wrong);
        }
    })
    .await
    .expect("it ends");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_where_its_context_says_and_to_the_first_address_that_is_there() {
    let place = Place::new();
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let (region, control) = (cluster.region(0).url().to_owned(), cluster.control_url());
    let file = format!(
        "[contexts.prod-us]\nregion = [\"http://127.0.0.1:1\", \"{region}\"]\ncontrol = \"{control}\"\n"
    );
    fs::write(place.path("causeway.toml"), file).expect("it is written");
    tokio::task::spawn_blocking(move || {
        let context = ["--context", "prod-us", "--config", "causeway.toml"];
        let (_, stderr) = run(&place, 0, &[&["imports", "list"], &context[..]].concat());
        let goes = format!(
            "causeway: asking the region at http://127.0.0.1:1,{region} ([contexts.prod-us] of causeway.toml)\n"
        );
        assert!(stderr.starts_with(&goes), "{stderr}");
        assert!(stderr.contains(&format!("trying {region}")), "{stderr}");
        let (_, stderr) = run(&place, 0, &[&["slugs", "list"], &context[..]].concat());
        assert_eq!(stderr, format!("causeway: asking control at {control} ([contexts.prod-us] of causeway.toml)\n"));
        // A variable that is empty counts as not set.
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        let command = command.args(["slugs", "list", "--control", &control]).env("CAUSEWAY_CONTEXT", "");
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let file = example();
        let line = [&["import", "organizations", &file], &context[..]].concat();
        let (_, stderr) = run(&place, 0, &line);
        let first = stderr.lines().next().unwrap_or_default();
        assert!(first.contains(", into the region at http") && first.ends_with("of causeway.toml)"), "{stderr}");
        let (_, stderr) = run(&place, 1, &["slugs", "list", "--context", "prod-su", "--config", "causeway.toml"]);
        assert!(stderr.contains("has no context \"prod-su\"; is \"prod-us\" meant?"), "{stderr}");
        assert!(!place.path("causeway-data").exists(), "something went to local data");
        let (checked, _) = run(&place, 0, &["config", "check", "--config", "causeway.toml"]);
        assert!(checked.contains("[contexts.prod-us]\n"), "{checked}");
    })
    .await
    .expect("it ends");
    cluster.stop().await;
}

#[test]
fn an_export_is_inspected_and_nothing_is_imported() {
    let place = Place::new();
    let (stdout, _) = run(&place, 0, &["export", "inspect", &example()]);
    let flat = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "a plain export of ",
        "111 records, 3 organizations",
        "Release, by its models",
        " acme Acme",
        " sentry.project ",
    ] {
        assert!(flat.contains(part), "{part}: {stdout}");
    }
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encrypted-exports");
    let (public, private) = (format!("{keys}/test-key-public.pem"), format!("{keys}/test-key-private.pem"));
    run(&place, 0, &["encrypt", &example(), "--with", &public, "--to", "x.tar"]);
    let (stdout, stderr) = run(&place, 0, &["export", "inspect", "x.tar"]);
    assert!(stdout.starts_with("x.tar: an encrypted export of ") && !stdout.contains("acme"), "{stdout}");
    assert!(stderr.contains("--decrypt-with, with the private key"), "{stderr}");
    let (opened, _) = run(&place, 0, &["export", "inspect", "x.tar", "--decrypt-with", &private]);
    assert!(opened.contains("111 records") && opened.contains("  acme "), "{opened}");
    let (json, _) = run(&place, 0, &["export", "inspect", &example(), "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["encrypted"], &json["records"]), (&false.into(), &"111".into()));
    assert!(!place.path("causeway-data").exists(), "something was imported");
    fs::write(place.path("bad.json"), r#"[{"model": "sentry.user", "pk": 0, "fields": {}}]"#)
        .expect("written");
    for (file, why) in [
        ("bad.json", "bad.json: "),
        ("absent.json", "the file absent.json cannot be read"),
        (".", "is not a regular file"),
    ] {
        let (_, stderr) = run(&place, 1, &["export", "inspect", file]);
        assert!(stderr.contains(why), "{file}: {stderr}");
    }
    let wrong = format!("{keys}/other-test-key-private.pem");
    run(&place, 1, &["export", "inspect", "x.tar", "--decrypt-with", &wrong]);
}

#[test]
fn a_slug_of_a_filter_that_is_misspelled_gets_a_suggestion() {
    let place = Place::new();
    let (_, stderr) = run(&place, 1, &["import", "organizations", &example(), "--filter-org-slugs", "acne"]);
    assert!(stderr.contains("Did you mean `acme`?"), "{stderr}");
    let (stdout, _) =
        run(&place, 0, &["import", "organizations", &example(), "--filter-org-slugs", "Acme,support"]);
    let flat = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("with the slug `Acme`; slugs are compared exactly, also in case. Did you mean `acme`?"),
        "{stdout}"
    );
}

#[test]
fn completions_and_manual_pages_are_made_from_the_command_line() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (script, _) = run(&place, 0, &["completions", shell]);
        assert!(script.contains("release-operation"), "{shell}");
    }
    run(&place, 2, &["completions", "dash"]);
    run(&place, 0, &["man", "--out", "pages/man1"]);
    let page = fs::read_to_string(place.path("pages/man1/causeway-imports-watch.1")).expect("a page");
    assert!(page.contains(".TH causeway-imports-watch 1") && page.contains("Examples:"), "{page}");
    assert!(place.path("pages/man1/causeway.1").exists());
    let (version, _) = run(&place, 0, &["--version"]);
    assert!(version.contains("\ncommit: ") && version.contains("\nbuilt in "), "{version}");
}
