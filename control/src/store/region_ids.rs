//! The tables `causeway_region_ids` and `causeway_region_id_conflict`: which ids the tables of regions have.

use std::collections::HashMap;

use causeway_relocation::catalog::ORGANIZATION;
use causeway_silo::db::{Column, Db, DbError, Row, Statement, Tx};

use super::EQUALS_WITHOUT_REGION_INDEX;
use crate::model::region::{ConflictKind, IdConflict, IdRange};

/// Stores which ids of a model a region's table has, in place of what was stored before.
pub(crate) async fn replace(
    tx: &mut Tx,
    region: &str,
    model: &str,
    ranges: &[IdRange],
    is_exact: bool,
) -> Result<(), DbError> {
    let known = Statement::new(
        "SELECT first_id, last_id FROM causeway_region_ids WHERE region = $1 AND model = $2 AND is_exact = $3 \
         ORDER BY first_id",
    )
    .with(region)
    .with(model)
    .with(is_exact);
    let known = tx.fetch_all(known).await?;
    if known.iter().map(range).collect::<Result<Vec<_>, _>>()? == ranges && !ranges.is_empty() {
        return Ok(());
    }
    let delete = Statement::new("DELETE FROM causeway_region_ids WHERE region = $1 AND model = $2");
    tx.execute(delete.with(region).with(model)).await?;
    if ranges.is_empty() {
        return Ok(());
    }
    let dialect = tx.dialect();
    let insert = Statement::new(
        "INSERT INTO causeway_region_ids (region, model, first_id, last_id, is_exact) \
         SELECT $1, $2, r.first_id, r.last_id, $3 FROM ",
    )
    .with(region)
    .with(model)
    .with(is_exact)
    .rows(dialect, "r", columns(ranges));
    tx.execute(insert).await.map(|_| ())
}

fn columns(ranges: &[IdRange]) -> [(&'static str, Column); 2] {
    [
        ("first_id", Column::Ints(ranges.iter().map(|range| range.first).collect())),
        ("last_id", Column::Ints(ranges.iter().map(|range| range.last).collect())),
    ]
}

fn range(row: &Row) -> Result<IdRange, DbError> {
    Ok(IdRange { first: row.int("first_id")?, last: row.int("last_id")? })
}

fn of_region(row: &Row) -> Result<(String, IdRange), DbError> {
    Ok((row.text("region")?, range(row)?))
}

/// The ranges of other regions that overlap this range, sorted by last id and region: those after the last id and
/// region `after`, at most `most`. Only exact ranges.
pub(crate) async fn held_by_others(
    tx: &mut Tx,
    region: &str,
    model: &str,
    within: IdRange,
    after: (i64, &str),
    most: i64,
) -> Result<Vec<(String, IdRange)>, DbError> {
    let statement = Statement::new(
        "SELECT region, first_id, last_id FROM causeway_region_ids WHERE model = $1 AND last_id >= $2 \
         AND first_id <= $3 AND is_exact = $4 AND region <> $5 AND (last_id, region) > ($6, $7) \
         ORDER BY last_id, region LIMIT $8",
    )
    .with(model)
    .with(within.first)
    .with(within.last)
    .with(true)
    .with(region)
    .with(after.0)
    .with(after.1)
    .with(most);
    tx.fetch_all(statement).await?.iter().map(of_region).collect()
}

/// Organizations in these ranges for which other regions have reservations, sorted by id; at most `most`.
pub(crate) async fn reserved_by_others(
    tx: &mut Tx,
    region: &str,
    ranges: &[IdRange],
    most: i64,
) -> Result<Vec<(String, IdRange)>, DbError> {
    let dialect = tx.dialect();
    let statement = Statement::new(
        "SELECT s.region, s.organization_id AS first_id, s.organization_id AS last_id FROM ",
    )
    .rows(dialect, "r", columns(ranges))
    .push(
        " JOIN causeway_organization_slug_reservation s ON s.organization_id BETWEEN r.first_id AND r.last_id \
         WHERE s.type IN ('primary', 'temporary_rename_alias') AND s.region <> ",
    )
    .arg(region)
    .push(" ORDER BY s.organization_id LIMIT ")
    .arg(most);
    tx.fetch_all(statement).await?.iter().map(of_region).collect()
}

/// Those of these organizations for which another region has a reservation, each with that region.
pub(crate) async fn reserved_elsewhere(
    tx: &mut Tx,
    region: &str,
    organization_ids: Vec<i64>,
) -> Result<HashMap<i64, String>, DbError> {
    let dialect = tx.dialect();
    let statement = Statement::new("SELECT s.organization_id, s.region FROM ")
        .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids))])
        .push(" JOIN causeway_organization_slug_reservation s ON s.organization_id = r.organization_id")
        .push(" WHERE s.type IN ('primary', 'temporary_rename_alias') AND NOT s.region")
        .push(EQUALS_WITHOUT_REGION_INDEX)
        .arg(region);
    tx.fetch_all(statement)
        .await?
        .iter()
        .map(|row| Ok((row.int("organization_id")?, row.text("region")?)))
        .collect()
}

