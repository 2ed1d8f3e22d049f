//! The conflict path: looks up which values are taken, applies the rules for those, and inserts the rows that are free.

use std::collections::{HashMap, HashSet};

use causeway_silo::env::BASE36;

use super::{
    Regenerated, Row, WriteError, Writer, Written,
    alike::{lower_all, lower_breaking},
    bisect::Inserted,
    left_out::RecordPosition,
    no_column,
    table::Table,
};
use crate::{
    catalog::{Column, Model, TakenName, Then},
    export::MAX_PK,
    finding::{Finding, FindingKind, Tense, shown},
    value::Value,
};

/// How often values are replaced that other writers took in the meantime, and how often the next one of records that are
/// the same is tried.
const ROUNDS: usize = 8;
/// How many characters a suffix has that makes a taken value unique.
const SUFFIX: usize = 6;

impl Writer<'_> {
    pub(super) async fn write_resolving_conflicts<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        rows: Vec<Row>,
    ) -> Result<Written, T::Error> {
        table.check_ids(model, &rows).await?;
        let (mut written, mut rows) = (Written::default(), rows);
        let mut instead = Vec::new();
        // Each time, the first of the records that are the same is left out.
        for pass in 0.. {
            if rows.is_empty() {
                break;
            }
            // Very many that are the same and all refused: each pass would cost as much as the whole chunk.
            if pass == ROUNDS {
                self.drop_duplicates(model, &rows, &mut written, &mut HashMap::new());
                break;
            }
            let mut lost = HashMap::new();
            self.write_free(table, model, rows, &mut written, &mut lost).await?;
            rows = written.take_back_merges(lost, &mut instead);
        }
        self.map_replaced(model, instead, &mut written);
        written.keys.inserted.sort_unstable();
        written.keys.existing.sort_unstable();
        Ok(written)
    }

    /// Writes the rows that are free. The others are merged into another row, or left out.
    async fn write_free<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        rows: Vec<Row>,
        written: &mut Written,
        lost: &mut HashMap<i64, RecordPosition>,
    ) -> Result<(), T::Error> {
        let names = |rows: &[Row]| model.rules.taken_name.map(|name| texts(rows, name.column));
        let rows = self.resolve_names(table, model, rows, written).await?;
        let (mut rows, mut raised) = self.merge_alike(table, model, rows, written).await?;
        self.warn_of_addresses(table, model, &rows, &mut written.findings).await?;
        let mut is_settled = false;
        for round in 0..ROUNDS {
            let replaced = self.replace_taken(table, model, &mut rows, &mut written.findings).await?;
            let Inserted { ids, mut breaking } = table.insert_free(model, &rows).await?;
            let free: HashSet<i64> = ids.into_iter().collect();
            let (inserted, mut refused): (Vec<Row>, Vec<Row>) =
                rows.into_iter().partition(|row| free.contains(&row.id));
            written.insert(model, &inserted);
            let mut is_lowered =
                lower_breaking(model, &mut refused, &mut breaking, &mut raised, &mut written.findings);
            let refused = self.drop_breaking(model, refused, breaking, written, lost);
            // The database may treat two names as the same that this code does not. Then a row that was just inserted
            // has one of them.
            let before = names(&refused);
            rows = self.resolve_names(table, model, refused, written).await?;
            // The look-up after the refusal has found nobody with these names, and no value was replaced. So the
            // database refuses the rows for a reason that no rule can repair.
            let is_final = round > 0 && !replaced && !is_lowered && names(&rows) == before;
            if is_final {
                is_lowered = lower_all(model, &mut rows, &mut raised, &mut written.findings);
            }
            is_settled = rows.is_empty() || (is_final && !is_lowered);
            if is_settled {
                break;
            }
        }
        if !is_settled && model.rules.taken_name.is_some() {
            // Another writer took a name between the query and the insert, so the whole chunk must be checked
            // again.
            return Err(WriteError::UniqueConflict { table: model.table.clone() }.into());
        }
        self.drop_duplicates(model, &rows, written, lost);
        Ok(())
    }

    /// Applies the rules by which a record is mapped to an existing row. Returns the rows that are to be inserted.
    async fn resolve_names<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        rows: Vec<Row>,
        written: &mut Written,
    ) -> Result<Vec<Row>, T::Error> {
        let Some(TakenName { column, suffix_up_to: suffix }) = model.rules.taken_name else {
            return Ok(rows);
        };
        if rows.is_empty() {
            return Ok(rows);
        }
        let definition = model.columns.get(column).ok_or_else(|| no_column(model))?;
        table.lock(model, self.env.now()).await?;

        let mut taken: HashMap<String, i64> = HashMap::new();
        let mut keep = Vec::with_capacity(rows.len());
        let mut to_suffix = Vec::new();
        let here = table.rows_with(model, definition, texts(&rows, column)).await?;
        // In the order of the file: the first one keeps the name.
        let mut rows = rows;
        rows.sort_by_key(|row| row.ordinal);
        for row in rows {
            let name = text_of(model, &row, column)?;
            let folded = name.to_lowercase();
            let holder = here.get(&name).copied().or_else(|| taken.get(&folded).copied());
            match holder {
                None => {
                    taken.insert(folded, row.id);
                    keep.push(row);
                }
                Some(id) if suffix.is_none() || self.merge_users => {
                    written.keys.existing.push((row.source_pk, id));
                    if suffix.is_some() {
                        let holder = if id > MAX_PK {
                            "an earlier record of the file".to_owned()
                        } else {
                            id.to_string()
                        };
                        let reason = format!(
                            "is taken by {holder}, into which the record {}",
                            self.tense.words("was merged", "would be merged")
                        );
                        written.findings.push(row.place(
                            model,
                            Finding::new(FindingKind::UserMerged, reason).field(&definition.field),
                        ));
                    }
                    written.merged.push((id, row));
                }
                Some(_) => to_suffix.push((row, name)),
            }
        }
        if let Some(max_length) = suffix {
            self.suffix(
                table,
                model,
                definition,
                column,
                max_length,
                to_suffix,
                &mut taken,
                &mut keep,
                &mut written.findings,
            )
            .await?;
        }
        keep.sort_by_key(|row| row.source_pk);
        Ok(keep)
    }

    /// Gives a free name to each row with a name that is taken.
    #[expect(clippy::too_many_arguments, reason = "one step of resolve_names, split off for its length")]
    async fn suffix<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        definition: &Column,
        column: usize,
        max_length: usize,
        mut rows: Vec<(Row, String)>,
        taken: &mut HashMap<String, i64>,
        keep: &mut Vec<Row>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), T::Error> {
        for _ in 0..ROUNDS {
            if rows.is_empty() {
                return Ok(());
            }
            for (row, name) in &mut rows {
                let base: String = name.chars().take(max_length.saturating_sub(SUFFIX + 1)).collect();
                *row.values.get_mut(column).ok_or_else(|| no_column(model))? =
                    Value::Text(format!("{base}-{}", self.env.characters(BASE36, SUFFIX)));
            }
            let candidates = rows
                .iter()
                .filter_map(|(row, _)| row.values.get(column)?.as_text().map(str::to_owned))
                .collect();
            let here = table.rows_with(model, definition, candidates).await?;
            let mut again = Vec::new();
            for (row, name) in rows {
                let new_name = text_of(model, &row, column)?;
                if here.contains_key(&new_name) || taken.contains_key(&new_name.to_lowercase()) {
                    again.push((row, name));
                    continue;
                }
                taken.insert(new_name.to_lowercase(), row.id);
                let name = shown(&name);
                let reason = match self.tense {
                    Tense::Happened => {
                        format!("`{name}` is taken; the record has `{}` now", shown(&new_name))
                    }
                    // The import will draw other suffixes.
                    Tense::Would => format!(
                        "`{name}` is taken; the record would have `{}-?`, with a random suffix",
                        new_name.rsplit_once('-').map_or("", |(base, _)| base)
                    ),
                };
                findings.push(row.place(
                    model,
                    Finding::new(FindingKind::UsernameChanged, reason).field(&definition.field),
                ));
                keep.push(row);
            }
            rows = again;
        }
        if rows.is_empty() {
            Ok(())
        } else {
            Err(WriteError::UniqueConflict { table: model.table.clone() }.into())
        }
    }

    /// Applies the rules by which a taken value is cleared or generated again. Returns whether there was one.
    async fn replace_taken<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        rows: &mut [Row],
        findings: &mut Vec<Finding>,
    ) -> Result<bool, T::Error> {
        let mut replaced = false;
        for rule in &model.rules.if_taken {
            let column = &rule.column;
            let definition = model.columns.get(*column).ok_or_else(|| no_column(model))?;
            let here = table.rows_with(model, definition, texts(rows, *column)).await?;
            let mut seen = HashSet::new();
            // In the order of the file: the first one keeps the value.
            let mut in_file_order: Vec<&mut Row> = rows.iter_mut().collect();
            in_file_order.sort_by_key(|row| row.ordinal);
            for row in in_file_order {
                let Some(text) = row.values.get(*column).and_then(Value::as_text).map(str::to_owned) else {
                    continue;
                };
                let same = if rule.ignores_case { text.to_lowercase() } else { text.clone() };
                if !here.contains_key(&text) && seen.insert(same) {
                    continue;
                }
                replaced = true;
                match &rule.then {
                    Then::Clear { also } => {
                        for column in also.iter().chain([column]) {
                            if let Some(value) = row.values.get_mut(*column) {
                                *value = Value::Null;
                            }
                        }
                        let finding = Finding::new(
                            FindingKind::TokenCleared,
                            format!(
                                "is taken by another row, and {}",
                                self.tense.words("was cleared", "would be cleared")
                            ),
                        );
                        findings.push(row.place(model, finding.field(&definition.field)));
                    }
                    Then::Regenerate { by, last_characters } => {
                        let made =
                            Regenerated { column: *column, by: *by, last_characters: *last_characters };
                        findings.push(self.regenerate(model, row, made, "is taken by another row")?);
                    }
                }
            }
        }
        Ok(replaced)
    }
}

/// The name of a row. No column for a name can be null.
fn text_of(model: &Model, row: &Row, column: usize) -> Result<String, WriteError> {
    let text = row.values.get(column).and_then(Value::as_text);
    text.map(str::to_owned).ok_or_else(|| no_column(model))
}

fn texts(rows: &[Row], column: usize) -> Vec<String> {
    rows.iter().filter_map(|row| row.values.get(column)?.as_text().map(str::to_owned)).collect()
}
