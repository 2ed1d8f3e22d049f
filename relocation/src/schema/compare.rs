//! Compares the tables of a database with the catalog.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use causeway_silo::db::{self, Db, DbError, Dialect, Row, Statement};
use sha2::{Digest as _, Sha256};

use super::{is_of_product, models, tables_for_workers};
use crate::catalog::{Catalog, Column, Model, Silo};

/// A column as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actual {
    /// Its type, with `varchar` for short.
    pub sql: String,
    /// Whether it may be null.
    pub null: bool,
    /// Whether the database has a value for it where a row gives none.
    pub has_default: bool,
}

/// A unique index of a table, not of its primary key and without expressions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UniqueIndex {
    /// Its columns, sorted by name.
    pub columns: Vec<String>,
    /// Whether it holds only for rows that meet a condition.
    pub conditional: bool,
    /// Whether it is checked at the end of a transaction only.
    pub deferred: bool,
}

/// The existing tables of a silo's models, as they are in the database, and those that are written for the workers of the
/// product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Columns by table and name.
    pub columns: BTreeMap<String, BTreeMap<String, Actual>>,
    /// Unique indexes by table, of tables of the product; `None` if it is not known which there are.
    pub unique: Option<BTreeMap<String, BTreeSet<UniqueIndex>>>,
    /// Whether the database is the product's: it keeps a list of its migrations there.
    pub of_product: bool,
}

/// How an existing table differs from the catalog in a way that would break an import.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    pub(super) model: &'a Model,
    pub(super) kind: DifferenceKind<'a>,
}

#[derive(Debug)]
pub(super) enum DifferenceKind<'a> {
    NoId,
    IdType {
        found: String,
    },
    NoSequence,
    /// A column is missing.
    Missing {
        column: &'a Column,
    },
    /// A column has another type.
    Type {
        column: &'a Column,
        found: String,
        expected: String,
    },
    /// A column of the database does not allow null, and the catalog's does.
    NotNull {
        column: &'a Column,
    },
    /// A column that the catalog does not know needs a value.
    NeedsValue {
        column: String,
    },
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.model.table;
        match &self.kind {
            DifferenceKind::NoId => write!(f, "table {table} has no column id"),
            DifferenceKind::IdType { found } => write!(f, "column {table}.id is {found} and not bigint"),
            DifferenceKind::NoSequence => write!(f, "column {table}.id has no sequence of its own"),
            DifferenceKind::Missing { column } => write!(f, "table {table} has no column {}", column.column),
            DifferenceKind::Type { column, found, expected } => {
                write!(f, "column {table}.{} is {found} and not {expected}", column.column)
            }
            DifferenceKind::NotNull { column } => {
                write!(f, "column {table}.{} cannot be null", column.column)
            }
            DifferenceKind::NeedsValue { column } => {
                write!(f, "column {table}.{column} needs a value and the catalog does not know it")
            }
        }
    }
}

impl Difference<'_> {
    /// Whether a table that Causeway created can be altered so that this difference is gone, without loss.
    pub(super) fn can_be_altered(&self) -> bool {
        match &self.kind {
            DifferenceKind::NoId
            | DifferenceKind::IdType { .. }
            | DifferenceKind::NoSequence
            | DifferenceKind::NeedsValue { .. } => false,
            DifferenceKind::Missing { column } => column.null || column.since.is_some(),
            DifferenceKind::Type { found, expected, .. } => is_wider(found, expected),
            DifferenceKind::NotNull { .. } => true,
        }
    }
}

/// Whether a column of the type `wide` holds every text of the type `narrow`. Both are written in the same way.
fn is_longer_text(narrow: &str, wide: &str) -> bool {
    let length = |sql: &str| sql.strip_prefix("varchar(")?.strip_suffix(')')?.parse::<u32>().ok();
    match (length(narrow), length(wide)) {
        (Some(narrow), Some(wide)) => narrow <= wide,
        (Some(_), None) => wide == "text",
        _ => false,
    }
}

/// Whether every value of the type `found` fits one of the type `expected`.
fn is_wider(found: &str, expected: &str) -> bool {
    is_longer_text(found, expected)
        || matches!((found, expected), ("smallint", "integer" | "bigint") | ("integer", "bigint"))
}

