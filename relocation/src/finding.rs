//! Findings: what a person should know about an export or an import.

use std::fmt;

use causeway_silo::db::DbErrorKind;
use serde::{Deserialize, Serialize};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The import changed or skipped something as the rules define.
    Info,
    /// Part of the export was not imported, or not as it was.
    Warning,
    /// The import cannot continue.
    Error,
}

/// Whether a finding reports what has happened, or, in a dry run, what would happen in the import that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    /// It has happened: the finding of an import.
    Happened,
    /// It would happen: the finding of a dry run.
    Would,
}

impl Tense {
    /// The tense of an import's findings.
    #[must_use]
    pub fn of(dry_run: bool) -> Self {
        if dry_run { Self::Would } else { Self::Happened }
    }

    /// Selects the words for this tense.
    #[must_use]
    pub fn words<'a>(self, happened: &'a str, would: &'a str) -> &'a str {
        match self {
            Self::Happened => happened,
            Self::Would => would,
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $severity:ident, $remedy:literal;)*) => {
        /// What a finding is about. `FindingKind` of the gRPC contract documents each kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FindingKind {
            $($(#[$doc])* $kind,)*
        }

        impl FindingKind {
            /// All kinds, in the order in which they are defined.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The name under which databases store it: the name in the contract, in lower case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// The severity in an import.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$kind => Severity::$severity,)*
                }
            }

            /// What a person can do about it after an import; empty if there is nothing to do.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$kind => $remedy,)*
                }
            }
        }
    };
}

