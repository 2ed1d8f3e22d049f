//! Records that refer to nothing and are referred to, such as queries of alert rules. No reference of theirs says whose
//! they are, so under a filter they go with the records that refer to them.

use std::collections::{BTreeSet, HashMap};

use roaring::RoaringTreemap;

use super::{Plan, Record, Selection, Watch, stopped};
use crate::{
    ambient::Ambient,
    catalog::{Catalog, Model, ORGANIZATION, Rule, USER},
    export::ExportError,
};

/// Whose a record is, as far as its references say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belongs {
    /// To what the filter takes.
    Here,
    /// To what it leaves out.
    Elsewhere,
    /// To nothing.
    Nowhere,
}

/// What is known of the records of a model: those that are in none of the two belong here, or are not in the file.
#[derive(Debug, Default)]
struct Known {
    elsewhere: RoaringTreemap,
    nowhere: RoaringTreemap,
}

fn unsigned(pk: i64) -> u64 {
    u64::try_from(pk).unwrap_or(0)
}

/// The set references of a record: the model that each leads to, and where. One that is cleared if it leads to nothing
/// imported does not say whose a record is.
fn references<'r>(
    catalog: &'r Catalog,
    model: &'r Model,
    record: &'r Record,
) -> impl Iterator<Item = (&'r Model, i64)> {
    model.columns.iter().zip(&record.values).enumerate().filter_map(|(index, (column, value))| {
        if model.rules.contains(&Rule::ClearIfUnmapped { column: index }) {
            return None;
        }
        let target = catalog.model(column.references.as_deref()?)?;
        Some((target, value.as_int()?))
    })
}

/// Models of which the filter itself says what it takes.
fn is_selected(model: &Model) -> bool {
    matches!(model.name.as_str(), ORGANIZATION | USER)
}

/// The written models that a model refers to, without those of which the filter itself says what it takes.
fn targets<'c>(catalog: &'c Catalog, model: &'c Model) -> impl Iterator<Item = &'c Model> {
    let names = model.columns.iter().filter_map(|column| column.references.as_deref());
    let models = names.filter_map(|name| catalog.model(name));
    models.filter(|target| target.in_organization_scope() && !is_selected(target))
}

/// Whether a record of this model may refer to nothing.
fn may_drift(model: &Model) -> bool {
    model.columns.iter().all(|column| column.references.is_none() || column.null)
}

/// Models whose records may be adrift, and those that refer to them, in the order of writing.
fn concerned(catalog: &Catalog) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut adrift, mut referrers) = (BTreeSet::new(), BTreeSet::new());
    for model in catalog.written() {
        for target in targets(catalog, model).filter(|target| may_drift(target)) {
            adrift.insert(target.position);
            referrers.insert(model.position);
        }
    }
    (adrift, referrers)
}

impl Plan {
    /// Finds the records that hang from nothing and that nothing refers to which the filter takes. Reads the models
    /// that are concerned twice: forth, to know whose each record is, and back again.
    pub(super) fn find_adrift(
        &self,
        catalog: &Catalog,
        ambient: &Ambient,
        selection: &mut Selection,
        watch: &Watch,
    ) -> Result<(), ExportError> {
        let (adrift, referrers) = concerned(catalog);
        if adrift.iter().all(|position| self.models.get(*position).is_none_or(|plan| plan.seen == 0)) {
            return Ok(());
        }
        let mut all: BTreeSet<usize> = referrers.union(&adrift).copied().collect();
        for model in catalog.models().iter().rev() {
            if all.contains(&model.position) {
                all.extend(targets(catalog, model).map(|target| target.position));
            }
        }
        let each = |position: usize, take: &mut dyn FnMut(&Model, &Record)| -> Result<(), ExportError> {
            let Some(model) = catalog.models().get(position) else { return Ok(()) };
            let mut reader = self.reader(model, ambient, 1)?;
            while let Some(record) = reader.next_record()? {
                stopped(watch)?;
                take(model, &record);
            }
            Ok(())
        };

        let mut known: HashMap<usize, Known> = HashMap::new();
        for position in &all {
            let mut of_model = Known::default();
            each(*position, &mut |model, record| match belongs(catalog, selection, &known, model, record) {
                Belongs::Here => {}
                Belongs::Elsewhere => drop(of_model.elsewhere.insert(unsigned(record.source_pk))),
                Belongs::Nowhere => drop(of_model.nowhere.insert(unsigned(record.source_pk))),
            })?;
            known.insert(*position, of_model);
        }
        // What refers to a record is written after it: from the last model to the first, all that refers to one is known.
        let mut unwanted: HashMap<usize, RoaringTreemap> = HashMap::new();
        for position in &adrift {
            let nowhere = known.get(position).map(|known| known.nowhere.clone());
            unwanted.insert(*position, nowhere.unwrap_or_default());
        }
        for position in referrers.iter().rev() {
            let Some(of_model) = known.get(position) else { continue };
            each(*position, &mut |model, record| {
                let pk = unsigned(record.source_pk);
                let wanted = match unwanted.get(position) {
                    Some(unwanted) => !unwanted.contains(pk),
                    None => !of_model.nowhere.contains(pk),
                };
                if wanted && !of_model.elsewhere.contains(pk) {
                    for (target, pk) in references(catalog, model, record) {
                        if let Some(unwanted) = unwanted.get_mut(&target.position) {
                            unwanted.remove(unsigned(pk));
                        }
                    }
                }
            })?;
        }
        selection.leave(unwanted);
        Ok(())
    }
}

/// Whose a record is. All models that it refers to are known.
fn belongs(
    catalog: &Catalog,
    selection: &Selection,
    known: &HashMap<usize, Known>,
    model: &Model,
    record: &Record,
) -> Belongs {
    let mut here = false;
    for (target, pk) in references(catalog, model, record) {
        let to = match known.get(&target.position) {
            _ if is_selected(target) && selection.takes(target, pk, None) => Belongs::Here,
            _ if is_selected(target) => Belongs::Elsewhere,
            Some(of_target) if of_target.elsewhere.contains(unsigned(pk)) => Belongs::Elsewhere,
            Some(of_target) if of_target.nowhere.contains(unsigned(pk)) => Belongs::Nowhere,
            Some(_) => Belongs::Here,
            None => Belongs::Nowhere,
        };
        match to {
            // Who has made something does not decide whose it is.
            Belongs::Elsewhere if target.name != USER || model.is_user_scoped() => return Belongs::Elsewhere,
            Belongs::Elsewhere | Belongs::Nowhere => {}
            Belongs::Here => here = true,
        }
    }
    if here { Belongs::Here } else { Belongs::Nowhere }
}
