//! Records that refer to nothing: under a filter they go with whatever refers to them.

use std::collections::{HashMap, HashSet};

use causeway_relocation::catalog::Scope;

use super::{case::Case, file::FileRecord};

/// Models whose records may refer to nothing and are referred to.
const MODELS: &[&str] = &["sentry.alertrule", "sentry.snubaquery", "sentry.timeseriessnapshot"];
const ORGANIZATION: &str = "sentry.organization";
const USER: &str = "sentry.user";

type Key = (String, i64);

/// Whose a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Wanted,
    Unwanted,
    Nobodys,
}

impl Case<'_> {
    fn leads_to(&self, record: &FileRecord) -> Vec<Key> {
        let Some(model) = self.catalog.model(&record.model) else { return Vec::new() };
        let references = model
            .columns
            .iter()
            .filter_map(|column| Some((column.references.clone()?, record.pk_in(&column.field)?)));
        references.collect()
    }

    fn whose(&self, record: &FileRecord, known: &HashMap<Key, Whose>) -> Whose {
        let of_user =
            self.catalog.model(&record.model).is_some_and(|model| model.scopes.contains(&Scope::User));
        let leads: Vec<(String, Whose)> = self
            .leads_to(record)
            .into_iter()
            .filter_map(|target| Some((target.0.clone(), *known.get(&target)?)))
            .collect();
        if leads.iter().any(|(target, whose)| *whose == Whose::Unwanted && (target != USER || of_user)) {
            Whose::Unwanted
        } else if leads.iter().any(|(_, whose)| *whose == Whose::Wanted) {
            Whose::Wanted
        } else {
            Whose::Nobodys
        }
    }

    /// The records that hang from nothing and that nothing refers to which the filter takes.
    pub(super) fn adrift(&self, organizations: &HashSet<i64>, users: &HashSet<i64>) -> HashSet<Key> {
        let mut known: HashMap<Key, Whose> = HashMap::new();
        for model in self.catalog.models() {
            for record in self.records_of(&model.name) {
                let selected = match model.name.as_str() {
                    ORGANIZATION => Some(organizations.contains(&record.pk)),
                    USER => Some(users.contains(&record.pk)),
                    _ => None,
                };
                let whose = match selected {
                    Some(true) => Whose::Wanted,
                    Some(false) => Whose::Unwanted,
                    None => self.whose(&record, &known),
                };
                known.insert((model.name.clone(), record.pk), whose);
            }
        }
        loop {
            let mut reached = Vec::new();
            for record in &self.records {
                if known.get(&(record.model.clone(), record.pk)) == Some(&Whose::Wanted) {
                    let targets = self.leads_to(record).into_iter().filter(|target| {
                        MODELS.contains(&target.0.as_str()) && known.get(target) == Some(&Whose::Nobodys)
                    });
                    reached.extend(targets);
                }
            }
            if reached.is_empty() {
                break;
            }
            known.extend(reached.into_iter().map(|key| (key, Whose::Wanted)));
        }
        let left = known
            .into_iter()
            .filter(|((model, _), whose)| *whose == Whose::Nobodys && MODELS.contains(&model.as_str()));
        left.map(|(key, _)| key).collect()
    }
}
