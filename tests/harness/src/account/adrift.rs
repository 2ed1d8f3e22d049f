//! Records that refer to nothing, or are of use only to what refers to them: they go with whatever refers to them.

use std::collections::{HashMap, HashSet};

use causeway_relocation::catalog::Scope;

use super::{case::AuditCase, family::is_of_integration, fates::is_cleared, file::FileRecord};

/// Models whose records may refer to nothing and are referred to.
const MODELS: &[&str] = &["sentry.alertrule", "sentry.snubaquery", "sentry.timeseriessnapshot"];
/// Those of them that are of use only to what refers to them.
const NEEDY: &[&str] = &["sentry.snubaquery"];
const ORGANIZATION: &str = "sentry.organization";
const USER: &str = "sentry.user";

type Key = (String, i64);

/// Whose a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Wanted,
    Unwanted,
    Nobodys,
    /// Something that it needs is not imported. Whether it belongs to a wanted organization.
    Lost(bool),
}

/// Records that nothing refers to which is imported.
#[derive(Debug, Default)]
pub(super) struct Adrift {
    /// The filter leaves them out.
    pub(super) filtered: HashSet<Key>,
    /// They would be of no use.
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

    fn whose(&self, record: &FileRecord, known: &HashMap<Key, Whose>) -> Whose {
        let of_user =
            self.catalog.model(&record.model).is_some_and(|model| model.scopes.contains(&Scope::User));
        let (mut wanted, mut unwanted, mut hangs) = (false, false, false);
        let mut lost = is_of_integration(record);
        for (field, target) in self.leads_to(record) {
            let whose = known.get(&target).copied();
            match whose {
                Some(Whose::Wanted) => {
                    wanted = true;
                    hangs |= target.0 != USER;
                }
                _ if is_cleared(&record.model, &field) => {}
                Some(Whose::Unwanted) if target.0 == USER && !of_user => lost = true,
                Some(Whose::Unwanted) => unwanted = true,
                Some(Whose::Nobodys) => {}
                Some(Whose::Lost(_)) | None => lost = true,
            }
        }
        match (unwanted, lost, wanted) {
            (true, ..) => Whose::Unwanted,
            (_, true, _) => Whose::Lost(hangs),
            (_, _, true) if !NEEDY.contains(&record.model.as_str()) => Whose::Wanted,
            _ => Whose::Nobodys,
        }
    }

    /// The records that hang from nothing and that nothing refers to which the filter takes, if there is one; and those
    /// that nothing needs.
    pub(super) fn adrift(&self, filter: Option<(&HashSet<i64>, &HashSet<i64>)>) -> Adrift {
        let mut known: HashMap<Key, Whose> = HashMap::new();
        for model in self.catalog.models().iter().filter(|model| model.in_organization_scope()) {
            for record in self.records_of(&model.name) {
                let selected = match (model.name.as_str(), filter) {
                    (ORGANIZATION | USER, None) => Some(true),
                    (ORGANIZATION, Some((organizations, _))) => Some(organizations.contains(&record.pk)),
                    (USER, Some((_, users))) => Some(users.contains(&record.pk)),
                    _ => None,
                };
                let whose = match selected {
                    Some(true) => Whose::Wanted,
                    Some(false) => Whose::Unwanted,
                    None => match self.whose(&record, &known) {
                        // Nobody asks whose a rule is that stands alone.
                        Whose::Nobodys if filter.is_none() && model.name == "sentry.alertrule" => {
                            Whose::Wanted
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
                if known.get(&(record.model.clone(), record.pk)) == Some(&Whose::Wanted) {
                    let targets = self.leads_to(record).into_iter().map(|(_, target)| target);
                    reached.extend(targets.filter(|target| {
                        MODELS.contains(&target.0.as_str()) && known.get(target) == Some(&Whose::Nobodys)
                    }));
                }
            }
            if reached.is_empty() {
                break;
            }
            known.extend(reached.into_iter().map(|key| (key, Whose::Wanted)));
        }
        let missed: HashSet<Key> = self
            .records
            .iter()
            .filter(|it| known.get(&(it.model.clone(), it.pk)) == Some(&Whose::Lost(true)))
            .flat_map(|record| self.leads_to(record).into_iter().map(|(_, target)| target))
            .collect();
        let mut adrift = Adrift::default();
        for (key, whose) in known {
            let (model, is_needy) = (key.0.as_str(), NEEDY.contains(&key.0.as_str()));
            if whose != Whose::Nobodys || !MODELS.contains(&model) {
                continue;
            }
            if is_needy && (filter.is_none() || missed.contains(&key)) {
                adrift.unreferred.insert(key);
            } else if filter.is_some() {
                adrift.filtered.insert(key);
            }
        }
        adrift
    }
}
