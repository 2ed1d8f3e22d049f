//! Checks the table of cases in the documentation.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Finds all Rust files in a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of the functions that a text defines.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.match_indices("fn ").filter_map(move |(at, _)| text.get(at + 3..)?.split(|it| !word(it)).next())
}

#[test]
fn every_case_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = read(&root.join("docs/bad-input.md"));
    let rows =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let rows: Vec<(&str, &str)> = rows.filter(|(case, _)| !matches!(*case, "case" | "---")).collect();
    assert!(rows.len() > 30, "the table is gone");
    let mut named = BTreeSet::new();
    for (case, tests) in rows {
        let names: Vec<&str> =
            tests.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        assert!(!names.is_empty(), "{case}: no test");
        named.extend(names);
    }

    let mut files = Vec::new();
    for directory in [
        "tests",
        "relocation/src",
        "region/src",
        "control/src",
        "metrics/src",
        "silo/src",
        "traces",
        "src",
        "client/src",
        "proto",
    ] {
        sources(&root.join(directory), &mut files);
    }
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let tests: BTreeSet<&str> = texts.iter().flat_map(|text| functions(text)).collect();
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");

    let main = read(&root.join("tests/bad_input/main.rs"));
    let (_, listed) = main.split_once("on_each_store! {\n").expect("the list of behaviours");
    let behaviours: BTreeSet<&str> = listed
        .split([',', ';', '\n'])
        .map(str::trim)
        .filter(|name| name.contains('_') && !name.contains(':'))
        .collect();
    let unnamed: Vec<_> = behaviours.difference(&named).collect();
    assert!(behaviours.len() > 20 && unnamed.is_empty(), "the table does not name {unnamed:?}");
}
