//! All rows that an import may change, read at one moment.

use std::collections::BTreeMap;

use anyhow::Context as _;
use causeway_proto::control::v1::SlugReservation;
use causeway_relocation::catalog::{self, Catalog, Model};
use causeway_silo::db::{Db, Statement};

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
}

static NO_ROWS: Rows = Rows::new();

impl RowsSnapshot {
    /// Reads all rows of control and of the region with this index.
    ///
    /// # Errors
    /// If a database or control cannot be reached, or a value does not fit the type of its column.
    pub async fn at(cluster: &Cluster, region: usize) -> anyhow::Result<Self> {
        let catalog = Catalog::load()?;
        let mut models = BTreeMap::new();
        for (silo, of) in
            [(Silo::Control, catalog::Silo::Control), (Silo::Region(region), catalog::Silo::Region)]
        {
            let db = cluster.shared_db(silo).await?;
            for model in catalog.written().filter(|model| model.silo == of) {
                models.insert(model.name.clone(), rows(&db, model).await?);
            }
        }
        Ok(Self { models, reservations: cluster.control().all_reservations().await? })
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

/// Reads all rows of a model.
pub(crate) async fn rows(db: &Db, model: &Model) -> anyhow::Result<Rows> {
    let columns: Vec<String> = model
        .columns
        .iter()
        .map(|column| format!("{} AS \"{}\"", cell::select(column, db.dialect()), column.field))
        .collect();
    let statement =
        Statement::new("SELECT id, ").push(&columns.join(", ")).push(&format!(" FROM \"{}\"", model.table));
    let mut rows = Rows::new();
    for found in db.fetch_all(statement).await? {
        let mut row = Row::new();
        for column in &model.columns {
            let cell = cell::of_database(column, found.opt_text(&column.field)?);
            row.insert(column.field.clone(), cell.with_context(|| format!("table {}", model.table))?);
        }
        rows.insert(found.int("id")?, row);
    }
    Ok(rows)
}