kinds! {
    /// A problem of no other kind.
    Unknown = "unknown", Error, "Look at the log of the region at the time of the failure.";
    /// The database refused a statement.
    DatabaseError = "database_error", Error, "See to the database, then import the file again.";
    /// The file is not in the form of an export.
    DeserializationFailed = "deserialization_failed", Error, "Mend the file at this place, or export it again.";
    /// Two records of the file break a unique set.
    IntegrityError = "integrity_error", Error, "Change or remove one of the two records in the file.";
    /// A model that the catalog does not know.
    UnknownModel = "unknown_model", Warning, "If its records are needed, import with a release that knows the model.";
    /// A model that is never imported.
    UnexpectedModel = "unexpected_model", Info, "";
    /// A value that its column cannot take.
    ValidationError = "validation_error", Error, "Correct the field in the file.";
    /// A record was dropped, because a reference points to a record that is not imported.
    DroppedReference = "dropped_reference", Warning, "If the record is needed, import what it refers to as well, or make it by hand.";
    /// A reference to a record that is not imported was set to null.
    ClearedReference = "cleared_reference", Warning, "If the record needs what it referred to, such as an owner, set it again in the application.";
    /// A field that the catalog does not know.
    UnknownField = "unknown_field", Warning, "If the field is needed, import with a release that knows it.";
    /// A model of older releases.
    RemovedModel = "removed_model", Info, "";
    /// A field of older releases that had a value.
    RemovedField = "removed_field", Warning, "Look what the value meant to the older release, and set it by hand where it still matters.";
    /// The organization got another slug than in the export.
    SlugChanged = "slug_changed", Info, "Tell the members of the organization its new slug.";
    /// The user got another username than in the export.
    UsernameChanged = "username_changed", Info, "Tell the user the new name. If it is the user who has the name, import with users merged.";
    /// A user was merged into an existing one.
    UserMerged = "user_merged", Info, "Make sure that both are one person: whoever has the username has the memberships of the file now.";
    /// A key or token was missing or taken, and the record got a new one.
    KeyRegenerated = "key_regenerated", Info, "Put the new key wherever the old one is in use.";
    /// A token was taken by another row and was set to null.
    TokenCleared = "token_cleared", Info, "If it was the token of an invitation that is still open, send that again; a user without an address to sign in with signs in by username.";
    /// A record was dropped because a rule of its model requires that.
    SkippedByRule = "skipped_by_rule", Info, "";
    /// A record was dropped because it would be the second of its kind.
    DuplicateDropped = "duplicate_dropped", Warning, "Look whether the row that was kept will do; otherwise change it by hand.";
    /// The export has no organization with this slug of the filter.
    FilterSlugNotFound = "filter_slug_not_found", Warning, "If the organization is wanted, correct its slug in the filter, and import it under a new id.";
    /// The export has none of the slugs of the filter.
    FilterMatchesNothing = "filter_matches_nothing", Error, "Correct the filter, and import the file again under a new id; the file may be as it is.";
    /// The file has no record that an import takes.
    NothingToImport = "nothing_to_import", Warning, "Look whether it is the right file, and whether its models are known under other names in this release.";
    /// A value outside the choices of its column.
    UnknownChoice = "unknown_choice", Warning, "Look whether the application takes the value.";
    /// NUL characters were removed from a text.
    TextCleaned = "text_cleaned", Info, "";
    /// Findings were counted but not stored, because there were too many.
    FindingsNotStored = "findings_not_stored", Info, "The counts are exact. If each finding is needed, raise the region's limit on findings, or import in parts by a filter.";
    /// A record was merged into an earlier one, after users were merged.
    RecordMerged = "record_merged", Warning, "Look whether the person should have the role and the teams of both.";
    /// A missing slug was generated.
    SlugMade = "slug_made", Info, "Use the slug where the old product was asked by id, or change it in the application.";
    /// A row was added that no record of the file stands for.
    RowAdded = "row_added", Info, "";
    /// No member of the organization is an owner.
    OrganizationWithoutOwner = "organization_without_owner", Warning, "Make a member an owner in the application, or nobody can change its settings and members.";
    /// A username is the e-mail address of another user.
    UsernameIsAddress = "username_is_address", Warning, "Change one of the two: whoever signs in with the address may be taken for either.";
    /// Control's directory does not accept the organization.
    NotInDirectory = "not_in_directory", Warning, "Do what the reason says, then compare the region with control: `causeway reconcile --repair`.";
    /// A record breaks a rule, but the filter excludes it, or its user exists and keeps what it has.
    DefectFiltered = "defect_filtered", Info, "Nothing for this import. Mend the file at this place before you import what was left out.";
    /// An option was left out, because the application does not accept its value, or no longer does.
    OptionLeftOut = "option_left_out", Warning, "Nothing, or have the owner of the option choose again: until then the application's default holds.";
    /// The references of a record point to two organizations.
    TwoOrganizations = "two_organizations", Warning, "Look at the record where the export comes from: one of its references is wrong.";
    /// An out-of-scope record belongs to something that is imported.
    OutOfScope = "out_of_scope", Warning, "Make what you need of it again in the application.";
    /// An organization stays hidden and was not active in the export. The reason contains its status.
    HiddenStatus = "hidden_status", Warning, "Give the organization this status when it is approved.";
    /// A record or a value was not written, because the database has no table or column for it, or a check or an index of
    /// its own.
    NotInDatabase = "not_in_database", Warning, "If it is needed, upgrade the application that owns the database or remove its constraint, and import again; or make it by hand. Approve an organization that stays hidden after that.";
    /// A value was left as it is that has an id in it, or what looks like one, which no rule could map.
    IdNotMapped = "id_not_mapped", Warning, "Look in the application whether the number means something there; if it is an id of the other installation, choose again there.";
    /// A row was left in place when its import was reverted, because something else needs it.
    RowKept = "row_kept", Warning, "Leave it, or remove what needs it and then the row, in the application.";
}

