//! Which records a slug filter selects: the organizations with those slugs, the users who are members of them, and the
//! e-mail addresses of those users. All other records are decided by their references when they are written, except for
//! records without any.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, BuildHasherDefault},
    io,
};

use causeway_silo::env::Environment;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{
    Plan, PlanningProgress,
    bitmap::{bitmap_from_bytes, bitmap_to_bytes},
    checkpoint::Log,
    record_ownership::unsigned,
    steps::{PlanningStep, Selected},
    stopped,
};
use crate::{
    catalog::{Catalog, EMAIL, FromColumn, Model, ORGANIZATION, ORGANIZATION_MEMBER, USER, USER_EMAIL},
    export::ExportError,
    finding::{Finding, FindingKind, shown},
    value::Value,
};

/// How many records the filter reads between two frames of the log; they take some milliseconds.
const SELECTED: i64 = 5_000;

/// What a filter selects.
#[derive(Debug, Default)]
pub struct Selection {
    /// The slugs of the filter that are not in the export.
    pub missing: BTreeSet<String>,
    /// Whether the filter has no slug. Then nothing is imported, not even records that refer to nothing.
    nothing: bool,
    organizations: RoaringTreemap,
    users: RoaringTreemap,
    /// Hashes of addresses in lower case. A collision would select one e-mail address too many, which is harmless.
    emails: HashSet<u64>,
    /// Records that belong to nothing and that no selected record refers to, by the position of their model.
    unreferenced: HashMap<usize, RoaringTreemap>,
    /// Users and hashes of addresses that were added since the last `take_new`.
    fresh: (Vec<u64>, Vec<u64>),
}

/// A selection in its stored form.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedSelection {
    missing: BTreeSet<String>,
    organizations: Vec<u8>,
    users: Vec<u8>,
    unreferenced: Vec<(usize, Vec<u8>)>,
}

fn email_hash(email: &str) -> u64 {
    BuildHasherDefault::<SipHasher13>::default().hash_one(email.to_lowercase())
}

impl Selection {
    pub(super) fn new(slugs: &BTreeSet<String>) -> Self {
        Self { missing: slugs.clone(), nothing: slugs.is_empty(), ..Self::default() }
    }

    /// Selects an organization, because its slug is in the filter.
    pub(super) fn see_organization(&mut self, pk: i64, slug: &str) {
        self.organizations.insert(unsigned(pk));
        self.missing.remove(slug);
    }

    pub(super) fn see_member(&mut self, organization: i64, user: i64) {
        if self.organizations.contains(unsigned(organization)) && self.users.insert(unsigned(user)) {
            self.fresh.0.push(unsigned(user));
        }
    }

    pub(super) fn see_email(&mut self, user: i64, email: &str) {
        if self.users.contains(unsigned(user)) {
            let hash = email_hash(email);
            if self.emails.insert(hash) {
                self.fresh.1.push(hash);
            }
        }
    }

    pub(super) fn leave(&mut self, unreferenced: HashMap<usize, RoaringTreemap>) {
        self.unreferenced = unreferenced;
    }

    /// The users and hashes of addresses that were added since the last call.
    pub(super) fn take_new(&mut self) -> (Vec<u64>, Vec<u64>) {
        std::mem::take(&mut self.fresh)
    }

    /// Adds users and hashes of addresses.
    pub(super) fn add(&mut self, users: &[u64], emails: &[u64]) {
        self.users.extend(users);
        self.emails.extend(emails);
    }

    /// The stored form, without the hashes of addresses.
    pub(super) fn save(&self) -> io::Result<SavedSelection> {
        Ok(SavedSelection {
            missing: self.missing.clone(),
            organizations: bitmap_to_bytes(&self.organizations)?,
            users: bitmap_to_bytes(&self.users)?,
            unreferenced: self
                .unreferenced
                .iter()
                .map(|(model, pks)| Ok((*model, bitmap_to_bytes(pks)?)))
                .collect::<io::Result<_>>()?,
        })
    }

    /// The hashes of the addresses that it selects.
    pub(super) fn emails(&self) -> impl Iterator<Item = u64> {
        self.emails.iter().copied()
    }

    /// Restores the stored form.
    pub(super) fn restore(&mut self, saved: SavedSelection) -> io::Result<()> {
        self.missing = saved.missing;
        self.organizations = bitmap_from_bytes(&saved.organizations)?;
        self.users = bitmap_from_bytes(&saved.users)?;
        for (model, pks) in saved.unreferenced {
            self.unreferenced.insert(model, bitmap_from_bytes(&pks)?);
        }
        Ok(())
    }

    pub(super) fn organization_count(&self) -> u64 {
        self.organizations.len()
    }

    /// Whether it selects no record at all.
    pub(super) fn takes_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether the filter selects this record, as far as that does not depend on its references.
    #[must_use]
    pub fn takes(&self, model: &Model, source_pk: i64, email: Option<&str>) -> bool {
        if self.nothing {
            return false;
        }
        match model.name.as_str() {
            ORGANIZATION => self.organizations.contains(unsigned(source_pk)),
            USER => self.users.contains(unsigned(source_pk)),
            EMAIL => email.is_some_and(|email| self.emails.contains(&email_hash(email))),
            _ => self
                .unreferenced
                .get(&model.position)
                .is_none_or(|unreferenced| !unreferenced.contains(unsigned(source_pk))),
        }
    }
}

/// How many slugs a message names at most.
const NAMED: usize = 10;
/// How many organizations of the file are compared with the slugs that it lacks, and with how many of those.
const COMPARED: usize = 100_000;
const LACKING: usize = 100;
/// The least similarity, from 0 to 1, at which a slug is suggested for another one.
const ALIKE: f64 = 0.6;

