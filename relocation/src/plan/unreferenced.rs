//! Records that are of use only to those that refer to them, such as queries of alert rules, and records that refer to
//! nothing. No reference of theirs says whose they are, so they go with those that refer to them.

use std::collections::{BTreeSet, HashMap};

use roaring::RoaringTreemap;

use super::{
    Selection,
    family::{Family, Whose, is_selected, targets},
};
use crate::{
    catalog::{Catalog, Model},
    export::ExportError,
};

/// Primary keys by the position of their model.
type Pks = HashMap<usize, RoaringTreemap>;

/// What becomes of records that nothing refers to.
#[derive(Debug, Default)]
pub(super) struct Adrift {
    /// They are no more wanted than what refers to them.
    pub(super) filtered: Pks,
    /// They would be of no use: all that refers to them is dropped, or nothing does.
    pub(super) unreferred: Pks,
}

fn unsigned(pk: i64) -> u64 {
    u64::try_from(pk).unwrap_or(0)
}

/// Whether a record of this model may refer to nothing.
fn may_drift(model: &Model) -> bool {
    model.rules.only_if_referred
        || model.columns.iter().all(|column| column.references.is_none() || column.null)
}

/// Models whose records may be unreferenced, and those that refer to them, in the order of writing. Without a filter a record
/// that refers to nothing is imported like any other, unless it needs those that refer to it.
fn concerned(catalog: &Catalog, selection: Option<&Selection>) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut unreferenced, mut referrers) = (BTreeSet::new(), BTreeSet::new());
    for model in catalog.written() {
        let drifting = targets(catalog, model).filter(|target| {
            may_drift(target)
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

impl Family<'_> {
    /// Finds the records that nothing refers to which is imported. Reads the models that are concerned twice: forth, to
    /// know whose each record is, and those that refer to others back again.
    pub(super) fn find_adrift(&mut self) -> Result<Adrift, ExportError> {
        let (catalog, selection) = (self.catalog, self.plan.selection.as_ref());
        let (unreferenced, referrers) = concerned(catalog, selection);
        let seen =
            |position: &usize| catalog.models().get(*position).is_some_and(|model| self.plan.seen(model) > 0);
        if !unreferenced.iter().any(seen) {
            return Ok(Adrift::default());
        }
        self.learn(referrers.union(&unreferenced).copied())?;
        // What refers to a record is written after it: from the last model to the first, all that refers to one is known.
        let mut unwanted: Pks =
            unreferenced.iter().map(|position| (*position, self.nowhere(*position))).collect();
        let mut missed = Pks::new();
        for position in referrers.iter().rev() {
            let Some(model) = catalog.models().get(*position) else { continue };
            self.each(model, |record| {
                let verdict = self.verdict(model, record.source_pk, &record.values);
                let is_wanted = match verdict.whose {
                    Whose::Here => true,
                    Whose::Nowhere => match unwanted.get(position) {
                        // If somebody refers to it, it is imported, and what it refers to as well.
                        Some(unwanted) => !unwanted.contains(unsigned(record.source_pk)),
                        // Without a filter, what may stand alone is imported. The rest hangs from what it refers to.
                        None => selection.is_none() && may_drift(model),
                    },
                    Whose::Lost | Whose::Elsewhere => false,
                };
                let is_missed = verdict.whose == Whose::Lost && verdict.hangs_here;
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
        let mut found = Adrift::default();
        for (position, mut pks) in unwanted {
            let needs = catalog.models().get(position).is_some_and(|model| model.rules.only_if_referred);
            if needs {
                let dropped = match selection {
                    Some(_) => &pks & &missed.remove(&position).unwrap_or_default(),
                    None => pks.clone(),
                };
                pks -= &dropped;
                found.unreferred.insert(position, dropped);
            }
            found.filtered.insert(position, pks);
        }
        found.filtered.retain(|_, pks| !pks.is_empty());
        found.unreferred.retain(|_, pks| !pks.is_empty());
        Ok(found)
    }
}