impl FindingKind {
    /// Whether a record with this finding is written differently from the file. A new kind counts as one that changes a
    /// record, so that a dry run does not pass over it silently.
    #[must_use]
    pub fn changes_record(self) -> bool {
        // An unknown choice is written unchanged, because only the application knows what the value means. The other
        // kinds do not change a record that is written.
        !matches!(
            self,
            Self::UnknownChoice
                | Self::IdNotMapped
                | Self::OrganizationWithoutOwner
                | Self::UsernameIsAddress
                | Self::FindingsNotStored
                | Self::FilterSlugNotFound
                | Self::NothingToImport
                | Self::UnknownModel
                | Self::UnexpectedModel
                | Self::RemovedModel
                | Self::DroppedReference
                | Self::SkippedByRule
                | Self::DuplicateDropped
                | Self::DefectFiltered
                | Self::OptionLeftOut
                | Self::TwoOrganizations
                | Self::OutOfScope
                | Self::NotInDirectory
                | Self::RowAdded
                | Self::RowKept
        )
    }

    /// The severity in an import or a dry run. A dry run is meant to show whether everything would be imported
    /// unchanged. So what an import only mentions is a warning in a dry run, unless it has nothing to do with that.
    #[must_use]
    pub fn severity_in(self, tense: Tense) -> Severity {
        match (tense, self.severity()) {
            (Tense::Would, Severity::Info) if !matches!(self, Self::FindingsNotStored | Self::RowAdded) => {
                Severity::Warning
            }
            (_, severity) => severity,
        }
    }

    /// What a person can do about it: after an import, or before it if a dry run reports it.
    #[must_use]
    pub fn remedy_in(self, tense: Tense) -> &'static str {
        match (tense, self) {
            (Tense::Would, Self::SlugChanged) => {
                "If another organization has the slug, rename that one first; otherwise import, and tell the members of \
                 the organization its new slug."
            }
            (Tense::Would, Self::UsernameChanged) => {
                "If it is the user who has the name, import with users merged; otherwise import, and tell the user the \
                 new name."
            }
            (Tense::Would, Self::UserMerged) => {
                "Make sure that both are one person, before whoever has the username gets the memberships of the file; \
                 if they are not, import without merging users."
            }
            (Tense::Would, Self::KeyRegenerated) => {
                "After the import, put the new key wherever the old one is in use."
            }
            (Tense::Would, Self::TokenCleared) => {
                "If the invitation is still open, send it again after the import."
            }
            (Tense::Would, Self::DuplicateDropped) => {
                "Look whether the row that would be kept will do; otherwise change the file, or that row after the import."
            }
            (Tense::Would, Self::FilterSlugNotFound) => "Correct the filter.",
            (Tense::Would, Self::FilterMatchesNothing) => "Correct the filter; the file may be as it is.",
            (_, kind) => kind.remedy(),
        }
    }
}

impl std::str::FromStr for FindingKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or(UnknownKind)
    }
}

/// No finding kind has that name.
#[derive(Debug, thiserror::Error)]
#[error("no finding kind has that name")]
pub struct UnknownKind;

/// What a person should know about an export or an import. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind. Severity and remedy follow from it.
    pub kind: FindingKind,
    /// The name of the model, if the finding is about one.
    pub model: Option<String>,
    /// The record's number among those of its model in the file, from 1.
    pub ordinal: Option<i64>,
    /// The record's primary key in the export.
    pub source_pk: Option<i64>,
    /// The name of the field, if the finding is about one.
    pub field: Option<String>,
    /// The place in the file, in bytes: usually where the record begins.
    pub byte_offset: Option<i64>,
    /// What happened. What to do about it follows from the kind, see [`FindingKind::remedy`].
    pub reason: String,
}

