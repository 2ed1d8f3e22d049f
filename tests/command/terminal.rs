//! What the command shows on a terminal: any width, colors, and names in any script. `script` of util-linux makes the
//! terminals. What they have shown at the end is written into `target/command`, for a person to look at.

use std::{fs, path::Path, process::Output};

use crate::{ID, Place, example};

/// Control sequences of a terminal, which take no room.
fn without_sequences(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '\u{1b}' {
            plain.push(character);
            continue;
        }
        if rest.next_if_eq(&'[').is_some() {
            while rest.next().is_some_and(|it| !it.is_ascii_alphabetic()) {}
        }
    }
    plain
}

/// Runs a line in a terminal of so many columns, and returns all that it showed.
fn on_terminal(place: &Place, columns: u32, line: &str, code: i32) -> String {
    on_terminal_with("", place, columns, line, code)
}

/// The same with variables, each as NAME=VALUE.
fn on_terminal_with(variables: &str, place: &Place, columns: u32, line: &str, code: i32) -> String {
    let bin = env!("CARGO_BIN_EXE_causeway");
    let line = format!("stty cols {columns} rows 40; exec env {variables} {bin} {line}");
    let mut command = causeway_harness::process::command("script");
    command.args(["-q", "-e", "-f", "-E", "never", "-c", &line, "/dev/null"]);
    // What colors depend on must not depend on where the tests run.
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    let command = command.env("TERM", "xterm-256color").current_dir(place.path("."));
    let Output { status, stdout, .. } = command.output().expect("script runs");
    let shown = String::from_utf8(stdout).expect("UTF-8");
    assert_eq!(status.code(), Some(code), "{shown}");
    record(columns, variables, line.split_once(bin).map_or("", |(_, line)| line), &shown);
    shown
}