/// For each slug that the file lacks, the most similar one that it has.
fn nearest<'a>(missing: &'a BTreeSet<String>, slugs: &[String]) -> HashMap<&'a str, String> {
    let mut found = HashMap::new();
    for slug in missing.iter().take(LACKING) {
        let folded = slug.to_lowercase();
        let alike = |known: &String| strsim::normalized_damerau_levenshtein(&known.to_lowercase(), &folded);
        let best =
            slugs.iter().map(|known| (alike(known), known)).max_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((_, known)) = best.filter(|(alike, _)| *alike >= ALIKE) {
            found.insert(slug.as_str(), shown(known));
        }
    }
    found
}

/// The first of some slugs, quoted, and how many more there are.
fn quoted<'a>(slugs: impl Iterator<Item = &'a str>, count: usize) -> String {
    let named: Vec<String> = slugs.take(NAMED).map(|slug| format!("`{}`", shown(slug))).collect();
    match count.saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

impl Plan {
    /// The first slugs of the organizations in the file, for a message. This is only a hint: slugs that cannot be read
    /// now are not among them.
    fn first_slugs(&self, catalog: &Catalog, env: &Environment) -> Vec<String> {
        let mut slugs = Vec::new();
        let Some(model) = catalog.model(ORGANIZATION) else { return slugs };
        let Some(FromColumn { column, .. }) = model.rules.global_slug else { return slugs };
        if let Ok(mut reader) = self.reader(model, env, 1) {
            while slugs.len() < COMPARED
                && let Ok(Some(record)) = reader.next_record()
            {
                slugs.extend(record.values.get(column).and_then(Value::as_text).map(str::to_owned));
            }
        }
        slugs
    }

    /// The slugs of the organizations in the file, in words.
    fn has(&self, catalog: &Catalog, slugs: &[String]) -> String {
        let count = catalog.model(ORGANIZATION).map_or(0, |model| self.record_count(model));
        match usize::try_from(count).unwrap_or(usize::MAX) {
            0 => "The export has no organization at all".to_owned(),
            count => format!("The export has {}", quoted(slugs.iter().map(String::as_str), count)),
        }
    }

    /// Completes the selection: finds the users who are members, and their addresses.
    pub(super) fn select(
        &mut self,
        catalog: &Catalog,
        env: &Environment,
        filter: Option<&BTreeSet<String>>,
        selected: Option<Selected>,
        watch: &PlanningProgress,
        log: &mut Log<'_>,
    ) -> Result<(), ExportError> {
        let (mut selection, filter) = match (self.selection.take(), filter) {
            (Some(selection), Some(filter)) => (selection, filter),
            (None, None) => return Ok(()),
            _ => {
                return Err(ExportError::inconsistent(
                    "the plan and its request do not have the same filter",
                ));
            }
        };
        if !filter.is_empty() && selection.organization_count() == 0 {
            let asked = quoted(filter.iter().map(String::as_str), filter.len());
            let slugs = self.first_slugs(catalog, env);
            let has = self.has(catalog, &slugs);
            let meant = nearest(filter, &slugs);
            // In the order of the filter, and the same one once.
            let mut hints: Vec<String> = Vec::new();
            for slug in filter.iter().filter_map(|slug| meant.get(slug.as_str())).take(NAMED) {
                let hint = slug.to_string();
                if !hints.contains(&hint) {
                    hints.push(hint);
                }
            }
            let hint = crate::meant::said(&hints);
            return Err(ExportError::FilterMatchesNothing(format!(
                "none of the slugs of the filter ({asked}) is in the export; slugs are compared exactly, also in case. \
                 {hint}{has}"
            )));
        }
        let slugs = if selection.missing.is_empty() { Vec::new() } else { self.first_slugs(catalog, env) };
        let meant = nearest(&selection.missing, &slugs);
        for slug in &selection.missing {
            let hint =
                meant.get(slug.as_str()).map_or_else(String::new, |it| format!(". Did you mean `{it}`?"));
            let reason = format!(
                "the export has no organization with the slug `{slug}`; slugs are compared exactly, also in case{hint}"
            );
            self.findings.push(Finding::new(FindingKind::FilterSlugNotFound, reason).model(ORGANIZATION));
        }
        let looks = [
            (ORGANIZATION_MEMBER, Some("organization"), "user_id"),
            (USER, None, "email"),
            (USER_EMAIL, Some("user"), "email"),
        ];
        let unknown =
            || ExportError::inconsistent("the catalog does not know a model or field of the filter");
        let (begun, mut seen) = selected.map_or((0, 0), |selected| (selected.round, selected.ordinal));
        for (round, (name, reference, other)) in looks.into_iter().enumerate().skip(begun) {
            let model = catalog.model(name).ok_or_else(unknown)?;
            let column = |field: &str| model.column(field).ok_or_else(unknown);
            let (reference, other) = (reference.map(column).transpose()?, column(other)?);
            let mut reader = self.reader(model, env, std::mem::take(&mut seen) + 1)?;
            while let Some(record) = reader.next_record()? {
                stopped(watch)?;
                let owner = match reference {
                    Some(reference) => record.values.get(reference).and_then(Value::as_int),
                    None => Some(record.source_pk),
                };
                match (owner, record.values.get(other)) {
                    (Some(owner), Some(Value::Int(user))) => selection.see_member(owner, *user),
                    (Some(owner), Some(Value::Text(email))) => selection.see_email(owner, email),
                    _ => {}
                }
                if record.ordinal % SELECTED == 0 {
                    let (users, emails) = selection.take_new();
                    log.append(&PlanningStep::Selected(Selected {
                        round,
                        ordinal: record.ordinal,
                        users,
                        emails,
                    }))?;
                }
            }
        }
        self.selection = Some(selection);
        Ok(())
    }
}