/// Compares existing tables with the models of the catalog. An absent table is not a difference: see
/// [`super::create_missing_tables`]. Nor is a column that the catalog does not know, as long as it needs no value.
pub(super) fn compare<'a>(
    tables: &Tables,
    models: impl IntoIterator<Item = &'a Model>,
    dialect: Dialect,
) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    for model in models {
        let Some(table) = tables.columns.get(&model.table) else { continue };
        let mut add = |kind| found.push(Difference { model, kind });
        match table.get("id") {
            None => add(DifferenceKind::NoId),
            Some(id) if dialect == Dialect::Postgres && id.sql != "bigint" => {
                add(DifferenceKind::IdType { found: id.sql.clone() });
            }
            Some(id) if dialect == Dialect::Postgres && !model.leases_ids() && !id.has_default => {
                add(DifferenceKind::NoSequence);
            }
            Some(_) => {}
        }
        for column in &model.columns {
            let Some(actual) = table.get(&column.column) else {
                add(DifferenceKind::Missing { column });
                continue;
            };
            let expected = column_type(column, dialect);
            // A newer release may have made it longer, or the product has.
            if actual.sql != expected && !is_longer_text(&expected, &actual.sql) {
                add(DifferenceKind::Type { column, found: actual.sql.clone(), expected });
            }
            if column.null && !actual.null {
                add(DifferenceKind::NotNull { column });
            }
        }
        for (name, actual) in table {
            let known = name == "id" || model.columns.iter().any(|column| &column.column == name);
            if !known && !actual.null && !actual.has_default {
                add(DifferenceKind::NeedsValue { column: name.clone() });
            }
        }
    }
    found
}

/// The type of a column, as the database names it.
pub(super) fn column_type(column: &Column, dialect: Dialect) -> String {
    let sql = column.sql.as_str();
    match dialect {
        // PostgreSQL does not report how many dimensions an array was declared with, and does not enforce it.
        Dialect::Postgres => sql.replace("[][]", "[]"),
        Dialect::Sqlite => match sql {
            "timestamp with time zone" | "uuid" | "inet" | "citext" => "text".to_owned(),
            _ if sql.ends_with("[]") => "text".to_owned(),
            _ => sql.to_owned(),
        },
    }
}

/// The query for all columns of the tables of these models. [`Tables::read`] reads its rows.
pub(super) fn columns_query<'a>(models: impl IntoIterator<Item = &'a Model>, dialect: Dialect) -> Statement {
    columns_of_tables(models.into_iter().map(|model| model.table.clone()).collect(), dialect)
}

/// The same for tables of these names.
fn columns_of_tables(tables: Vec<String>, dialect: Dialect) -> Statement {
    let names = [("name", db::Column::Texts(tables))];
    match dialect {
        Dialect::Postgres => Statement::new(
            "SELECT c.relname::text AS table_name, a.attname::text AS column_name, format_type(a.atttypid, a.atttypmod) AS sql, \
             NOT a.attnotnull AS nullable, (a.atthasdef OR a.attidentity <> '') AS has_default \
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ",
        )
        .rows(dialect, "t", names)
        .push(" ON c.oid = to_regclass(quote_ident(t.name)) WHERE a.attnum > 0 AND NOT a.attisdropped"),
        Dialect::Sqlite => Statement::new(
            "SELECT t.name AS table_name, p.name AS column_name, lower(p.type) AS sql, p.\"notnull\" = 0 AND p.pk = 0 AS nullable, \
             p.dflt_value IS NOT NULL AS has_default FROM ",
        )
        .rows(dialect, "t", names)
        .push(" JOIN pragma_table_info(t.name) p"),
    }
}

/// The query for the unique indexes of tables of the product. [`read_unique`] reads its rows, one for each column.
fn unique_query(tables: Vec<String>, dialect: Dialect) -> Statement {
    Statement::new(
        "SELECT t.name AS table_name, i.indexrelid::text AS index_id, a.attname::text AS column_name, \
         i.indpred IS NOT NULL AS conditional, NOT i.indimmediate AS deferred FROM ",
    )
    .rows(dialect, "t", [("name", db::Column::Texts(tables))])
    .push(
        " JOIN pg_index i ON i.indrelid = to_regclass(quote_ident(t.name)) \
         CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS n (number, place) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.number \
         WHERE i.indisunique AND NOT i.indisprimary AND i.indisvalid AND i.indexprs IS NULL AND n.place <= i.indnkeyatts \
         ORDER BY a.attname",
    )
}