impl Finding {
    /// A finding that is not about a particular record.
    #[must_use]
    pub fn new(kind: FindingKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            model: None,
            ordinal: None,
            source_pk: None,
            field: None,
            byte_offset: None,
            reason: reason.into(),
        }
    }

    /// Adds the model that the finding is about, by its catalog name.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.model = Some(model.to_owned());
        self
    }

    /// Adds the field that the finding is about, as the export calls it.
    #[must_use]
    pub fn field(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    /// Names the place in the file. The largest that can be stored stands for all beyond it.
    #[must_use]
    pub fn at(mut self, byte_offset: u64) -> Self {
        self.byte_offset = Some(i64::try_from(byte_offset).unwrap_or(i64::MAX));
        self
    }

    /// Adds the record that the finding is about: its number among those of its model, and its primary key.
    #[must_use]
    pub fn record(mut self, ordinal: i64, source_pk: i64) -> Self {
        self.ordinal = Some(ordinal);
        self.source_pk = Some(source_pk);
        self
    }
}

/// The maximum number of bytes of a name from a file that messages repeat.
const MAX_SHOWN: usize = 200;

/// A name from a file, safe to show and to store: without control characters, which database texts cannot contain or
/// terminals should not receive, and cut if it is too long. A changed name is never a name of the catalog.
#[must_use]
pub fn shown(name: &str) -> String {
    let visible =
        |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    let clean: String = name.chars().map(visible).take(MAX_SHOWN).collect();
    match clean.floor_char_boundary(MAX_SHOWN) {
        end if clean.len() > end || name.len() > MAX_SHOWN => format!("{}...", &clean[..end]),
        _ => clean,
    }
}

/// A constraint of a table that only this database has: what refuses a value that the rules allow. SQLite does not name a
/// unique index.
#[must_use]
pub fn only_here(table: &str, kind: DbErrorKind, name: Option<&str>) -> String {
    let what = if kind == DbErrorKind::Check { "check" } else { "unique index" };
    let named = match name {
        Some(name) => format!("the {what} `{}`", shown(name)),
        None => format!("a {what}"),
    };
    format!("{named} of the table {table}, which the catalog does not know")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = Vec::new();
        if let Some(offset) = self.byte_offset {
            place.push(format!("byte {offset}"));
        }
        if let Some(model) = &self.model {
            place.push(match self.ordinal {
                Some(ordinal) => format!("{model} record {ordinal}"),
                None => model.clone(),
            });
        }
        if let Some(pk) = self.source_pk {
            place.push(format!("pk {pk}"));
        }
        if let Some(field) = &self.field {
            place.push(format!("field {field}"));
        }
        if place.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", place.join(", "), self.reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where() {
        let finding = Finding::new(FindingKind::ValidationError, "is not a time")
            .model("sentry.user")
            .record(3, 7)
            .field("last_login")
            .at(120);
        assert_eq!(
            finding.to_string(),
            "byte 120, sentry.user record 3, pk 7, field last_login: is not a time"
        );
    }

    #[test]
    fn a_name_out_of_a_file_is_shown_clean_and_short() {
        assert_eq!(shown("sentry.user"), "sentry.user");
        assert_eq!(shown("a\0b\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        // It must not become the name of a model.
        assert_ne!(shown("sentry.user\0"), "sentry.user");
        let long = shown(&"é".repeat(5_000_000));
        assert!(long.len() <= MAX_SHOWN + 3 && long.ends_with("..."));
    }

    #[test]
    fn whatever_changes_a_record_is_a_warning_in_a_dry_run() {
        for kind in FindingKind::ALL {
            let (done, would) = (kind.severity_in(Tense::Happened), kind.severity_in(Tense::Would));
            assert_eq!(done, kind.severity());
            assert!(would >= done, "{kind:?}");
            assert!(!kind.changes_record() || would >= Severity::Warning, "{kind:?}");
        }
        assert_eq!(FindingKind::SlugChanged.severity_in(Tense::Happened), Severity::Info);
        assert_eq!(FindingKind::SlugChanged.severity_in(Tense::Would), Severity::Warning);
        assert_eq!(FindingKind::FindingsNotStored.severity_in(Tense::Would), Severity::Info);
    }

    #[test]
    fn names_lead_back_to_kinds() {
        for kind in FindingKind::ALL {
            assert_eq!(kind.name().parse::<FindingKind>().unwrap(), *kind);
        }
    }
}