/// Keeps what a person has read, for a person to look at.
fn record(columns: u32, variables: &str, line: &str, shown: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/command");
    fs::create_dir_all(&directory).expect("it is made");
    let line = line.replace(&example(), "acme.json").replace(ID, "ID");
    let words = format!("{variables} {line}");
    let words = words.split(|it: char| !it.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    let text = format!("$ causeway{line}\n{}", lines(shown).join("\n"));
    fs::write(directory.join(format!("{name}-{columns}.txt")), text).expect("it is written");
}

/// The lines that a person reads at the end: what was drawn over is left out.
fn lines(shown: &str) -> Vec<String> {
    let visible =
        |line: &str| without_sequences(line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default());
    shown.split('\n').map(visible).collect()
}

#[test]
fn an_import_on_a_terminal_ends_with_its_outcome_in_color() {
    let place = Place::new();
    let shown = on_terminal(&place, 80, &format!("import organizations {} --import-id {ID}", example()), 0);
    let lines = lines(&shown);
    let outcome = lines.iter().find(|line| line.contains("SUCCEEDED 100%")).expect("the outcome");
    assert!(outcome.contains("111 records"), "{outcome}");
    assert!(shown.contains("\u{1b}[32mSUCCEEDED"), "the state is green: {shown}");

    let plain = on_terminal(&place, 80, &format!("imports show {ID} --color never"), 0);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let plain = on_terminal_with("NO_COLOR=1", &place, 80, &format!("imports show {ID}"), 0);
    assert!(plain.contains("SUCCEEDED") && !plain.contains('\u{1b}'), "{plain:?}");
    let piped = place.run(&["imports", "show", ID]);
    assert!(!String::from_utf8_lossy(&piped.stdout).contains('\u{1b}'));
    let forced = place.run(&["imports", "show", ID, "--color", "always"]);
    assert!(String::from_utf8_lossy(&forced.stdout).contains("\u{1b}[32mSUCCEEDED"));
    // JSON has no colors, whatever somebody wants.
    let json = place.run(&["imports", "show", ID, "--color", "always", "--output", "json"]);
    serde_json::from_slice::<serde_json::Value>(&json.stdout).expect("JSON");
}

/// Why an import has failed is read once, in the report; after it comes what to do.
#[test]
fn a_failure_on_a_terminal_is_said_once() {
    let place = Place::new();
    let line = format!("import organizations {} --filter-org-slugs acmee", example());
    let shown = lines(&on_terminal(&place, 80, &line, 1)).join(" ");
    assert_eq!(shown.matches("none of the slugs of the filter").count(), 1, "{shown}");
    assert!(shown.contains("--filter-org-slugs acme "), "{shown}");
}

/// Before the line is understood, its colors are.
#[test]
fn helps_and_mistakes_have_colors_unless_somebody_wants_none() {
    let place = Place::new();
    for (line, code) in [("imports --help", 0), ("imports nothing", 2), ("imports list --limit 0", 2)] {
        assert!(on_terminal(&place, 80, line, code).contains('\u{1b}'), "{line}");
        for plain in [
            on_terminal(&place, 80, &format!("{line} --color never"), code),
            on_terminal(&place, 80, &format!("--color=never {line}"), code),
            on_terminal_with("CAUSEWAY_COLOR=never", &place, 80, line, code),
            on_terminal_with("NO_COLOR=1", &place, 80, line, code),
        ] {
            assert!(plain.contains("--help") && !plain.contains('\u{1b}'), "{line}: {plain:?}");
        }
    }
}

/// Words that are longer than the terminal, such as ids, are whole, and so is each command.
#[test]
fn a_terminal_of_20_columns_shows_everything() {
    let place = Place::new();
    let line = format!("import organizations {} --import-id {ID}", example());
    for line in [line.as_str(), &format!("imports show {ID} --all"), "imports list", "organizations list"] {
        let shown = on_terminal(&place, 20, line, 0);
        for line in lines(&shown) {
            // What is longer is one word, maybe behind the name of its column.
            let words = line.rsplit_once(": ").map_or(line.as_str(), |(_, word)| word).split_whitespace();
            let is_command = line.trim_start().starts_with("causeway ") || line.contains('`');
            assert!(line.chars().count() <= 20 || words.count() <= 1 || is_command, "{line:?} of {shown}");
        }
    }
    let listed = lines(&on_terminal(&place, 20, "imports list", 0));
    assert!(listed.iter().any(|line| *line == format!("  import: {ID}")), "{listed:#?}");
}

#[test]
fn a_report_fits_80_columns_and_begins_with_what_changed() {
    let place = Place::new();
    let output = place.run(&["import", "organizations", &example(), "--import-id", ID]);
    let report = String::from_utf8(output.stdout).expect("UTF-8");
    for line in report.lines() {
        let is_command = line.trim_start().starts_with("causeway ") || line.contains("`causeway ");
        assert!(line.chars().count() <= 80 || is_command, "{line}");
    }
    assert!(report.contains(", took ") && report.contains(" records/s)"), "{report}");
    // Two slugs were changed, and the third organization is a count.
    assert!(report.contains("  1 other organization has the slug wanted (--all"), "{report}");
    let columns = report.lines().find(|line| line.starts_with("  model ")).expect("a table");
    assert!(!columns.contains("dropped") && !columns.contains("existing"), "{columns}: {report}");
    let all = place.run(&["imports", "show", ID, "--all"]);
    let all = String::from_utf8(all.stdout).expect("UTF-8");
    assert!(
        all.lines().any(|line| line.split_whitespace().eq(["1", "acme", "acme"]) || line.contains("  acme ")),
        "{all}"
    );
    assert!(all.lines().count() > report.lines().count());
}

#[test]
fn names_from_right_to_left_and_wide_ones_keep_their_columns() {
    let place = Place::new();
    let text = r#"[{"model": "sentry.organization", "pk": 1, "fields": {"slug": "hebrew", "name": "שלום עולם"}},
        {"model": "sentry.organization", "pk": 2, "fields": {"slug": "tokyo", "name": "東京支店"}},
        {"model": "sentry.organization", "pk": 3, "fields": {"slug": "odd", "name": "a\u202eb"}}]"#;
    fs::write(place.path("names.json"), text).expect("it is written");
    assert_eq!(place.run(&["import", "organizations", "names.json"]).status.code(), Some(0));
    let listed = place.run(&["organizations", "list"]);
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    // A mark begins and another one ends what goes from right to left; both take no room.
    assert!(listed.contains("  hebrew  \u{2068}שלום עולם\u{2069}  active"), "{listed}");
    assert!(listed.contains("  tokyo   東京支店   active"), "{listed}");
    assert!(listed.contains("  odd     a\u{fffd}b        active"), "{listed}");
    let shown = place.run(&["organizations", "show", "--slug", "TOKYO"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("name    東京支店\n"));
}
