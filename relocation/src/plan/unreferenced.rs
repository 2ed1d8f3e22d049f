//! Records that are of use only to the records that refer to them, such as queries of alert rules, and records that
//! refer to nothing. Their references do not show what they belong to, so the records that refer to them decide.

use std::collections::{BTreeSet, HashMap};

use roaring::RoaringTreemap;

use super::{
    Selection, no_model,
    record_ownership::{Disposition, RecordOwnership, is_selected, targets, unsigned},
};
use crate::{
    catalog::{Catalog, Model},
    export::ExportError,
};

/// Primary keys by the position of their model.
type Pks = HashMap<usize, RoaringTreemap>;

/// Records that no imported record refers to.
#[derive(Debug, Default)]
pub(super) struct Unreferenced {
    /// They are filtered: no record that the filter selects refers to them.
    pub(super) filtered: Pks,
    /// They are dropped as of no use: all records that refer to them are dropped, or no record does.
    pub(super) useless: Pks,
}

/// Whether a record of this model may refer to nothing.
fn may_refer_to_nothing(model: &Model) -> bool {
    model.rules.only_if_referred
        || model.columns.iter().all(|column| column.references.is_none() || column.null)
}

/// The models with records that may be unreferenced, and the models that refer to them, in the order of writing.
/// Without a filter, a record that refers to nothing is imported like any other, unless it is of use only to the
/// records that refer to it.
fn concerned(catalog: &Catalog, selection: Option<&Selection>) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut unreferenced, mut referrers) = (BTreeSet::new(), BTreeSet::new());
    for model in catalog.written() {
        let drifting = targets(catalog, model).filter(|target| {
            may_refer_to_nothing(target)
                && !is_selected(target)
                && (selection.is_some() || target.rules.only_if_referred)
        });
        for target in drifting {
            unreferenced.insert(target.position);
            referrers.insert(model.position);
        }
    }
    (unreferenced, referrers)
}

impl RecordOwnership<'_> {
    /// Finds the records that no imported record refers to. Reads the models concerned twice: forward, to find out what
    /// each record belongs to, and then backward, only those that refer to others.
    pub(super) fn find_unreferenced(&mut self) -> Result<Unreferenced, ExportError> {
        let (catalog, selection) = (self.catalog, self.plan.selection.as_ref());
        let (unreferenced, referrers) = concerned(catalog, selection);
        let seen = |position: &usize| {
            catalog.models().get(*position).is_some_and(|model| self.plan.record_count(model) > 0)
        };
        if !unreferenced.iter().any(seen) {
            return Ok(Unreferenced::default());
        }
        self.learn(referrers.union(&unreferenced).copied())?;
        // A record that refers to another one is written after it. So from the last model to the first, all references
        // to a record are known when it is reached.
        let mut unwanted = Pks::new();
        for position in &unreferenced {
            unwanted.insert(*position, self.unowned(*position)?);
        }
        let mut missed = Pks::new();
        for position in referrers.iter().rev() {
            let model = catalog.models().get(*position).ok_or_else(no_model)?;
            self.each(model, |record| {
                let verdict = self.verdict(model, record.source_pk, &record.values);
                let is_wanted = match verdict.disposition {
                    Disposition::Imported => true,
                    Disposition::Unowned => match unwanted.get(position) {
                        // If an imported record refers to it, it is imported, and so is what it refers to.
                        Some(unwanted) => !unwanted.contains(unsigned(record.source_pk)),
                        // Without a filter, a record that may refer to nothing is imported. All others depend on what
                        // they refer to.
                        None => selection.is_none() && may_refer_to_nothing(model),
                    },
                    Disposition::Dropped | Disposition::FilteredOut => false,
                };
                let is_missed = verdict.disposition == Disposition::Dropped && verdict.refers_to_imported;
                for (column, value) in model.columns.iter().zip(&record.values) {
                    let (Some(target), Some(pk)) = (column.target, value.as_int()) else { continue };
                    if is_wanted && let Some(unwanted) = unwanted.get_mut(&target) {
                        unwanted.remove(unsigned(pk));
                    }
                    if is_missed {
                        missed.entry(target).or_default().insert(unsigned(pk));
                    }
                }
                Ok(())
            })?;
        }
        let mut found = Unreferenced::default();
        for (position, mut pks) in unwanted {
            let needs = catalog.models().get(position).is_some_and(|model| model.rules.only_if_referred);
            if needs {
                let dropped = match selection {
                    Some(_) => &pks & &missed.remove(&position).unwrap_or_default(),
                    None => pks.clone(),
                };
                pks -= &dropped;
                found.useless.insert(position, dropped);
            }
            found.filtered.insert(position, pks);
        }
        found.filtered.retain(|_, pks| !pks.is_empty());
        found.useless.retain(|_, pks| !pks.is_empty());
        Ok(found)
    }
}
