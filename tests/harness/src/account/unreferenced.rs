//! Unreferenced records: records that refer to nothing, or that are of use only to the records that refer to them. The
//! import takes such a record only together with a record that refers to it.

use std::collections::{HashMap, HashSet};

use causeway_relocation::catalog::Scope;

use super::{case::AuditCase, family::is_of_integration, file::FileRecord, outcomes::is_cleared};

/// Models whose records may have no references of their own while others refer to them.
const MODELS: &[&str] = &["sentry.alertrule", "sentry.snubaquery", "sentry.timeseriessnapshot"];
/// Those of `MODELS` whose records are of use only to the records that refer to them.
const DEPENDENT_MODELS: &[&str] = &["sentry.snubaquery"];
const ORGANIZATION: &str = "sentry.organization";
const USER: &str = "sentry.user";

type Key = (String, i64);

/// Whether a record belongs to an organization or user that the filter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    Wanted,
    Unwanted,
    Unowned,
    /// A record that it needs is not imported. The flag shows whether it belongs to a wanted organization.
    Lost(bool),
}

/// Records of `MODELS` that no imported record refers to.
#[derive(Debug, Default)]
pub(super) struct Unreferenced {
    /// The filter excludes these.
    pub(super) filtered: HashSet<Key>,
    /// The import drops these, because no imported record needs them.
    pub(super) unreferred: HashSet<Key>,
}

impl AuditCase<'_> {
    fn leads_to(&self, record: &FileRecord) -> Vec<(String, Key)> {
        let Some(model) = self.catalog.model(&record.model) else { return Vec::new() };
        let references = model.columns.iter().filter_map(|column| {
            Some((column.field.clone(), (column.references.clone()?, record.pk_in(&column.field)?)))
        });
        references.collect()
    }

    fn whose(&self, record: &FileRecord, known: &HashMap<Key, Ownership>) -> Ownership {
        let of_user =
            self.catalog.model(&record.model).is_some_and(|model| model.scopes.contains(&Scope::User));
        let (mut wanted, mut unwanted, mut hangs) = (false, false, false);
        let mut lost = is_of_integration(record);
        for (field, target) in self.leads_to(record) {
            let whose = known.get(&target).copied();
            match whose {
                Some(Ownership::Wanted) => {
                    wanted = true;
                    hangs |= target.0 != USER;
                }
                _ if is_cleared(&record.model, &field) => {}
                Some(Ownership::Unwanted) if target.0 == USER && !of_user => lost = true,
                Some(Ownership::Unwanted) => unwanted = true,
                Some(Ownership::Unowned) => {}
                Some(Ownership::Lost(_)) | None => lost = true,
            }
        }
        match (unwanted, lost, wanted) {
            (true, ..) => Ownership::Unwanted,
            (_, true, _) => Ownership::Lost(hangs),
            (_, _, true) if !DEPENDENT_MODELS.contains(&record.model.as_str()) => Ownership::Wanted,
            _ => Ownership::Unowned,
        }
    }

    /// Finds the records of `MODELS` that belong to no organization and that no wanted record refers to. A filter
    /// excludes them. Records of `DEPENDENT_MODELS` are dropped instead if there is no filter, or if a lost record of a wanted
    /// organization refers to them.
    pub(super) fn unreferenced(&self, filter: Option<(&HashSet<i64>, &HashSet<i64>)>) -> Unreferenced {
        let mut known: HashMap<Key, Ownership> = HashMap::new();
        for model in self.catalog.models().iter().filter(|model| model.in_organization_scope()) {
            for record in self.records_of(&model.name) {
                let selected = match (model.name.as_str(), filter) {
                    (ORGANIZATION | USER, None) => Some(true),
                    (ORGANIZATION, Some((organizations, _))) => Some(organizations.contains(&record.pk)),
                    (USER, Some((_, users))) => Some(users.contains(&record.pk)),
                    _ => None,
                };
                let whose = match selected {
                    Some(true) => Ownership::Wanted,
                    Some(false) => Ownership::Unwanted,
                    None => match self.whose(&record, &known) {
                        // Without a filter, an alert rule is imported even if nothing refers to it.
                        Ownership::Unowned if filter.is_none() && model.name == "sentry.alertrule" => {
                            Ownership::Wanted
                        }
                        whose => whose,
                    },
                };
                known.insert((model.name.clone(), record.pk), whose);
            }
        }
        loop {
            let mut reached = Vec::new();
            for record in &self.records {
                if known.get(&(record.model.clone(), record.pk)) == Some(&Ownership::Wanted) {
                    let targets = self.leads_to(record).into_iter().map(|(_, target)| target);
                    reached.extend(targets.filter(|target| {
                        MODELS.contains(&target.0.as_str()) && known.get(target) == Some(&Ownership::Unowned)
                    }));
                }
            }
            if reached.is_empty() {
                break;
            }
            known.extend(reached.into_iter().map(|key| (key, Ownership::Wanted)));
        }
        let missed: HashSet<Key> = self
            .records
            .iter()
            .filter(|it| known.get(&(it.model.clone(), it.pk)) == Some(&Ownership::Lost(true)))
            .flat_map(|record| self.leads_to(record).into_iter().map(|(_, target)| target))
            .collect();
        let mut unreferenced = Unreferenced::default();
        for (key, whose) in known {
            let (model, is_needy) = (key.0.as_str(), DEPENDENT_MODELS.contains(&key.0.as_str()));
            if whose != Ownership::Unowned || !MODELS.contains(&model) {
                continue;
            }
            if is_needy && (filter.is_none() || missed.contains(&key)) {
                unreferenced.unreferred.insert(key);
            } else if filter.is_some() {
                unreferenced.filtered.insert(key);
            }
        }
        unreferenced
    }
}
