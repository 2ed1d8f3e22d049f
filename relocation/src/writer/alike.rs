//! Memberships that are the same after users were merged: the first record of the file becomes the row, the others are
//! mapped to it, and the row gets the highest role that one of them has. If the database refuses that role, the row keeps
//! its own.

use std::collections::HashMap;

use causeway_silo::db::{DbError, DbErrorKind};

use super::{
    Row, WriteError, Writer, Written,
    bisect::CheckViolation,
    left_out::RecordPosition,
    table::{NotRaised, Table, reference_key},
};
use crate::{
    catalog::{MergeAlike, Model},
    finding::{Finding, FindingKind, only_here},
    value::Value,
};

/// The rank of a value; 0 is the highest. All values that the order does not name have the same, lowest rank.
fn rank(order: &[String], value: Option<&Value>) -> usize {
    let text = value.and_then(Value::as_text);
    order.iter().position(|known| Some(known.as_str()) == text).unwrap_or(order.len())
}

/// The rows that are to be inserted with the value of a record that became them, by their ids.
pub(super) type Raised = HashMap<i64, RaisedRow>;

/// A row that is to be inserted with the value of a record that became it.
#[derive(Debug)]
pub(super) struct RaisedRow {
    /// Its own value.
    own: Value,
    /// The records that have raised it.
    by: Vec<RecordPosition>,
}

/// What the finding about a merged record says of the row that the record became.
fn with_highest(field: &str) -> String {
    format!(", with the higher {field} of both")
}

impl Writer<'_> {
    /// Removes the rows that are the same as another one, in the chunk or in the table, and gives that one the highest
    /// value of all. Returns the rows that are to be inserted.
    pub(super) async fn merge_alike<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        mut rows: Vec<Row>,
        written: &mut Written,
    ) -> Result<(Vec<Row>, Raised), T::Error> {
        let mut raised = Raised::new();
        let Some(MergeAlike { columns, highest, order }) = &model.rules.merge_alike else {
            return Ok((rows, raised));
        };
        let (columns, highest) = (*columns, *highest);
        let here = table.alike(model, columns, &rows).await?;
        let mut remaining: Vec<Row> = Vec::with_capacity(rows.len());
        let mut places: HashMap<(i64, i64), usize> = HashMap::new();
        // The records that became rows which are in the table already, each with its rank.
        let mut merged_here: HashMap<i64, Vec<(usize, RecordPosition)>> = HashMap::new();
        // The first record of the file becomes the row.
        rows.sort_by_key(|row| row.ordinal);
        for row in rows {
            let Some(key) = reference_key(columns, &row) else {
                remaining.push(row);
                continue;
            };
            let own = rank(order, row.values.get(highest));
            let holder = if let Some(id) = here.get(&row.id).copied() {
                merged_here.entry(id).or_default().push((own, RecordPosition::of(&row)));
                id
            } else if let Some(first) = places.get(&key).and_then(|place| remaining.get_mut(*place)) {
                let now = rank(order, first.values.get(highest));
                let before = raised.get(&first.id).map_or(now, |raised| rank(order, Some(&raised.own)));
                if own < before
                    && let (Some(slot), Some(value)) =
                        (first.values.get_mut(highest), row.values.get(highest))
                {
                    let raised = raised
                        .entry(first.id)
                        .or_insert_with(|| RaisedRow { own: slot.clone(), by: Vec::new() });
                    // Also one that is below what another record has raised it to: that may be refused.
                    raised.by.push(RecordPosition::of(&row));
                    if own < now {
                        slot.clone_from(value);
                    }
                }
                first.id
            } else {
                places.insert(key, remaining.len());
                remaining.push(row);
                continue;
            };
            written.keys.existing.push((row.source_pk, holder));
            let names = columns.iter().chain([&highest]).filter_map(|column| model.columns.get(*column));
            let names: Vec<&str> = names.map(|column| column.field.as_str()).collect();
            let (alike, last) = names.split_at(names.len().saturating_sub(1));
            let reason = format!(
                "{}, and the record agrees in {} with an earlier one of the file; it {} that one{}",
                self.tense.words("users were merged", "users would be merged"),
                alike.join(" and "),
                self.tense.words("became", "would become"),
                with_highest(&last.join("")),
            );
            written.findings.push(row.place(model, Finding::new(FindingKind::RecordMerged, reason)));
            written.merged.push((holder, row));
        }
        let best = |records: &[(usize, RecordPosition)]| records.iter().map(|(rank, _)| *rank).min();
        let mut raise: Vec<_> =
            merged_here.iter().filter_map(|(id, records)| Some((*id, best(records)?))).collect();
        // If the highest value is refused, the next one is tried.
        while !raise.is_empty() {
            let mut next = Vec::new();
            for NotRaised { id, why } in table.raise(model, highest, order, raise).await? {
                let records = merged_here.remove(&id).ok_or_else(|| {
                    WriteError::from(DbError::inconsistent(format!(
                        "the value of row {id} of {} was not to be raised",
                        model.name
                    )))
                })?;
                let refused = best(&records);
                let (by, rest): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|(rank, _)| Some(*rank) == refused);
                let by: Vec<RecordPosition> = by.into_iter().map(|(_, place)| place).collect();
                not_raised(model, highest, &by, why.kind, why.constraint.as_deref(), &mut written.findings);
                next.extend(best(&rest).map(|rank| (id, rank)));
                merged_here.insert(id, rest);
            }
            raise = next;
        }
        remaining.sort_by_key(|row| row.source_pk);
        Ok((remaining, raised))
    }
}

