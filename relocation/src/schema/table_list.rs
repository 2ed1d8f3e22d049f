//! Holds `relocation/tables.sql` against the catalog: the tables of a new installation on PostgreSQL, to look at and to
//! compare from release to release. A change of a table that exists needs a greater version of the tables, so that releases
//! before it refuse a database that has the change.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use causeway_silo::{Silo, db::Dialect};

use super::{create::statements, models};
use crate::catalog::{Catalog, TablesVersion};

const HEAD: &str = "-- The tables of models as a new installation gets them on PostgreSQL. Made from relocation/catalog.json:\n\
                    -- CAUSEWAY_BLESS=1 cargo test -p causeway-relocation --lib table_list\n";

/// The statements of each table, by silo and name.
type TableList = BTreeMap<String, String>;

fn list(catalog: &Catalog) -> TableList {
    let mut list = TableList::new();
    for (silo, kind) in [(Silo::Control, "control"), (Silo::Region, "region")] {
        for model in models(catalog, silo) {
            let sql = statements(catalog, model, Dialect::Postgres).expect("statements").join(";\n") + ";\n";
            list.insert(format!("{kind} {}", model.table), sql);
        }
    }
    list
}

fn text(version: TablesVersion, list: &TableList) -> String {
    let mut text = format!("{HEAD}-- {} {} {}\n", version.year, version.month, version.revision);
    for (name, sql) in list {
        let _ = write!(text, "\n-- table {name}\n{sql}");
    }
    text
}

/// The version and the tables of such a text.
fn parsed(text: &str) -> (TablesVersion, TableList) {
    let rest = text.strip_prefix(HEAD).expect("the head");
    let mut parts = rest.split("\n-- table ");
    let version = parts.next().and_then(|line| line.strip_prefix("-- ")).expect("a version");
    let numbers: Vec<u32> = version.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    let [year, month, revision] = numbers[..] else { panic!("{version:?} is not a version") };
    let table = |part: &str| part.split_once('\n').map(|(name, sql)| (name.to_owned(), sql.to_owned()));
    (TablesVersion { year, month, revision }, parts.map(|part| table(part).expect("a table")).collect())
}

/// Tables of the older list that the newer one has in another form, or not at all.
fn changed<'a>(older: &'a TableList, newer: &TableList) -> Vec<&'a str> {
    let differ = older.iter().filter(|(name, sql)| newer.get(*name) != Some(sql));
    differ.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_table_that_changes_needs_a_greater_version() {
    let catalog = Catalog::load().unwrap();
    let (version, tables) = (catalog.tables_version(), list(&catalog));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tables.sql");
    let (known, before) = parsed(&std::fs::read_to_string(&path).unwrap());
    let changed = changed(&before, &tables);
    assert!(
        changed.is_empty() || version > known,
        "tables that exist have changed ({}): raise \"newest_release\" in relocation/catalog.json, or, if that stays, \
         \"revision\" to {}",
        changed.join(", "),
        known.revision + 1
    );
    assert!(version >= known, "a version of tables must not become smaller: it was {known} and is {version}");
    let wanted = text(version, &tables);
    if std::env::var_os("CAUSEWAY_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == wanted,
        "relocation/tables.sql is out of date; CAUSEWAY_BLESS=1 cargo test -p causeway-relocation --lib table_list brings \
         it up to date"
    );
}

#[test]
fn a_new_table_is_no_change_of_one_that_exists() {
    let table = |name: &str, sql: &str| (name.to_owned(), sql.to_owned());
    let older = TableList::from([table("region a", "1"), table("region b", "2"), table("region c", "3")]);
    let newer = TableList::from([table("region a", "1"), table("region b", "other"), table("region d", "4")]);
    assert_eq!(changed(&older, &newer), ["region b", "region c"]);
    let version = TablesVersion { year: 26, month: 6, revision: 2 };
    assert_eq!(parsed(&text(version, &older)), (version, older));
}
