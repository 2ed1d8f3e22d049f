//! Memberships that are the same after users were merged: the first record of the file becomes the row, the others are
//! mapped to it, and the row gets the highest role that one of them has.

use std::collections::HashMap;

use super::{
    Row, Writer, Written,
    table::{Table, reference_key},
};
use crate::{
    catalog::{MergeAlike, Model},
    finding::{Finding, FindingKind},
    value::Value,
};

/// The rank of a value; 0 is the highest. All values that the order does not name have the same, lowest rank.
fn rank(order: &[String], value: Option<&Value>) -> usize {
    let text = value.and_then(Value::as_text);
    order.iter().position(|known| Some(known.as_str()) == text).unwrap_or(order.len())
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
    ) -> Result<Vec<Row>, T::Error> {
        let Some(MergeAlike { columns, highest, order }) = &model.rules.merge_alike else { return Ok(rows) };
        let (columns, highest) = (*columns, *highest);
        let here = table.alike(model, columns, &rows).await?;
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        let mut places: HashMap<(i64, i64), usize> = HashMap::new();
        let mut raised: HashMap<i64, usize> = HashMap::new();
        // The first record of the file becomes the row.
        rows.sort_by_key(|row| row.ordinal);
        for row in rows {
            let Some(key) = reference_key(columns, &row) else {
                kept.push(row);
                continue;
            };
            let own = rank(order, row.values.get(highest));
            let holder = if let Some(id) = here.get(&row.id).copied() {
                raised.entry(id).and_modify(|rank| *rank = own.min(*rank)).or_insert(own);
                id
            } else if let Some(first) = places.get(&key).and_then(|place| kept.get_mut(*place)) {
                if own < rank(order, first.values.get(highest))
                    && let (Some(slot), Some(value)) =
                        (first.values.get_mut(highest), row.values.get(highest))
                {
                    slot.clone_from(value);
                }
                first.id
            } else {
                places.insert(key, kept.len());
                kept.push(row);
                continue;
            };
            written.keys.existing.push((row.source_pk, holder));
            let names = columns.iter().chain([&highest]).filter_map(|column| model.columns.get(*column));
            let names: Vec<&str> = names.map(|column| column.field.as_str()).collect();
            let (alike, last) = names.split_at(names.len().saturating_sub(1));
            let reason = format!(
                "{}, and the record agrees in {} with an earlier one of the file; it {} that one, with the higher {} of both",
                self.tense.words("users were merged", "users would be merged"),
                alike.join(" and "),
                self.tense.words("became", "would become"),
                last.join(""),
            );
            written.findings.push(row.place(model, Finding::new(FindingKind::RecordMerged, reason)));
            written.merged.push((holder, row));
        }
        table.raise(model, highest, order, raised.into_iter().collect()).await?;
        kept.sort_by_key(|row| row.source_pk);
        Ok(kept)
    }
}
