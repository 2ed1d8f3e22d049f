//! What is in an export, without importing it: models, organizations, and the releases that it may come from.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    io::Read,
};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    catalog::{Catalog, Known, Model, ORGANIZATION, release},
    export::{ExportError, Limits, RawRecord, Scanner},
    finding::shown,
};

/// How many organizations are kept. The others are counted.
pub const MAX_ORGANIZATIONS: usize = 10_000;
/// How many records of each model are searched for fields that only some releases have.
const SEARCHED: i64 = 100;
/// How many names of models are kept: no application has as many. A file may have any number of wrong ones.
const MAX_MODELS: usize = 10_000;

/// What an import does with the records of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// An import of organizations takes them.
    Yes,
    /// They are of a scope that an import of organizations leaves out.
    OutOfScope,
    /// They are never imported.
    Never,
    /// This release does not know the model.
    Unknown,
}

/// A model of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFound {
    /// Its name in lower case; a very long one is cut.
    pub name: String,
    /// How many records it has.
    pub records: i64,
    /// What an import does with them.
    pub imported: Imported,
}

/// An organization of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationFound {
    /// Its id in the export.
    pub id: i64,
    /// Its slug; empty if it has none that is a text.
    pub slug: String,
    /// Its name; empty if it has none that is a text.
    pub name: String,
}

/// The releases that an export may come from, by its models and fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Releases {
    /// It is this release or a later one; `None` if nothing says so.
    pub at_least: Option<String>,
    /// It is older than this release; `None` if nothing says so.
    pub before: Option<String>,
}

/// What is in an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The size in bytes; of the decrypted export if it was encrypted.
    pub bytes: u64,
    /// How many records it has.
    pub records: i64,
    /// The models, by name.
    pub models: Vec<ModelFound>,
    /// The first organizations, in the order of the file, [`MAX_ORGANIZATIONS`] at most.
    pub organizations: Vec<OrganizationFound>,
    /// How many organizations there are in all.
    pub organization_count: i64,
    /// The releases that it may come from.
    pub releases: Releases,
}

/// A release as numbers.
type Release = (u32, u32);

/// What models and fields say about the release.
#[derive(Debug, Default)]
struct Evidence {
    /// What the file has shows that it is no older than this, and older than that.
    present: (Option<Release>, Option<Release>),
    /// The same from what it does not have. An export that somebody made by hand may lack anything.
    absent: (Option<Release>, Option<Release>),
}

fn later(one: Option<Release>, other: Option<Release>) -> Option<Release> {
    one.max(other)
}

fn earlier(one: Option<Release>, other: Option<Release>) -> Option<Release> {
    [one, other].into_iter().flatten().min()
}

impl Evidence {
    fn has(&mut self, since: Option<&str>, until: Option<&str>) {
        self.present.0 = later(self.present.0, since.and_then(release));
        self.present.1 = earlier(self.present.1, until.and_then(release));
    }

    fn lacks(&mut self, since: Option<&str>, until: Option<&str>) {
        match (since.and_then(release), until.and_then(release)) {
            (Some(since), None) => self.absent.1 = earlier(self.absent.1, Some(since)),
            (None, Some(until)) => self.absent.0 = later(self.absent.0, Some(until)),
            // It is older than the one or no older than the other; nobody knows which.
            _ => {}
        }
    }

    /// The bounds: those of what is there and, if they agree, also those of what is not there. Between two releases, the
    /// application has had what is new and what was about to go at once; the newer of these counts.
    fn releases(&self) -> Releases {
        let all = (later(self.present.0, self.absent.0), earlier(self.present.1, self.absent.1));
        let agree = |(begin, end): (Option<Release>, Option<Release>)| {
            begin.is_none() || end.is_none() || begin < end
        };
        let (at_least, before) = if agree(all) {
            all
        } else if agree(self.present) {
            self.present
        } else {
            (self.present.0, None)
        };
        let text = |(year, month): Release| format!("{year}.{month}");
        Releases { at_least: at_least.map(text), before: before.map(text) }
    }
}

/// The fields of an organization that are shown.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    slug: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

/// Reads a plain export once, record by record, and never holds more of it than one record.
///
/// # Errors
/// If it is not an export: the error says which record is wrong, and where it begins.
pub fn inspect(reader: impl Read, catalog: &Catalog, limits: Limits) -> Result<Inspection, ExportError> {
    let mut scanner = Scanner::new(reader, limits);
    let mut inspection = Inspection::default();
    let mut models: BTreeMap<String, i64> = BTreeMap::new();
    let mut fields: HashMap<String, HashSet<String>> = HashMap::new();
    while let Some((scanned, text)) = scanner.next_record()? {
        let record = RawRecord::parse(text, scanned.offset)?;
        inspection.records += 1;
        let name = shown(&record.model.to_ascii_lowercase());
        if models.len() >= MAX_MODELS && !models.contains_key(&name) {
            continue;
        }
        let count = models.entry(name.clone()).or_default();
        *count += 1;
        if *count <= SEARCHED
            && let Some(model) = catalog.model(&name)
        {
            let keys: HashMap<Cow<'_, str>, IgnoredAny> =
                serde_json::from_str(record.fields.get()).unwrap_or_default();
            let evidence = keys.into_keys().filter(|key| is_evidence(model, key)).map(Cow::into_owned);
            fields.entry(name).or_default().extend(evidence);
        }
        if record.model.eq_ignore_ascii_case(ORGANIZATION) {
            inspection.organization_count += 1;
            if inspection.organizations.len() < MAX_ORGANIZATIONS {
                let named =
                    serde_json::from_str(record.fields.get()).unwrap_or(Named { slug: None, name: None });
                inspection.organizations.push(OrganizationFound {
                    id: record.pk,
                    slug: named.slug.map(|slug| shown(&slug)).unwrap_or_default(),
                    name: named.name.map(|name| shown(&name)).unwrap_or_default(),
                });
            }
        }
    }
    inspection.bytes = scanner.position();
    inspection.releases = releases(catalog, &models, &fields);
    inspection.models = models
        .into_iter()
        .map(|(name, records)| ModelFound { imported: imported(catalog, &name), name, records })
        .collect();
    Ok(inspection)
}

