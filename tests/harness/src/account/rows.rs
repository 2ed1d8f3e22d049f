//! Compares every inserted row with its record: each column has the value of the file, with references
//! mapped, unless a rule defines another one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use causeway_proto::relocation::v1::FindingKind;
use causeway_relocation::catalog::{Column, Default, Model};

use super::{
    Cell, Outcome, Row,
    case::AuditCase,
    cell,
    file::FileRecord,
    outcomes::{is_cleared, second_owner, source_of},
    owners::Owner,
    taken::Certainty,
};

/// How a rule changes the value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Always this value; likewise for `True` and `Null`.
    False,
    True,
    Null,
    /// The status of a subscription that the product has not created yet.
    Creating,
    /// The time of the import.
    Now,
    /// A password hash that no password matches.
    Unusable,
    /// 32 new random letters and digits.
    Secret,
    /// A new UUID; null stays null.
    NewUuid,
    /// Unchanged if no other row has it. Otherwise replaced as [`New`] defines.
    Unique(New),
    /// A copy of this field of the user that the row refers to.
    OfUser(&'static str),
    /// Checked elsewhere, with all rows of the model.
    Elsewhere,
}

/// What replaces a value that another row has, or that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum New {
    /// This many hex digits.
    Key(usize),
    /// The SHA-256 of a new token in hex.
    Hash,
    /// No value: `NULL`.
    Nothing,
}

