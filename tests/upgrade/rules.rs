//! What a migration may do: services of the previous release go on beside it. These tests need no other release.

use std::{fs, path::PathBuf};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// The last migration of a kind of silo that the previous release knows.
pub(crate) fn previous(kind: &str) -> i64 {
    let text = fs::read_to_string(root().join(".ci/previous")).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(kind)).expect("a line for it");
    line.trim().parse().expect("a number")
}

/// All migrations of a kind of silo: number, file and text.
fn migrations(kind: &str) -> Vec<(i64, String, String)> {
    let mut all = Vec::new();
    for store in ["postgres", "sqlite"] {
        let directory = root().join("migrations").join(kind).join(store);
        for file in fs::read_dir(&directory).expect("migrations") {
            let path = file.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let number = name.split('_').next().and_then(|number| number.parse().ok()).expect("a number");
            let text = fs::read_to_string(&path).expect("it is read");
            all.push((number, format!("{kind}/{store}/{name}"), text));
        }
    }
    all
}

/// The number of the last migration of a kind of silo.
pub(crate) fn newest(kind: &str) -> i64 {
    migrations(kind).into_iter().map(|(number, ..)| number).max().expect("there are some")
}

/// What of the SQL of a migration a service of the previous release would not survive.
fn forbidden(sql: &str) -> Vec<String> {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let sql = lines.collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    let mut found = Vec::new();
    for statement in sql.split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let text = words.join(" ");
        let drops = ["DROP TABLE", "DROP COLUMN", "SET NOT NULL"];
        found.extend(drops.iter().filter(|drop| text.contains(*drop)).map(|drop| (*drop).to_owned()));
        // A word of its own: the names of tables and types may contain it.
        if words.contains(&"RENAME") {
            found.push("RENAME".to_owned());
        }
        if text.contains("ALTER COLUMN") && text.contains(" TYPE ") {
            found.push("ALTER COLUMN TYPE".to_owned());
        }
        let adds = text.contains("ADD COLUMN") && text.contains("NOT NULL");
        if adds && !text.contains(" DEFAULT ") {
            found.push("ADD COLUMN NOT NULL without DEFAULT".to_owned());
        }
    }
    found
}

#[test]
fn new_migrations_leave_the_previous_release_its_tables() {
    for kind in ["control", "region"] {
        let last = previous(kind);
        for (_, file, sql) in migrations(kind).into_iter().filter(|(number, ..)| *number > last) {
            assert_eq!(
                forbidden(&sql),
                [] as [String; 0],
                "{file}: docs/upgrades.md says what a migration may do"
            );
        }
    }
}

#[test]
fn what_breaks_the_previous_release_is_found() {
    assert_eq!(
        forbidden("ALTER TABLE a ADD COLUMN b bigint NOT NULL DEFAULT 0; CREATE INDEX c ON a (b);"),
        [] as [&str; 0]
    );
    assert_eq!(forbidden("-- DROP TABLE a\nALTER TABLE a ADD COLUMN b bigint;"), [] as [&str; 0]);
    assert_eq!(
        forbidden("ALTER TABLE a ADD COLUMN b bigint NOT NULL"),
        ["ADD COLUMN NOT NULL without DEFAULT"]
    );
    assert_eq!(forbidden("alter table a\n  drop column b"), ["DROP COLUMN"]);
    assert_eq!(forbidden("ALTER TABLE a RENAME COLUMN b TO c"), ["RENAME"]);
    assert_eq!(forbidden("CREATE INDEX a ON causeway_slug_rename (b)"), [] as [&str; 0]);
    assert_eq!(forbidden("ALTER TABLE a ALTER COLUMN b TYPE text"), ["ALTER COLUMN TYPE"]);
}