/// Gives rows that break a check their own value back, if they had got that of another record. They are not among those
/// that break a check any more. Returns whether there were some.
pub(super) fn lower_breaking(
    model: &Model,
    rows: &mut [Row],
    breaking: &mut Vec<CheckViolation>,
    raised: &mut Raised,
    findings: &mut Vec<Finding>,
) -> bool {
    let before = breaking.len();
    breaking
        .retain(|it| !lower(model, rows, it.id, DbErrorKind::Check, it.check.as_deref(), raised, findings));
    breaking.len() < before
}

/// The same for rows that a unique set keeps out, whichever it is.
pub(super) fn lower_all(
    model: &Model,
    rows: &mut [Row],
    raised: &mut Raised,
    findings: &mut Vec<Finding>,
) -> bool {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut any = false;
    for id in ids {
        any |= lower(model, rows, id, DbErrorKind::Unique, None, raised, findings);
    }
    any
}

/// Gives a row its own value back, if it had got that of another record.
fn lower(
    model: &Model,
    rows: &mut [Row],
    id: i64,
    kind: DbErrorKind,
    constraint: Option<&str>,
    raised: &mut Raised,
    findings: &mut Vec<Finding>,
) -> bool {
    let Some(RaisedRow { own, by }) = raised.remove(&id) else { return false };
    let Some(highest) = model.rules.merge_alike.as_ref().map(|rule| rule.highest) else { return false };
    let row = rows.iter_mut().find(|row| row.id == id);
    let Some(slot) = row.and_then(|row| row.values.get_mut(highest)) else { return false };
    *slot = own;
    not_raised(model, highest, &by, kind, constraint, findings);
    true
}

/// Tells of records whose value the row does not get that they became.
fn not_raised(
    model: &Model,
    highest: usize,
    by: &[RecordPosition],
    kind: DbErrorKind,
    constraint: Option<&str>,
    findings: &mut Vec<Finding>,
) {
    let Some(field) = model.columns.get(highest).map(|column| column.field.as_str()) else { return };
    for place in by {
        let of_merge = findings.iter_mut().filter(|finding| {
            finding.kind == FindingKind::RecordMerged && finding.source_pk == Some(place.source_pk())
        });
        for finding in of_merge {
            finding.reason = finding.reason.replace(&with_highest(field), "");
        }
        let reason = format!(
            "breaks {}; the record became an earlier one, which does not get this {field}",
            only_here(&model.table, kind, constraint)
        );
        findings.push(place.name(model, Finding::new(FindingKind::NotInDatabase, reason).field(field)));
    }
}
