//! The contents of all silos, described without ids. Two clusters in which the same things happened have the same
//! snapshot, apart from random values and times.

use std::collections::{BTreeMap, BTreeSet};

use causeway_silo::db::Statement;
use uuid::Uuid;

use crate::{
    account::Cell,
    cluster::{Cluster, Silo},
    invariants::AllRows,
};

/// Every row of every model table, every reservation, and the end state of every import, as lines of names and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSnapshot(BTreeMap<String, String>);

impl ClusterSnapshot {
    /// Reads a cluster in which nothing is in progress. A row is named by the import that inserted it and its primary
    /// key in the file, so imports must have the same ids in clusters that are compared.
    ///
    /// # Errors
    /// If a database cannot be read.
    pub async fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let all = AllRows::load(cluster).await?;
        let mut lines = BTreeMap::new();
        let name = |place, model: &str, id: i64| match all
            .inserted
            .get(&(place, model.to_owned(), id))
            .and_then(|owners| owners.first())
        {
            Some((import, old)) => format!("{}/{model}/{import}/{old}", all.name_of(place)),
            None => format!("{}/{model}/?/{id}", all.name_of(place)),
        };
        for (place, model, rows) in all.all_tables() {
            for (id, row) in rows {
                let row_name = name(place, &model.name, *id);
                lines.insert(row_name.clone(), "is there".to_owned());
                for column in &model.columns {
                    let value = match (row.get(&column.field), &column.references) {
                        (Some(Cell::Int(to)), Some(target)) => {
                            name(all.place_of_row(target, place, *to), target, *to)
                        }
                        (cell, _) => format!("{cell:?}"),
                    };
                    lines.insert(format!("{row_name} {}", column.field), value);
                }
            }
        }
        for reservation in &all.control.reservations {
            let region = all.regions.iter().position(|region| region.name == reservation.region);
            let organization = name(region, crate::invariants::ORGANIZATION, reservation.organization_id);
            lines.insert(
                format!("reservation {} of {organization}", reservation.kind),
                reservation.slug.clone(),
            );
        }
        for (index, region) in all.regions.iter().enumerate() {
            for import in &region.imports {
                lines.insert(format!("import {}", import.id), import.state.short_name());
                for counts in &import.counts {
                    lines.insert(
                        format!("import {} {}", import.id, counts.model),
                        format!("{} {:?}", counts.seen, counts.parts),
                    );
                }
                lines.insert(
                    format!("import {} findings", import.id),
                    findings(cluster, index, import.id).await?.join(", "),
                );
            }
        }
        Ok(Self(lines))
    }

    /// The names with different values, and the names that only one of the snapshots has.
    #[must_use]
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let names = self.0.keys().chain(other.0.keys());
        names.filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }

    /// Describes the differences from the other snapshot, except those of the names in `random`.
    #[must_use]
    pub fn compare(&self, other: &Self, random: &BTreeSet<String>) -> Vec<String> {
        let differ = self.differences(other).into_iter().filter(|name| !random.contains(name));
        differ.map(|name| format!("{name}: {:?}, and {:?}", self.0.get(&name), other.0.get(&name))).collect()
    }
}

/// The findings of an import without their reasons, which may contain random values.
async fn findings(cluster: &Cluster, region: usize, import_id: Uuid) -> anyhow::Result<Vec<String>> {
    let db = cluster.shared_db(Silo::Region(region)).await?;
    let statement = Statement::new(
        "SELECT kind, model, source_pk, field FROM causeway_import_finding WHERE import_id = $1 ORDER BY id",
    );
    let rows = db.fetch_all(statement.with(import_id)).await?;
    let mut lines = rows
        .iter()
        .map(|row| {
            let model = row.opt_text("model")?.unwrap_or_default();
            let field = row.opt_text("field")?.unwrap_or_default();
            Ok(format!("{} {model} {:?} {field}", row.text("kind")?, row.opt_int("source_pk")?))
        })
        .collect::<anyhow::Result<Vec<String>>>()?;
    lines.sort();
    Ok(lines)
}
