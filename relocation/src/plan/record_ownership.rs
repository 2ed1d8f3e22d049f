//! Follows references to find out what happens to each record of a file, and which organization it belongs to. For that
//! it reads models again, in the order of writing, so that everything that a record refers to is known before. It reads
//! only the models that a caller needs, and those that they refer to.

use std::collections::{BTreeSet, HashMap};

use causeway_silo::env::Environment;
use roaring::RoaringTreemap;

use super::{Plan, PlanningProgress, no_model, stopped};
use crate::{
    catalog::{Catalog, Model, ORGANIZATION, USER},
    export::{Decoder, ExportError, RawRecord},
    value::Value,
};

/// What happens to a record, according to its references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It is imported: none of its references prevents that.
    Imported,
    /// It is dropped, because something that it refers to is not imported.
    Dropped,
    /// It belongs to something that the filter excludes.
    FilteredOut,
    /// It belongs to nothing. The records that refer to it decide.
    Unowned,
}

/// What follows from the references of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) disposition: Disposition,
    /// It refers to a record that is imported and is not a user.
    pub(super) refers_to_imported: bool,
    /// The primary key of the organization that it belongs to.
    organization: Option<u64>,
    /// It belongs to two organizations.
    pub(super) is_in_two_organizations: bool,
}

impl Verdict {
    /// Whether the record concerns only what the filter excludes.
    pub(super) fn is_left_out(&self) -> bool {
        self.disposition == Disposition::FilteredOut
            && !(self.is_in_two_organizations && self.refers_to_imported)
    }
}

/// A record of which only the references are decoded.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) ordinal: i64,
    pub(super) source_pk: i64,
    pub(super) offset: u64,
    /// By column: its references, and its e-mail address if it has one. All other columns are null.
    pub(super) values: Vec<Value>,
}

/// What has been learned about the records of a model: a set of primary keys for each result. A record that is in none
/// of the sets is not in the file.
#[derive(Debug, Default)]
struct Known {
    here: RoaringTreemap,
    lost: RoaringTreemap,
    elsewhere: RoaringTreemap,
    unowned: RoaringTreemap,
    organizations: Organizations,
    /// The offsets of records that belong to two organizations.
    of_two: RoaringTreemap,
}

impl Known {
    fn disposition(&self, pk: u64) -> Option<Disposition> {
        // If a primary key occurs twice, it counts as excluded only if both records are.
        [
            (&self.here, Disposition::Imported),
            (&self.lost, Disposition::Dropped),
            (&self.unowned, Disposition::Unowned),
            (&self.elsewhere, Disposition::FilteredOut),
        ]
        .into_iter()
        .find_map(|(pks, disposition)| pks.contains(pk).then_some(disposition))
    }

    fn add(&mut self, pk: u64, verdict: Verdict) {
        match verdict.disposition {
            Disposition::Imported => &mut self.here,
            Disposition::Dropped => &mut self.lost,
            Disposition::FilteredOut => &mut self.elsewhere,
            Disposition::Unowned => &mut self.unowned,
        }
        .insert(pk);
    }
}

/// Which organization each primary key belongs to. A run of neighbouring keys of one organization takes 16 bytes,
/// however long it is.
#[derive(Debug, Default)]
struct Organizations {
    /// The first primary key of each run, and the organization of the run; 0 for none.
    runs: Vec<(u64, u64)>,
    /// The last primary key that was added.
    last: u64,
    /// A key came after a larger one. Then the runs are known only when all keys have come.
    unsorted: bool,
    /// Build the runs at the end, not while keys are added.
    whole: bool,
}

impl Organizations {
    fn add(&mut self, pk: u64, organization: Option<u64>) {
        let organization = organization.unwrap_or(0);
        self.unsorted |= pk < std::mem::replace(&mut self.last, pk);
        if self.whole || self.runs.last().is_none_or(|(_, of)| *of != organization) {
            self.runs.push((pk, organization));
        }
    }

    /// Ends the adding of keys. Returns `false` if all keys must be added again, to an instance with `whole`.
    fn finish(&mut self) -> bool {
        if self.whole {
            self.runs.sort_unstable();
            self.runs.dedup_by_key(|(_, organization)| *organization);
        }
        self.runs.shrink_to_fit();
        self.whole || !self.unsorted
    }

    fn get(&self, pk: u64) -> Option<u64> {
        let index = self.runs.partition_point(|(first, _)| *first <= pk);
        self.runs.get(index.checked_sub(1)?).map(|(_, organization)| *organization).filter(|it| *it > 0)
    }
}