fn imported(catalog: &Catalog, name: &str) -> Imported {
    match catalog.known(name) {
        Known::Model(model) if model.in_organization_scope() => Imported::Yes,
        Known::Model(_) | Known::OutOfScope => Imported::OutOfScope,
        Known::Excluded | Known::Removed => Imported::Never,
        Known::Unknown => Imported::Unknown,
    }
}

/// The releases that have these models with these fields.
fn releases(
    catalog: &Catalog,
    models: &BTreeMap<String, i64>,
    fields: &HashMap<String, HashSet<String>>,
) -> Releases {
    let mut evidence = Evidence::default();
    let none = HashSet::new();
    for name in models.keys() {
        let Some(model) = catalog.model(name) else { continue };
        evidence.has(model.since.as_deref(), model.until.as_deref());
        weigh(&mut evidence, model, fields.get(name).unwrap_or(&none));
    }
    evidence.releases()
}

/// Whether [`weigh`] asks for this field. A file may have any number of others, and those are not kept.
fn is_evidence(model: &Model, field: &str) -> bool {
    model.columns.iter().any(|column| {
        (column.since.is_some() || column.until.is_some())
            && (column.field == field || column.opposite_of.iter().any(|name| name == field))
    })
}

fn weigh(evidence: &mut Evidence, model: &Model, found: &HashSet<String>) {
    for column in &model.columns {
        let (since, until) = (column.since.as_deref(), column.until.as_deref());
        if found.contains(&column.field) {
            evidence.has(since, until);
        } else if !column.opposite_of.iter().any(|name| found.contains(name)) {
            evidence.lacks(since, until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(text: &str) -> Result<Inspection, ExportError> {
        inspect(text.as_bytes(), &Catalog::load().expect("the catalog"), Limits::default())
    }

    #[test]
    fn models_and_organizations_are_counted() {
        let text = r#"[{"model": "sentry.organization", "pk": 7, "fields": {"slug": "acme", "name": "Acme"}},
            {"model": "Sentry.Organization", "pk": 8, "fields": {"slug": 5}},
            {"model": "sentry.option", "pk": 1, "fields": {}},
            {"model": "nobody.knows", "pk": 1, "fields": {}}]"#;
        let found = inspected(text).expect("an export");
        assert_eq!((found.records, found.organization_count, found.bytes), (4, 2, text.len() as u64));
        let models: Vec<_> =
            found.models.iter().map(|it| (it.name.as_str(), it.records, it.imported)).collect();
        assert_eq!(
            models,
            [
                ("nobody.knows", 1, Imported::Unknown),
                ("sentry.option", 1, Imported::OutOfScope),
                ("sentry.organization", 2, Imported::Yes)
            ]
        );
        let organization = |id, slug: &str, name: &str| OrganizationFound {
            id,
            slug: slug.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(found.organizations, [organization(7, "acme", "Acme"), organization(8, "", "")]);
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_place() {
        for (text, why) in [
            ("", "the file is empty"),
            ("{}", "array"),
            (r#"[{"model": "sentry.user", "pk": 1, "fields": {}}"#, "cut off"),
            (r#"[{"model": "sentry.user", "pk": 0, "fields": {}}]"#, "pk"),
        ] {
            let error = inspected(text).expect_err("it is not an export").to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn fields_that_say_nothing_about_the_release_are_not_kept() {
        let catalog = Catalog::load().expect("the catalog");
        let user = catalog.model("sentry.user").expect("a model");
        let kept =
            ["is_suspended", "email_unique", "username", "padding-1"].map(|key| is_evidence(user, key));
        assert_eq!(kept, [true, true, false, false]);
        let text =
            r#"[{"model": "sentry.user", "pk": 1, "fields": {"is_suspended": false, "padding-1": 1}}]"#;
        let releases = Releases { at_least: Some("26.4".to_owned()), before: Some("26.5".to_owned()) };
        assert_eq!(inspected(text).expect("an export").releases, releases);
    }

    #[test]
    fn the_release_follows_from_models_and_fields() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.releases(), Releases::default());
        evidence.has(Some("24.9"), None);
        evidence.has(Some("24.11"), Some("26.1"));
        evidence.lacks(Some("25.10"), None);
        let bounds = |at_least: &str, before: &str| Releases {
            at_least: Some(at_least.to_owned()),
            before: Some(before.to_owned()),
        };
        assert_eq!(evidence.releases(), bounds("24.11", "25.10"));
        // A file made by hand lacks what its release has: only what is there counts.
        evidence.lacks(Some("24.10"), None);
        assert_eq!(evidence.releases(), bounds("24.11", "26.1"));
        // What no release has together: the newer one counts.
        evidence.has(None, Some("24.9"));
        let newer = Releases { at_least: Some("24.11".to_owned()), before: None };
        assert_eq!(evidence.releases(), newer);
    }
}
