//! All rows that an import may change, read at one moment.

use std::collections::BTreeMap;

use anyhow::Context as _;
use causeway_proto::control::v1::SlugReservation;
use causeway_relocation::catalog::{self, Catalog, Column, Model};
use causeway_silo::db::{Db, Dialect, Statement};

use super::cell::{self, Cell};
use crate::cluster::{Cluster, Silo};

/// A row: its values by the field names that an export uses.
pub type Row = BTreeMap<String, Cell>;

/// The rows of a table by their ids.
pub type Rows = BTreeMap<i64, Row>;

/// Every row of every model table of control and one region, and every slug reservation.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsSnapshot {
    models: BTreeMap<String, Rows>,
    reservations: Vec<SlugReservation>,
    /// What the tables of each model have, in databases of the product; see [`ColumnsOf`].
    columns: BTreeMap<String, ColumnsOf>,
}

/// The columns of a table of the product, by name, and whether each may be null. `None` if there is no such table.
pub(super) type ColumnsOf = Option<BTreeMap<String, bool>>;

static NO_ROWS: Rows = Rows::new();

impl RowsSnapshot {
    /// Reads all rows of control and of the region with this index.
    ///
    /// # Errors
    /// If a database or control cannot be reached, or a value does not fit the type of its column.
    pub async fn at(cluster: &Cluster, region: usize) -> anyhow::Result<Self> {
        let catalog = Catalog::load()?;
        let (mut models, mut columns) = (BTreeMap::new(), BTreeMap::new());
        for (silo, of) in
            [(Silo::Control, catalog::Silo::Control), (Silo::Region(region), catalog::Silo::Region)]
        {
            let db = cluster.shared_db(silo).await?;
            let of_product = of_product(&db).await?;
            for model in catalog.written().filter(|model| model.silo == of) {
                let mut there = None;
                if of_product {
                    let found = columns_of(&db, model).await?;
                    there = found.clone();
                    columns.insert(model.name.clone(), found);
                    if there.is_none() {
                        continue;
                    }
                }
                models.insert(model.name.clone(), rows_with(&db, model, there.as_ref()).await?);
            }
        }
        Ok(Self { models, reservations: cluster.control().all_reservations().await?, columns })
    }

    /// The rows of a model. Empty if the catalog does not write such a model.
    #[must_use]
    pub fn rows(&self, model: &str) -> &Rows {
        self.models.get(model).unwrap_or(&NO_ROWS)
    }

    /// The row of a model with this id, if it exists.
    #[must_use]
    pub fn row(&self, model: &str, id: i64) -> Option<&Row> {
        self.rows(model).get(&id)
    }

    /// Whether the database has the table of a model.
    pub(super) fn has_table(&self, model: &str) -> bool {
        !matches!(self.columns.get(model), Some(None))
    }

    /// Whether the table of a model has the column, under this name or that of an older release.
    pub(super) fn has_column(&self, model: &str, column: &str) -> bool {
        match self.columns.get(model) {
            Some(Some(columns)) => {
                columns.contains_key(column)
                    || older(model, column).is_some_and(|(older, _)| columns.contains_key(older))
            }
            Some(None) => false,
            None => true,
        }
    }

    /// Whether the product's tables have a place for a field that newer releases do not have.
    pub(super) fn has_older_field(&self, model: &str, field: &str) -> bool {
        let columns = self.columns.get(model).and_then(Option::as_ref);
        let is_kept = (model, field) == ("workflow_engine.datacondition", "condition");
        is_kept && columns.is_some_and(|columns| columns.contains_key(field))
    }

    /// Whether the types of data sources are numbers, as they were when a source was a query.
    pub(super) fn numbers_sources(&self) -> bool {
        let columns = self.columns.get("workflow_engine.datasource").and_then(Option::as_ref);
        columns.is_some_and(|columns| columns.contains_key("query_id"))
    }

    /// Whether the column is one of the product's that cannot be null.
    pub(super) fn needs_value(&self, model: &str, column: &str) -> bool {
        let columns = self.columns.get(model).and_then(Option::as_ref);
        columns.and_then(|columns| columns.get(column)).is_some_and(|nullable| !nullable)
    }

    /// All slug reservations of all regions, by slug.
    #[must_use]
    pub fn reservations(&self) -> &[SlugReservation] {
        &self.reservations
    }

    /// The number of rows in all tables together.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.models.values().map(BTreeMap::len).sum()
    }
}

/// The name that a column had in older releases, and whether it said the opposite there.
fn older(model: &str, column: &str) -> Option<(&'static str, bool)> {
    match (model, column) {
        ("workflow_engine.datasource", "source_id") => Some(("query_id", false)),
        ("sentry.dashboardpermissions", "is_editable_by_everyone") => {
            Some(("is_creator_only_editable", true))
        }
        _ => None,
    }
}

/// Whether the database is the product's.
async fn of_product(db: &Db) -> anyhow::Result<bool> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(false);
    }
    let statement = Statement::new("SELECT 1 AS one WHERE to_regclass('django_migrations') IS NOT NULL");
    Ok(db.fetch_optional(statement).await?.is_some())
}

/// The columns of the table of a model.
async fn columns_of(db: &Db, model: &Model) -> anyhow::Result<ColumnsOf> {
    let statement = Statement::new(
        "SELECT column_name::text AS name, is_nullable = 'YES' AS nullable FROM information_schema.columns \
         WHERE table_name = $1",
    )
    .with(model.table.as_str());
    let mut columns = BTreeMap::new();
    for row in db.fetch_all(statement).await? {
        columns.insert(row.text("name")?, row.bool("nullable")?);
    }
    Ok((!columns.is_empty()).then_some(columns))
}

/// Reads all rows of a model.
pub(crate) async fn rows(db: &Db, model: &Model) -> anyhow::Result<Rows> {
    rows_with(db, model, None).await
}

/// Reads all rows of a model: the columns that its table has, or all of them.
async fn rows_with(db: &Db, model: &Model, there: Option<&BTreeMap<String, bool>>) -> anyhow::Result<Rows> {
    let is_there = |name: &str| there.is_none_or(|there| there.contains_key(name));
    let mut columns: Vec<&Column> = Vec::new();
    let mut selected: Vec<String> = Vec::new();
    for column in &model.columns {
        let value = match older(&model.name, &column.column) {
            _ if is_there(&column.column) => cell::select(column, db.dialect()),
            Some((older, true)) if is_there(older) => format!("(NOT \"{older}\")::text"),
            Some((older, false)) if is_there(older) => format!("\"{older}\"::text"),
            _ => continue,
        };
        columns.push(column);
        selected.push(format!("{value} AS \"{}\"", column.field));
    }
    let statement = Statement::new("SELECT CAST(id AS bigint) AS id, ")
        .push(&selected.join(", "))
        .push(&format!(" FROM \"{}\"", model.table));
    let mut rows = Rows::new();
    for found in db.fetch_all(statement).await? {
        let mut row = Row::new();
        for column in &columns {
            let cell = cell::of_database(column, found.opt_text(&column.field)?);
            row.insert(column.field.clone(), cell.with_context(|| format!("table {}", model.table))?);
        }
        rows.insert(found.int("id")?, row);
    }
    Ok(rows)
}