/// The rule for a column. `None` if the column keeps the value of the file.
fn change(model: &str, field: &str) -> Option<Change> {
    Some(match (model.trim_start_matches("sentry."), field) {
        ("user", "is_staff" | "is_superuser" | "is_managed") | ("useremail", "is_verified") => Change::False,
        ("user", "is_unclaimed") => Change::True,
        ("user", "password") => Change::Unusable,
        ("user", "last_password_change")
        | ("useremail", "date_hash_added")
        | ("querysubscription", "date_updated")
        | ("incidenttrigger", "date_modified") => Change::Now,
        ("useremail", "validation_hash") => Change::Secret,
        ("monitor", "guid") | ("incident", "detection_uuid") | ("incidentactivity", "notification_uuid") => {
            Change::NewUuid
        }
        ("querysubscription", "subscription_id" | "query_extra") => Change::Null,
        ("querysubscription", "status") => Change::Creating,
        ("projectkey", "public_key" | "secret_key") => Change::Unique(New::Key(32)),
        ("organizationmemberinvite", "token") => Change::Unique(New::Key(64)),
        ("orgauthtoken", "token_hashed") => Change::Unique(New::Hash),
        ("organizationmember", "token") | ("user", "email_unique") => Change::Unique(New::Nothing),
        ("organizationmember", "user_email") => Change::OfUser("email"),
        ("organizationmember", "user_is_active") => Change::OfUser("is_active"),
        ("user", "username")
        | ("project" | "team" | "monitor", "slug")
        | ("organizationmember" | "organizationmemberteam", "role")
        | ("organization", "slug" | "status")
        | ("orgauthtoken", "token_last_characters")
        | ("organizationmember", "token_expires_at")
        | ("notificationaction", "target_identifier")
        | ("workflow_engine.datasource", "source_id" | "type") => Change::Elsewhere,
        _ => return None,
    })
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl AuditCase<'_> {
    /// Checks all inserted rows.
    pub(super) fn check_rows(&mut self) {
        for model in self.catalog.models() {
            let mut rows = Vec::new();
            for record in self.records_of(&model.name) {
                let Some(Outcome::Inserted(id)) = self.outcome(&model.name, record.pk) else { continue };
                match self.after.row(&model.name, id) {
                    Some(row) => rows.push((record, row)),
                    None => self.mismatch(format!(
                        "{} {} is to be row {id}, which is not there",
                        model.name, record.pk
                    )),
                }
            }
            for column in &model.columns {
                self.check_column(model, column, &rows);
            }
        }
    }

    fn check_column(&mut self, model: &Model, column: &Column, rows: &[(Arc<FileRecord>, &Row)]) {
        if !self.after.has_column(&model.name, &column.column) {
            return;
        }
        let change = change(&model.name, &column.field);
        if let Some(Change::Unique(new)) = change {
            return self.check_unique(model, column, new, rows);
        }
        let mut made = BTreeSet::new();
        for (record, row) in rows {
            let Some(found) = row.get(&column.field) else { continue };
            let of_file = match self.cell_of_file(column, record) {
                Ok(of_file) => of_file,
                Err(why) => {
                    self.mismatch(format!("{} {} {}: {why}", model.name, record.pk, column.field));
                    continue;
                }
            };
            let right = match change {
                Some(Change::False) => *found == Cell::Bool(false),
                Some(Change::True) => *found == Cell::Bool(true),
                Some(Change::Null) => *found == Cell::Null,
                Some(Change::Creating) => *found == Cell::Int(1),
                Some(Change::Now) => found.as_time().is_some_and(|time| self.is_now(model, time)),
                Some(Change::Unusable) => found.as_text().is_some_and(|text| {
                    text.starts_with('!') && text.len() > 20 && made.insert(text.to_owned())
                }),
                Some(Change::Secret) => {
                    found.as_text().is_some_and(|text| {
                        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
                        text.len() == 32 && letters && made.insert(text.to_owned())
                    }) && of_file.as_ref() != Some(found)
                }
                Some(Change::NewUuid) => match (&of_file, found) {
                    (Some(Cell::Null), Cell::Null) => column.null,
                    (Some(Cell::Uuid(old)), Cell::Uuid(new)) => old != new && made.insert(new.to_string()),
                    _ => false,
                },
                Some(Change::OfUser(field)) => match row.get("user_id") {
                    Some(Cell::Int(user)) => {
                        self.after.row("sentry.user", *user).and_then(|user| user.get(field)) == Some(found)
                    }
                    _ => of_file.as_ref() == Some(found),
                },
                Some(Change::Elsewhere) => {
                    self.is_right(model, record, &column.field, of_file.as_ref(), found)
                }
                Some(Change::Unique(_)) => true,
                None => match &of_file {
                    Some(of_file) => of_file == found,
                    // The field is missing and its default is the time of the import.
                    None => found.as_time().is_some_and(|time| self.is_now(model, time)),
                },
            };
            if !right {
                self.mismatch(format!(
                    "{} {}: {} is {found:?}; the file has {of_file:?} and the rule is {change:?}",
                    model.name, record.pk, column.field
                ));
            }
        }
    }

    /// The value that a column must have by the file alone. `None` for the time of the import.
    fn cell_of_file(&self, column: &Column, record: &FileRecord) -> anyhow::Result<Option<Cell>> {
        if let Owner::Known(field, target, pk) = self.owner(record)
            && field == column.field
        {
            return Ok(Some(self.new_pk(target, pk).map_or(Cell::Null, Cell::Int)));
        }
        if let Some((first, second)) = second_owner(record)
            && second == column.field
            && record.pk_in(first).and_then(|team| self.new_pk("sentry.team", team)).is_some()
        {
            return Ok(Some(Cell::Null));
        }
        // A null that this database does not take is as good as a missing field.
        let is_taken = |value: &&serde_json::Value| {
            !value.is_null() || !self.after.needs_value(&record.model, &column.column)
        };
        let default;
        let value = match (record.fields.get(&column.field).filter(is_taken), &column.default) {
            (Some(value), _) => value,
            (None, Default::Null) => return Ok(Some(Cell::Null)),
            (None, Default::Literal(json)) => {
                default = serde_json::from_str(json)?;
                &default
            }
            (None, Default::Now) => return Ok(None),
            // It is replaced in any case, by a rule or by the slug that control assigns.
            (None, Default::Generated(_)) => return Ok(Some(Cell::Null)),
            (None, Default::SameAs(_)) => anyhow::bail!("no column of the catalog has such a default"),
            (None, Default::Required) if column.field == "slug" => return Ok(Some(Cell::Null)),
            (None, Default::Required) => anyhow::bail!("the field is missing, and nothing is the default"),
        };
        let Some(target) = &column.references else {
            let cell = cell::of_file(column, value)?;
            return Ok(Some(self.nested(record, &column.field, cell)));
        };
        let Some(pk) = value.as_i64() else { return Ok(Some(Cell::Null)) };
        match self.new_pk(target, pk) {
            Some(new) => Ok(Some(Cell::Int(new))),
            None if is_cleared(&record.model, &column.field) => Ok(Some(Cell::Null)),
            None => anyhow::bail!("leads to {target} {pk}, which was not imported"),
        }
    }

    /// Checks a column whose value depends on more than its own field.
    fn is_right(
        &self,
        model: &Model,
        record: &FileRecord,
        field: &str,
        of_file: Option<&Cell>,
        found: &Cell,
    ) -> bool {
        match field {
            "role" => {
                let role = self.roles.get(&(model.name.clone(), record.pk)).cloned();
                match role {
                    Some(role) => role.map_or(Cell::Null, Cell::Text) == *found,
                    None => of_file == Some(found),
                }
            }
            "type" => {
                let name = |number: Option<&str>| match number {
                    Some("1") => Some("snuba_query_subscription".to_owned()),
                    other => other.map(str::to_owned),
                };
                // Older releases number the types, and so do their databases.
                name(of_file.and_then(Cell::as_text)) == name(found.as_text())
            }
            "source_id" | "target_identifier" if source_of(record).is_some() => {
                let new = source_of(record).and_then(|(target, pk)| self.new_pk(target?, pk?));
                new.map(|new| Cell::Text(new.to_string())).as_ref() == Some(found)
            }
            "slug" if model.name != "sentry.organization" => found
                .as_text()
                .and_then(|slug| self.is_generated_slug(record, slug))
                .unwrap_or_else(|| of_file == Some(found)),
            "username" if self.renamed.contains(&record.pk) => {
                let (Some(name), Some(given)) = (of_file.and_then(Cell::as_text), found.as_text()) else {
                    return false;
                };
                let Some((base, suffix)) = given.rsplit_once('-') else { return false };
                let whole = base == name || (name.starts_with(base) && given.chars().count() >= 120);
                given.chars().count() <= 128 && whole && !suffix.is_empty()
            }
            "status" if self.options.hide_organizations => *found == Cell::Int(3),
            // Checked together with all slugs, or with the token that they belong to.
            "slug" | "token_last_characters" | "token_expires_at" => {
                !matches!(found, Cell::Null) || model.name != "sentry.organization"
            }
            _ => of_file == Some(found),
        }
    }

    /// Checks a column with unique values: each row keeps the value of the file, unless another row has it.
    fn check_unique(&mut self, model: &Model, column: &Column, new: New, rows: &[(Arc<FileRecord>, &Row)]) {
        // Nobody signs in with the address of somebody else, in whatever case.
        let folded = column.field == "email_unique";
        let fold = |text: &str| if folded { text.to_lowercase() } else { text.to_owned() };
        let holders = self.holders(&model.name, &column.field, folded);
        let mut alike: BTreeMap<String, Vec<&(Arc<FileRecord>, &Row)>> = BTreeMap::new();
        for pair in rows {
            // An empty key is a missing one.
            let of_file = pair.0.text(&column.field).unwrap_or_default();
            alike.entry(fold(of_file)).or_default().push(pair);
        }
        for (of_file, pairs) in alike {
            let is_kept = |row: &Row| {
                row.get(&column.field).and_then(Cell::as_text).is_some_and(|text| fold(text) == of_file)
            };
            let missing = of_file.is_empty();
            // Only the first record of the file may keep the value.
            let kept = pairs.iter().filter(|(_, row)| !missing && is_kept(row)).count();
            let first = pairs.first().is_some_and(|(_, row)| is_kept(row));
            let right = match (holders.taken(&of_file), kept) {
                _ if missing => true,
                (Certainty::Yes | Certainty::Perhaps, 0) => true,
                (Certainty::No | Certainty::Perhaps, 1) => first,
                _ => false,
            };
            if !right {
                let (name, field) = (&model.name, &column.field);
                self.mismatch(format!("of {} {name} that share a {field}, {kept} have kept it", pairs.len()));
            }
            for (record, row) in pairs {
                let found = row.get(&column.field).cloned().unwrap_or(Cell::Null);
                let replaced = missing || !is_kept(row);
                self.check_replaced(model, column, new, (record, row), &found, replaced, missing);
            }
        }
        let mut found: HashMap<&str, usize> = HashMap::new();
        for (_, row) in rows {
            if let Some(text) = row.get(&column.field).and_then(Cell::as_text) {
                *found.entry(text).or_default() += 1;
            }
        }
        if found.values().any(|count| *count > 1) {
            self.mismatch(format!("{} has a {} twice", model.name, column.field));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of check_unique, split off for its length")]
    fn check_replaced(
        &mut self,
        model: &Model,
        column: &Column,
        new: New,
        (record, row): (&FileRecord, &Row),
        found: &Cell,
        replaced: bool,
        missing: bool,
    ) {
        let cell = |field: &str| row.get(field).cloned().unwrap_or(Cell::Null);
        let of_file = |field: &str| {
            let column = model.column(field).and_then(|index| model.columns.get(index));
            column.and_then(|column| self.cell_of_file(column, record).ok().flatten()).unwrap_or(Cell::Null)
        };
        let right = match (new, replaced) {
            (New::Key(digits), true) => found.as_text().is_some_and(|text| is_hex(text, digits)),
            (New::Key(_), false) => true,
            (New::Hash, true) => {
                let last = cell("token_last_characters");
                found.as_text().is_some_and(|text| is_hex(text, 64))
                    && last.as_text().is_some_and(|last| last.chars().count() == 4)
                    && last != of_file("token_last_characters")
            }
            (New::Hash, false) => cell("token_last_characters") == of_file("token_last_characters"),
            // A member without token has nothing to lose.
            (New::Nothing, true) if missing => cell("token_expires_at") == of_file("token_expires_at"),
            (New::Nothing, true) => *found == Cell::Null && cell("token_expires_at") == Cell::Null,
            (New::Nothing, false) => cell("token_expires_at") == of_file("token_expires_at"),
        };
        if !right {
            self.mismatch(format!(
                "{} {}: {} is neither the file's nor what it is to be replaced by",
                model.name, record.pk, column.field
            ));
        }
        match new {
            _ if !replaced => {}
            New::Nothing if missing => {}
            New::Nothing => self.expect(record, &[FindingKind::TokenCleared], &[&column.field]),
            New::Key(_) | New::Hash => self.expect(record, &[FindingKind::KeyRegenerated], &[&column.field]),
        }
    }

    /// Checks that rows from before the import are unchanged, and that the import added only the rows that it reports.
    pub(super) fn check_no_other_rows(&mut self) {
        for model in self.catalog.models() {
            let inserted: BTreeSet<i64> =
                self.inserted_rows(&model.name).into_iter().map(|(id, _)| id).collect();
            let (before, after) = (self.before.rows(&model.name), self.after.rows(&model.name));
            for (id, row) in before {
                if after.get(id) != Some(row) {
                    self.mismatch(format!("row {id} of {} was there before and has changed", model.name));
                }
                if inserted.contains(id) {
                    self.mismatch(format!(
                        "row {id} of {} was there before and is said to be new",
                        model.name
                    ));
                }
            }
            for (id, values) in after {
                let row = (model.name.clone(), *id);
                let ours = inserted.contains(id) || before.contains_key(id) || self.added.contains(&row);
                let theirs = self.others.contains(&row) || self.is_added_by_other(&model.name, values);
                if !ours && !theirs {
                    self.mismatch(format!("row {id} of {} is of no record", model.name));
                }
            }
        }
    }
}
