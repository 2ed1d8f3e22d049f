//! Slugs that the import makes for records without one: from the name, and unique among the records of the same owner.

use causeway_proto::relocation::v1::FindingKind;
use causeway_relocation::catalog::reserved_project_slugs;

use super::{case::AuditCase, file::FileRecord};

/// The field that names the owner within which a slug must be unique. `None` for models whose slugs are not made.
fn among(model: &str) -> Option<&'static str> {
    match model {
        "sentry.project" | "sentry.team" => Some("organization"),
        "sentry.monitor" => Some("project_id"),
        _ => None,
    }
}

/// Whether a record needs a slug and has none.
fn lacks_slug(record: &FileRecord) -> bool {
    among(&record.model).is_some() && record.text("slug").unwrap_or_default().is_empty()
}

/// The slug for a name of ASCII letters, digits and spaces. `None` for other names, whose slugs are not obvious.
fn plain(name: &str) -> Option<String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || character == ' ';
    let words: Vec<String> = name.split_whitespace().map(str::to_ascii_lowercase).collect();
    let slug = words.join("-");
    let has_letter = slug.bytes().any(|byte| byte.is_ascii_lowercase());
    (name.chars().all(is_plain) && has_letter && slug.len() <= 50).then_some(slug)
}

impl AuditCase<'_> {
    /// Expects a finding for a slug that the import makes.
    pub(super) fn expect_generated_slug(&mut self, record: &FileRecord) {
        if lacks_slug(record) {
            self.expect(record, &[FindingKind::SlugMade], &["slug"]);
        }
    }

    /// Whether the import may have made this slug for the record. `None` if it must not make one.
    pub(super) fn is_generated_slug(&self, record: &FileRecord, slug: &str) -> Option<bool> {
        let owner = among(&record.model).filter(|_| lacks_slug(record))?;
        let form = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_slug = (1..=50).contains(&slug.len()) && slug.bytes().all(form);
        let records = self.records_of(&record.model);
        let neighbours = || records.iter().filter(|other| other.pk_in(owner) == record.pk_in(owner));
        // A record with a slug keeps it, wherever it is in the file.
        let is_new = !neighbours().any(|other| other.text("slug") == Some(slug));
        let Some(plain) = plain(record.text("name").unwrap_or_default()) else {
            return Some(is_slug && is_new);
        };
        // The application has pages of these names, beside its pages of projects.
        let is_page = record.model == "sentry.project" && reserved_project_slugs().any(|page| page == plain);
        let free = !is_page && !neighbours().any(|other| other.text("slug") == Some(plain.as_str()));
        let wants = |other: &&std::sync::Arc<FileRecord>| {
            lacks_slug(other) && other.text("name").and_then(self::plain).as_deref() == Some(plain.as_str())
        };
        let first = neighbours().filter(wants).map(|other| other.pk).min() == Some(record.pk);
        let front: String = plain.chars().take(20).collect();
        let of_name = if free && first { slug == plain } else { slug != plain && slug.starts_with(&front) };
        Some(is_slug && is_new && of_name)
    }
}
