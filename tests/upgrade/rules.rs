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

/// The word after these words of a statement, without a list in parentheses that follows.
fn word_after<'a>(words: &[&'a str], before: &[&str]) -> Option<&'a str> {
    let at = words.windows(before.len()).position(|found| found == before)?;
    let mut rest = words[at + before.len()..].iter();
    let name = rest.find(|word| !["IF", "NOT", "EXISTS", "ONLY"].contains(word))?;
    name.split('(').next()
}

/// What of the SQL of a migration a service of the previous release would not survive.
fn forbidden(sql: &str) -> Vec<String> {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let sql = lines.collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    let statements: Vec<Vec<&str>> =
        sql.split(';').map(|statement| statement.split_whitespace().collect()).collect();
    // The previous release does not know tables that the same migration creates.
    let created: Vec<&str> =
        statements.iter().filter_map(|words| word_after(words, &["CREATE", "TABLE"])).collect();
    let mut found = Vec::new();
    for words in &statements {
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
        let table = word_after(words, &["ALTER", "TABLE"]).or_else(|| word_after(words, &["ON"]));
        if table.is_some_and(|table| created.contains(&table)) {
            continue;
        }
        let limits = [
            "CREATE UNIQUE INDEX",
            "ADD CONSTRAINT",
            "ADD UNIQUE",
            "ADD CHECK",
            "DROP CONSTRAINT",
            "DROP DEFAULT",
        ];
        found.extend(limits.iter().filter(|limit| text.contains(*limit)).map(|limit| (*limit).to_owned()));
        for column in text.split("ADD COLUMN").skip(1) {
            if column.contains("NOT NULL") && !column.contains(" DEFAULT ") {
                found.push("ADD COLUMN NOT NULL without DEFAULT".to_owned());
            }
            if column.contains(" UNIQUE") {
                found.push("ADD COLUMN UNIQUE".to_owned());
            }
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
    // What limits the rows that the previous release writes.
    assert_eq!(forbidden("CREATE UNIQUE INDEX c ON a (b)"), ["CREATE UNIQUE INDEX"]);
    assert_eq!(forbidden("ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0)"), ["ADD CONSTRAINT"]);
    assert_eq!(forbidden("ALTER TABLE a ADD UNIQUE (b)"), ["ADD UNIQUE"]);
    assert_eq!(forbidden("ALTER TABLE a DROP CONSTRAINT c"), ["DROP CONSTRAINT"]);
    assert_eq!(forbidden("ALTER TABLE a ALTER COLUMN b DROP DEFAULT"), ["DROP DEFAULT"]);
    assert_eq!(
        forbidden("ALTER TABLE a ADD COLUMN b bigint NOT NULL, ADD COLUMN c bigint NOT NULL DEFAULT 0"),
        ["ADD COLUMN NOT NULL without DEFAULT"],
        "the default of another column"
    );
    assert_eq!(forbidden("ALTER TABLE a ADD COLUMN b bigint UNIQUE"), ["ADD COLUMN UNIQUE"]);
    assert_eq!(
        forbidden(
            "CREATE TABLE IF NOT EXISTS a(b bigint); CREATE UNIQUE INDEX c ON a(b); ALTER TABLE a ADD UNIQUE (b)"
        ),
        [] as [&str; 0],
        "nobody writes to a new table yet"
    );
}