fn read_unique(rows: &[Row]) -> Result<BTreeMap<String, BTreeSet<UniqueIndex>>, DbError> {
    let mut indexes: BTreeMap<(String, String), UniqueIndex> = BTreeMap::new();
    for row in rows {
        let (conditional, deferred) = (row.bool("conditional")?, row.bool("deferred")?);
        let index = indexes.entry((row.text("table_name")?, row.text("index_id")?)).or_insert(UniqueIndex {
            columns: Vec::new(),
            conditional,
            deferred,
        });
        index.columns.push(row.text("column_name")?);
    }
    let mut unique: BTreeMap<String, BTreeSet<UniqueIndex>> = BTreeMap::new();
    for ((table, _), mut index) in indexes {
        // The database sorts by a collation.
        index.columns.sort_unstable();
        unique.entry(table).or_default().insert(index);
    }
    Ok(unique)
}

impl Tables {
    /// The fingerprint of tables that Causeway created.
    pub const OWN: &str = "own";
    /// How the fingerprint of some tables begins.
    pub const OF_SOME: &str = "2:";

    /// Reads the rows of [`columns_query`].
    pub(super) fn read(rows: &[Row], of_product: bool) -> Result<Self, DbError> {
        let mut found: BTreeMap<String, BTreeMap<String, Actual>> = BTreeMap::new();
        for row in rows {
            let sql = row.text("sql")?;
            // PostgreSQL spells out `varchar`.
            let sql = match sql.strip_prefix("character varying") {
                Some(rest) => format!("varchar{rest}"),
                None => sql,
            };
            let actual = Actual { sql, null: row.bool("nullable")?, has_default: row.bool("has_default")? };
            found.entry(row.text("table_name")?).or_default().insert(row.text("column_name")?, actual);
        }
        Ok(Self { columns: found, unique: None, of_product })
    }