/// A primary key for a set of them; 0, which no record has, if it is negative.
pub(super) fn unsigned(pk: i64) -> u64 {
    u64::try_from(pk).unwrap_or(0)
}

/// Finds out what the records of a file belong to.
pub(super) struct RecordOwnership<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) plan: &'a Plan,
    pub(super) env: &'a Environment,
    watch: &'a PlanningProgress,
    known: HashMap<usize, Known>,
    /// The file has several organizations. Otherwise no record belongs to two.
    several: bool,
}

impl<'a> RecordOwnership<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        plan: &'a Plan,
        env: &'a Environment,
        watch: &'a PlanningProgress,
    ) -> Self {
        let several = catalog.model(ORGANIZATION).is_some_and(|model| plan.record_count(model) > 1);
        Self { catalog, plan, env, watch, known: HashMap::new(), several }
    }

    /// Returns [`ExportError::Stopped`] if planning is to stop.
    pub(super) fn stopped(&self) -> Result<(), ExportError> {
        stopped(self.watch)
    }

    /// Calls `take` with each record of a model.
    pub(super) fn each(
        &self,
        model: &Model,
        mut take: impl FnMut(Linked) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let decoder = Decoder::new(self.env, self.plan.now);
        self.plan.each_raw(model, |ordinal, offset, raw| {
            stopped(self.watch)?;
            let values = links(&decoder, model, &raw);
            take(Linked { ordinal, source_pk: raw.pk, offset, values })
        })
    }

    /// Determines the verdict on all records of these models, and of the models that they refer to.
    pub(super) fn learn(&mut self, positions: impl IntoIterator<Item = usize>) -> Result<(), ExportError> {
        let mut all: BTreeSet<usize> = positions.into_iter().collect();
        for model in self.catalog.models().iter().rev() {
            if all.contains(&model.position) {
                all.extend(targets(self.catalog, model).map(|target| target.position));
            }
        }
        for position in all {
            let model = self.catalog.models().get(position).ok_or_else(no_model)?;
            if self.known.contains_key(&position) {
                continue;
            }
            let mut known = Known::default();
            self.each(model, |record| {
                let verdict = self.verdict(model, record.source_pk, &record.values);
                known.add(unsigned(record.source_pk), verdict);
                if self.several {
                    known.organizations.add(unsigned(record.source_pk), verdict.organization);
                }
                if verdict.is_in_two_organizations {
                    known.of_two.insert(record.offset);
                }
                Ok(())
            })?;
            if !known.organizations.finish() {
                let mut organizations = Organizations { whole: true, ..Organizations::default() };
                self.each(model, |record| {
                    let verdict = self.verdict(model, record.source_pk, &record.values);
                    organizations.add(unsigned(record.source_pk), verdict.organization);
                    Ok(())
                })?;
                organizations.finish();
                known.organizations = organizations;
            }
            self.known.insert(position, known);
        }
        Ok(())
    }

    /// The verdict on a record. The models that it refers to must have been learned.
    pub(super) fn verdict(&self, model: &Model, pk: i64, values: &[Value]) -> Verdict {
        if is_selected(model) {
            let taken = self.plan.selection.as_ref().is_none_or(|selection| selection.takes(model, pk, None));
            return Verdict {
                disposition: if taken { Disposition::Imported } else { Disposition::FilteredOut },
                refers_to_imported: taken,
                organization: (model.name == ORGANIZATION).then_some(unsigned(pk)),
                is_in_two_organizations: false,
            };
        }
        let mut organization: Option<u64> = None;
        let (mut here, mut lost, mut elsewhere, mut refers_to_imported, mut is_in_two_organizations) =
            (false, model.rules.is_of_another_scope(values), false, false, false);
        for (index, (column, value)) in model.columns.iter().zip(values).enumerate() {
            let (Some(name), Some(pk)) = (column.references.as_deref(), value.as_int()) else { continue };
            let target = column.target.and_then(|target| self.known.get(&target));
            let disposition = target.and_then(|target| target.disposition(unsigned(pk)));
            if disposition != Some(Disposition::Imported) && model.rules.clear_if_unmapped.contains(&index) {
                continue;
            }
            match disposition {
                Some(Disposition::Imported) => {
                    here = true;
                    refers_to_imported |= name != USER;
                }
                // The user who made a record does not decide what it belongs to, but the record cannot be imported
                // without the user.
                Some(Disposition::FilteredOut) if name == USER && !model.is_user_scoped() => lost = true,
                Some(Disposition::FilteredOut) => elsewhere = true,
                Some(Disposition::Unowned) => {}
                Some(Disposition::Dropped) | None => lost = true,
            }
            let of_target = target.filter(|_| disposition.is_some() && name != USER);
            if let Some(found) = of_target.and_then(|target| target.organizations.get(unsigned(pk))) {
                is_in_two_organizations |= organization.is_some_and(|before| before != found);
                organization = organization.or(Some(found));
            }
        }
        let disposition = match (elsewhere, lost, here) {
            (true, _, _) => Disposition::FilteredOut,
            (_, true, _) => Disposition::Dropped,
            (_, _, true) if !model.rules.only_if_referred => Disposition::Imported,
            _ => Disposition::Unowned,
        };
        // A record that refers to a record of two organizations counts for neither of them: one finding is enough.
        Verdict {
            disposition,
            refers_to_imported,
            organization: organization.filter(|_| !is_in_two_organizations),
            is_in_two_organizations,
        }
    }

    /// What happens to the record that a reference points to. `None` if it is not in the file, or its model has not
    /// been learned.
    pub(super) fn disposition(&self, target: &Model, pk: i64) -> Option<Disposition> {
        self.known.get(&target.position)?.disposition(unsigned(pk))
    }

    /// The primary keys of the records of a model that belong to nothing.
    ///
    /// # Errors
    /// If the model has not been learned.
    pub(super) fn unowned(&self, position: usize) -> Result<RoaringTreemap, ExportError> {
        let known = self.known.get(&position);
        let known = known.ok_or_else(|| ExportError::inconsistent("a model was not read to its end"))?;
        Ok(known.unowned.clone())
    }

    /// Finds the records that belong to two organizations: their offsets, by the position of their model.
    pub(super) fn find_in_two_organizations(
        &mut self,
    ) -> Result<HashMap<usize, RoaringTreemap>, ExportError> {
        if !self.several {
            return Ok(HashMap::new());
        }
        let catalog = self.catalog;
        let may_be = catalog.written().filter(|model| {
            let leads = |target: &Option<usize>| {
                let target = target.and_then(|target| catalog.models().get(target));
                target.is_some_and(|target| target.in_organization_scope() && !target.is_user_scoped())
            };
            self.plan.record_count(model) > 0
                && model.columns.iter().filter(|column| leads(&column.target)).count() > 1
        });
        let positions: Vec<usize> = may_be.map(|model| model.position).collect();
        self.learn(positions)?;
        let found = self.known.iter_mut().filter(|(_, known)| !known.of_two.is_empty());
        Ok(found.map(|(position, known)| (*position, std::mem::take(&mut known.of_two))).collect())
    }
}

