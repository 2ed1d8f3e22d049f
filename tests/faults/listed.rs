//! The lists of failpoints are complete: a failpoint that no list has would be tried by no test.

use std::{collections::BTreeSet, path::Path};

/// The failpoints that other tests than the trials reach, each with the file of such a test.
pub(crate) fn of_other_tests() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lists = [causeway_region::FAILPOINTS_OF_OTHER_TESTS, causeway_control::FAILPOINTS_OF_OTHER_TESTS];
    lists.into_iter().flatten().copied()
}

/// Adds the failpoints of all sources in a directory.
fn collect(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = std::fs::read_to_string(&path).expect("a source");
            for (at, call) in source.match_indices("failpoint(") {
                let name = source[at + call.len()..].trim_start().strip_prefix('"');
                found.extend(name.and_then(|name| name.split('"').next()).map(str::to_owned));
            }
        }
    }
}

#[test]
fn every_failpoint_of_the_sources_is_listed_and_every_listed_one_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for service in ["region", "control"] {
        collect(&root.join(service).join("src"), &mut found);
    }
    let listed: Vec<&str> =
        crate::steps::failpoints().chain(of_other_tests().map(|(place, _)| place)).collect();
    let once: BTreeSet<String> = listed.iter().map(|place| (*place).to_owned()).collect();
    assert_eq!(listed.len(), once.len(), "a failpoint is listed twice");
    assert_eq!(found, once, "left: in the sources, right: listed");
}

#[test]
fn a_test_names_each_failpoint_that_the_trials_do_not_reach() {
    for (place, file) in of_other_tests() {
        let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("\"{place}\"")), "{file} does not name {place}");
    }
}