    /// Reads the tables of a silo's models. In a database of the product, also those that are written for its workers.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn load(db: &Db, catalog: &Catalog, silo: Silo) -> Result<Self, DbError> {
        let of_product = is_of_product(db).await?;
        let mut names: Vec<String> =
            models(catalog, silo).into_iter().map(|model| model.table.clone()).collect();
        if of_product {
            names.extend(tables_for_workers(silo).map(str::to_owned));
        }
        let rows = db.fetch_all(columns_of_tables(names, db.dialect())).await?;
        let mut tables = Self::read(&rows, of_product)?;
        if of_product {
            let names = tables.columns.keys().cloned().collect();
            tables.unique = Some(read_unique(&db.fetch_all(unique_query(names, db.dialect())).await?)?);
        }
        Ok(tables)
    }

    /// The columns of a table by name; `None` if the database does not have it.
    pub(super) fn columns_of(&self, table: &str) -> Option<&BTreeMap<String, Actual>> {
        self.columns.get(table)
    }

    /// Whether the database has the table of this model.
    pub(super) fn contains(&self, model: &Model) -> bool {
        self.columns.contains_key(&model.table)
    }

    /// A hash of all that is known of some tables, in hex after [`Self::OF_SOME`]: another one if somebody
    /// has altered one of them. It depends on nothing else, so two programs whose catalogs know different
    /// tables come to the same. Always the same for tables that Causeway created, because it alters them only
    /// before it starts.
    #[must_use]
    pub fn fingerprint_of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> String {
        if !self.of_product {
            return Self::OWN.to_owned();
        }
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut digest = Sha256::new();
        for table in names {
            let Some(columns) = self.columns.get(table) else {
                digest.update(format!("absent\0{table}\0"));
                continue;
            };
            digest.update(format!("table\0{table}\0"));
            for (name, Actual { sql, null, has_default }) in columns {
                digest.update(format!("column\0{name}\0{sql}\0{null}\0{has_default}\0"));
            }
            let indexes = self.unique.as_ref().and_then(|unique| unique.get(table));
            for UniqueIndex { columns, conditional, deferred } in indexes.into_iter().flatten() {
                digest.update(format!("index\0{}\0{conditional}\0{deferred}\0", columns.join("\0")));
            }
        }
        format!("{}{}", Self::OF_SOME, hex::encode(digest.finalize()))
    }

    /// A hash of all that is known of all tables, in hex. It depends on the catalog by which they were read, so it is only
    /// for regions and imports of a release that did not know [`Self::fingerprint_of`].
    #[must_use]
    pub fn fingerprint(&self) -> String {
        if !self.of_product {
            return Self::OWN.to_owned();
        }
        let mut digest = Sha256::new();
        for (table, columns) in &self.columns {
            for (name, Actual { sql, null, has_default }) in columns {
                digest.update(format!("{table}\0{name}\0{sql}\0{null}\0{has_default}\0"));
            }
        }
        for (table, indexes) in self.unique.iter().flatten() {
            for UniqueIndex { columns, conditional, deferred } in indexes {
                digest.update(format!("{table}\0{}\0{conditional}\0{deferred}\0", columns.join("\0")));
            }
        }
        hex::encode(digest.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control and a region may be of two releases, and each reads the tables that its catalog knows.
    #[test]
    fn a_fingerprint_of_some_tables_depends_on_no_others() {
        let actual = |sql: &str| Actual { sql: sql.to_owned(), null: false, has_default: false };
        let table =
            |sql: &str| BTreeMap::from([("id".to_owned(), actual("bigint")), ("a".to_owned(), actual(sql))]);
        let index =
            |deferred: bool| UniqueIndex { columns: vec!["a".to_owned()], conditional: false, deferred };
        let tables = |known: &[(&str, &str, bool)]| Tables {
            columns: known.iter().map(|(name, sql, _)| ((*name).to_owned(), table(sql))).collect(),
            unique: Some(
                known
                    .iter()
                    .map(|(name, _, deferred)| ((*name).to_owned(), [index(*deferred)].into()))
                    .collect(),
            ),
            of_product: true,
        };
        let two = tables(&[("one", "text", false), ("two", "text", false)]);
        let three = tables(&[("new", "text", false), ("one", "text", false), ("two", "text", false)]);
        let print = two.fingerprint_of(["one", "two"]);
        assert!(print.starts_with(Tables::OF_SOME), "{print}");
        assert_eq!(three.fingerprint_of(["two", "one", "two"]), print);
        assert_ne!(three.fingerprint(), two.fingerprint(), "that is why");
        for other in [
            three.fingerprint_of(["one"]),
            three.fingerprint_of(["new", "one", "two"]),
            tables(&[("one", "text", false)]).fingerprint_of(["one", "two"]),
            tables(&[("one", "varchar(9)", false), ("two", "text", false)]).fingerprint_of(["one", "two"]),
            tables(&[("one", "text", true), ("two", "text", false)]).fingerprint_of(["one", "two"]),
        ] {
            assert_ne!(other, print);
        }
        let own = Tables { of_product: false, ..two };
        assert_eq!(own.fingerprint_of(["one"]), Tables::OWN);
        // A later release comes to the same, so it stays as it is.
        assert_eq!(
            tables(&[("one", "text", false)]).fingerprint_of(["one"]),
            "2:6d36ab87769e3b520ce53f150d3edab51153375e6bc4ac196212c2a0066a312d"
        );
    }

    #[test]
    fn a_type_is_wider_if_it_holds_every_value() {
        for (found, expected) in [
            ("varchar(75)", "varchar(200)"),
            ("varchar(75)", "varchar(75)"),
            ("varchar(255)", "text"),
            ("integer", "bigint"),
            ("smallint", "integer"),
        ] {
            assert!(is_wider(found, expected), "{found} {expected}");
        }
        for (found, expected) in [
            ("varchar(200)", "varchar(75)"),
            ("text", "varchar(75)"),
            ("bigint", "integer"),
            ("text", "jsonb"),
            ("integer", "text"),
            ("varchar(75)", "citext"),
        ] {
            assert!(!is_wider(found, expected), "{found} {expected}");
        }
    }
}