/// The references of a record, and its e-mail address, by which the filter selects some records.
pub(super) fn links(decoder: &Decoder<'_>, model: &Model, raw: &RawRecord<'_>) -> Vec<Value> {
    decoder.salvage(model, raw.fields, |column| column.references.is_some() || column.field == "email")
}

/// Whether the filter selects the records of this model itself, and not by their references.
pub(super) fn is_selected(model: &Model) -> bool {
    matches!(model.name.as_str(), ORGANIZATION | USER)
}

/// The models that a model refers to and that an import writes.
pub(super) fn targets<'c>(catalog: &'c Catalog, model: &'c Model) -> impl Iterator<Item = &'c Model> {
    let targets = model.columns.iter().filter_map(|column| catalog.models().get(column.target?));
    targets.filter(|target| target.in_organization_scope())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_organization_are_one_run_in_any_order() {
        let mut organizations = Organizations::default();
        for pk in 1..=1_000 {
            organizations.add(pk, Some(1 + pk / 500));
        }
        organizations.add(2_000, None);
        assert!(organizations.finish());
        assert_eq!(organizations.runs.len(), 4);
        // In another order, a key between two keys of one organization may belong to another one.
        let order = (1..=1_000).filter(|pk| pk % 7 != 3).chain((1..=1_000).filter(|pk| pk % 7 == 3));
        let of = |pk: u64| if pk % 7 == 3 { 9 } else { 1 + pk / 500 };
        let mut shuffled = Organizations::default();
        order.clone().for_each(|pk| shuffled.add(pk, Some(of(pk))));
        assert!(!shuffled.finish());
        let mut shuffled = Organizations { whole: true, ..Organizations::default() };
        order.for_each(|pk| shuffled.add(pk, Some(of(pk))));
        assert!(shuffled.finish());
        for pk in 1..=1_000 {
            assert_eq!(organizations.get(pk), Some(1 + pk / 500));
            assert_eq!(shuffled.get(pk), Some(of(pk)));
        }
        assert_eq!(organizations.get(2_000), None);
    }
}