/// The highest id that is or may be in use: the end of a stored range that overlaps `within`, exact or not, or an
/// organization in `within` that has a reservation. `None` if all ids of `within` are free.
pub(crate) async fn in_use(tx: &mut Tx, model: &str, within: IdRange) -> Result<Option<i64>, DbError> {
    let held = Statement::new(
        "SELECT MAX(last_id) AS id FROM causeway_region_ids WHERE model = $1 AND last_id >= $2 AND first_id <= $3",
    )
    .with(model)
    .with(within.first)
    .with(within.last);
    let held = tx.fetch_one(held).await?.opt_int("id")?;
    if model != ORGANIZATION {
        return Ok(held);
    }
    let reserved = Statement::new(
        "SELECT MAX(organization_id) AS id FROM causeway_organization_slug_reservation \
         WHERE organization_id BETWEEN $1 AND $2",
    )
    .with(within.first)
    .with(within.last);
    Ok(held.max(tx.fetch_one(reserved).await?.opt_int("id")?))
}

/// Stores which ids of a region conflict with other regions, in place of what was stored before.
pub(crate) async fn replace_conflicts(
    tx: &mut Tx,
    region: &str,
    model: &str,
    conflicts: &[IdConflict],
) -> Result<(), DbError> {
    let delete = Statement::new("DELETE FROM causeway_region_id_conflict WHERE region = $1 AND model = $2");
    tx.execute(delete.with(region).with(model)).await?;
    if conflicts.is_empty() {
        return Ok(());
    }
    let text = |field: fn(&IdConflict) -> &str| {
        Column::Texts(conflicts.iter().map(|conflict| field(conflict).to_owned()).collect())
    };
    let int = |field: fn(&IdConflict) -> i64| Column::Ints(conflicts.iter().map(field).collect());
    let dialect = tx.dialect();
    let insert = Statement::new(
        "INSERT INTO causeway_region_id_conflict (region, model, first_id, last_id, other_region, kind) \
         SELECT $1, $2, r.first_id, r.last_id, r.other_region, r.kind FROM ",
    )
    .with(region)
    .with(model)
    .rows(
        dialect,
        "r",
        [
            ("first_id", int(|conflict| conflict.ids.first)),
            ("last_id", int(|conflict| conflict.ids.last)),
            ("other_region", text(|conflict| &conflict.region)),
            ("kind", text(|conflict| conflict.kind.name())),
        ],
    )
    .push(" WHERE true ON CONFLICT (region, model, first_id, other_region, kind) DO NOTHING");
    tx.execute(insert).await.map(|_| ())
}

/// The stored conflicts of a region's ids with other regions.
pub(crate) async fn conflicts(db: &Db, region: &str) -> Result<Vec<IdConflict>, DbError> {
    let statement = Statement::new(
        "SELECT model, first_id, last_id, other_region, kind FROM causeway_region_id_conflict WHERE region = $1 \
         ORDER BY model, first_id, other_region, kind",
    )
    .with(region);
    let conflict = |row: &Row| {
        let kind = match row.text("kind")?.as_str() {
            "leased" => ConflictKind::Leased,
            "held" => ConflictKind::Held,
            "reserved" => ConflictKind::Reserved,
            _ => return Err(DbError::inconsistent("a conflict of ids is of an unknown kind")),
        };
        Ok(IdConflict {
            model: row.text("model")?,
            ids: range(row)?,
            region: row.text("other_region")?,
            kind,
        })
    };
    db.fetch_all(statement).await?.iter().map(conflict).collect()
}
