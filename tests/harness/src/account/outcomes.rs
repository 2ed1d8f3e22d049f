//! Decides what the import must do with each record, from the file, the filter, the flags, and the rows that existed
//! before.

use std::collections::{BTreeSet, HashMap, HashSet};

use causeway_proto::relocation::v1::{Finding, FindingKind, KeyKind};
use causeway_relocation::catalog::{Column, Condition, Default, Model, Scope};

use super::{
    Outcome,
    case::AuditCase,
    cell::{self, Cell},
    file::FileRecord,
    owners::{Memberships, Owner},
    taken::{Certainty, Holders},
    unreferenced::Unreferenced,
};

const ORGANIZATION: &str = "sentry.organization";
const MEMBER: &str = "sentry.organizationmember";
const USER: &str = "sentry.user";
const EMAIL: &str = "sentry.email";

/// What a filter selects directly: organizations, the users among their members, and the e-mail addresses of those
/// users.
struct Selection {
    nothing: bool,
    organizations: HashSet<i64>,
    users: HashSet<i64>,
    emails: HashSet<String>,
}

/// Whether the application rejects the value of an option. `Perhaps` if the audit cannot decide.
fn is_unknown_option(model: &Model, record: &FileRecord) -> Certainty {
    let (Some(key), Some(value)) = (record.text("key"), record.fields.get("value")) else {
        return Certainty::No;
    };
    let column = model.column("value").and_then(|index| model.columns.get(index));
    let Some(Ok(Cell::Json(value))) = column.map(|column| cell::of_file(column, value)) else {
        return Certainty::No;
    };
    let one_of =
        |known: &[serde_json::Value]| if known.contains(&value) { Certainty::No } else { Certainty::Yes };
    match key {
        "theme" => one_of(&["light".into(), "dark".into(), "system".into()]),
        "stacktrace_order" => one_of(&[(-1).into(), 1.into(), 2.into(), "-1".into(), "1".into(), "2".into()]),
        "default_issue_event" => one_of(&["recommended".into(), "latest".into(), "oldest".into()]),
        "clock_24_hours" => one_of(&[
            true.into(),
            false.into(),
            0.into(),
            1.into(),
            "true".into(),
            "false".into(),
            "0".into(),
            "1".into(),
        ]),
        // There are too many valid values to list them here.
        "timezone" | "language" if value.is_string() => Certainty::Perhaps,
        "timezone" | "language" => Certainty::Yes,
        _ => Certainty::No,
    }
}

/// The fields that identify an option, for models that have at most one option for an owner and a key.
fn one_for_each(model: &str) -> Option<&'static [&'static str]> {
    match model {
        "sentry.organizationoption" => Some(&["organization", "key"]),
        "sentry.projectoption" => Some(&["project", "key"]),
        "sentry.useroption" => Some(&["user", "key", "organization_id", "project_id"]),
        _ => None,
    }
}

/// Whether the import clears a reference whose target is not imported, instead of dropping the record.
pub(super) fn is_cleared(model: &str, field: &str) -> bool {
    matches!(
        (model, field),
        (MEMBER | "sentry.organizationmemberinvite", "inviter_id")
            | ("sentry.monitor" | "workflow_engine.detector" | "workflow_engine.workflow", "owner_team_id")
    )
}

/// The two owner fields of a record that has both set. The row keeps only the first owner.
pub(super) fn second_owner(record: &FileRecord) -> Option<(&'static str, &'static str)> {
    let both = match record.model.as_str() {
        "sentry.rule" => ("owner_team", "owner_user_id"),
        "sentry.monitor" | "workflow_engine.detector" | "workflow_engine.workflow" => {
            ("owner_team_id", "owner_user_id")
        }
        _ => return None,
    };
    (record.set(both.0).is_some() && record.set(both.1).is_some()).then_some(both)
}

/// What a data source reads, or whom an action notifies: the model, if its type is known, and the primary key. `None`
/// if the record names nothing by a type.
pub(super) fn source_of(record: &FileRecord) -> Option<(Option<&'static str>, Option<i64>)> {
    if record.model == "sentry.notificationaction" {
        let target = match record.pk_in("target_type") {
            Some(1) => USER,
            Some(2) => "sentry.team",
            _ => return None,
        };
        let pk = record.set("target_identifier")?;
        return Some((Some(target), pk.as_i64().or_else(|| pk.as_str()?.parse().ok())));
    }
    if record.model != "workflow_engine.datasource" {
        return None;
    }
    let target = match record.text("type") {
        // In 24.11 the types were numbers.
        None if record.set("type") == Some(&1.into()) => Some("sentry.querysubscription"),
        Some("snuba_query_subscription") => Some("sentry.querysubscription"),
        Some("cron_monitor") => Some("sentry.monitor"),
        _ => None,
    };
    let source = record.set("source_id")?;
    Some((target, source.as_i64().or_else(|| source.as_str()?.parse().ok())))
}

impl AuditCase<'_> {
    /// Decides about every record of the file. Each model comes after the models that it refers to.
    pub(super) fn decide_outcomes(&mut self) {
        let selection = self.selection();
        let unreferenced = self.unreferenced(selection.as_ref().map(|it| (&it.organizations, &it.users)));
        for model in self.catalog.models() {
            if !model.scopes.iter().any(|scope| matches!(scope, Scope::User | Scope::Organization)) {
                continue;
            }
            let mut named: HashMap<String, i64> = HashMap::new();
            let mut seen = HashSet::new();
            let mut memberships = Memberships::default();
            let holders = match model.name.as_str() {
                USER => self.holders(USER, "username", true),
                EMAIL => self.holders(EMAIL, "email", true),
                _ => Holders::default(),
            };
            for record in self.records_of(&model.name) {
                let unwritten = self.unwritten(model, &record, selection.as_ref(), &unreferenced, &mut seen);
                let outcome = match (unwritten, model.name.as_str()) {
                    (Some(outcome), _) => outcome,
                    (None, USER) => self.user(&record, &holders, &mut named),
                    (None, EMAIL) => self.email(&record, &holders, &mut named),
                    (None, _) => match self.merged(&record, &mut memberships) {
                        Some(outcome) => outcome,
                        None => self.inserted(model, &record),
                    },
                };
                self.outcomes.insert((model.name.clone(), record.pk), outcome);
            }
        }
        let rest: Vec<(String, i64)> =
            self.records.iter().map(|record| (record.model.clone(), record.pk)).collect();
        for key in rest {
            self.outcomes.entry(key).or_insert(Outcome::OutOfScope);
        }
    }

    fn selection(&mut self) -> Option<Selection> {
        let wanted: BTreeSet<String> = self.options.filter.clone()?.into_iter().collect();
        let with = |model: &str, field: &str| -> Vec<(i64, String)> {
            let records = self.records.iter().filter(|record| record.model == model);
            records.filter_map(|record| Some((record.pk, record.text(field)?.to_owned()))).collect()
        };
        let slugs = with(ORGANIZATION, "slug");
        let organizations: HashSet<i64> =
            slugs.iter().filter(|(_, slug)| wanted.contains(slug)).map(|(pk, _)| *pk).collect();
        let members = self.records.iter().filter(|record| {
            record.model == MEMBER
                && record.pk_in("organization").is_some_and(|pk| organizations.contains(&pk))
        });
        let users: HashSet<i64> = members.filter_map(|member| member.pk_in("user_id")).collect();
        let of_user = self.records.iter().filter(|record| match record.model.as_str() {
            USER => users.contains(&record.pk),
            "sentry.useremail" => record.pk_in("user").is_some_and(|pk| users.contains(&pk)),
            _ => false,
        });
        let emails = of_user.filter_map(|record| Some(record.text("email")?.to_lowercase())).collect();
        for slug in &wanted {
            if !slugs.iter().any(|(_, known)| known == slug) {
                self.expect_of_model(FindingKind::FilterSlugNotFound, ORGANIZATION, None);
            }
        }
        Some(Selection { nothing: wanted.is_empty(), organizations, users, emails })
    }

    /// Why the import must not write a record. `None` if it must write it.
    fn unwritten(
        &mut self,
        model: &Model,
        record: &FileRecord,
        selection: Option<&Selection>,
        unreferenced: &Unreferenced,
        seen: &mut HashSet<String>,
    ) -> Option<Outcome> {
        let find_organization = self.find_organization(model, record);
        if self.defective.contains(&(record.model.clone(), record.ordinal)) {
            return Some(Outcome::Filtered);
        }
        // These models are in two scopes. The record itself decides, or the record that it refers to.
        let other_scope = match model.name.as_str() {
            "sentry.notificationaction" => {
                record.set("integration_id").is_some() || record.set("sentry_app_id").is_some()
            }
            "sentry.notificationactionproject" => record.pk_in("action").is_some_and(|action| {
                self.outcome("sentry.notificationaction", action) == Some(Outcome::OutOfScope)
            }),
            _ => false,
        };
        if other_scope {
            return Some(Outcome::OutOfScope);
        }
        if let Some(selection) = selection {
            let taken = match model.name.as_str() {
                _ if selection.nothing => false,
                ORGANIZATION => selection.organizations.contains(&record.pk),
                USER => selection.users.contains(&record.pk),
                EMAIL => {
                    record.text("email").is_some_and(|email| selection.emails.contains(&email.to_lowercase()))
                }
                _ => !unreferenced.filtered.contains(&(model.name.clone(), record.pk)),
            };
            if !taken {
                return Some(Outcome::Filtered);
            }
        }
        // What this database has no place for is reported for all such records at once.
        let has_table = self.after.has_table(&model.name);
        let no_place = match has_table {
            true => self.lacks_value(model, record).map(Some),
            false => Some(None),
        };
        if no_place.is_none() && unreferenced.unreferred.contains(&(model.name.clone(), record.pk)) {
            self.expect(record, &[FindingKind::SkippedByRule], &[]);
            return Some(Outcome::Dropped);
        }

        let mut reasons: Vec<FindingKind> = Vec::new();
        let mut fields: Vec<&str> = Vec::new();
        let (mut elsewhere, mut cleared) = (false, Vec::new());
        for column in &model.columns {
            let (Some(target), Some(pk)) = (&column.references, record.pk_in(&column.field)) else {
                continue;
            };
            if has_table && !self.after.has_column(&model.name, &column.column) {
                continue;
            }
            let outcome = self.outcome(target, pk);
            match outcome {
                Some(Outcome::Inserted(_) | Outcome::Existing(_)) => {}
                _ if is_cleared(&model.name, &column.field) => cleared.push(column.field.as_str()),
                _ => {
                    // If a record belongs to another organization, or to a user whom the filter excludes, the filter
                    // excludes the record too. If a record of a wanted organization only refers to such a user, the
                    // import drops it.
                    let of_user = model.scopes.contains(&Scope::User);
                    elsewhere |= outcome == Some(Outcome::Filtered) && (target != USER || of_user);
                    reasons.push(FindingKind::DroppedReference);
                    fields.push(&column.field);
                }
            }
        }
        if let Some((target, pk)) = source_of(record) {
            match target.and_then(|target| self.outcome(target, pk?)) {
                Some(Outcome::Inserted(_) | Outcome::Existing(_)) => {}
                _ => {
                    reasons.push(FindingKind::DroppedReference);
                    fields.push(match target {
                        Some(_) if model.name == "sentry.notificationaction" => "target_identifier",
                        Some(_) => "source_id",
                        None => "type",
                    });
                }
            }
        }
        if let Some(field) = no_place
            && !(elsewhere && !(find_organization && self.belongs_to_what_is_here(model, record)))
        {
            *self.no_place.entry((model.name.clone(), field.map(str::to_owned))).or_default() += 1;
            return Some(Outcome::Dropped);
        }
        if elsewhere && find_organization && self.belongs_to_what_is_here(model, record) {
            self.expect(record, &[FindingKind::TwoOrganizations], &[]);
            return Some(Outcome::Dropped);
        }
        if elsewhere {
            return Some(Outcome::Filtered);
        }
        if matches!(model.name.as_str(), "sentry.useremail" | "sentry.useroption")
            && let Some(user) = record.pk_in("user")
            && matches!(self.outcome(USER, user), Some(Outcome::Existing(_)))
        {
            reasons.push(FindingKind::SkippedByRule);
            fields.push("user");
        }
        if model.name == "sentry.savedsearch" && record.set("is_global") == Some(&true.into()) {
            reasons.push(FindingKind::SkippedByRule);
            fields.push("is_global");
        }
        let is_reported = |finding: &Finding| {
            finding.kind() == FindingKind::OptionLeftOut
                && finding.model == model.name
                && finding.ordinal == record.ordinal
        };
        let is_unknown_option = model.name == "sentry.useroption"
            && match is_unknown_option(model, record) {
                Certainty::Yes => true,
                Certainty::Perhaps => self.findings.iter().any(is_reported),
                Certainty::No => false,
            };
        if is_unknown_option {
            reasons.push(FindingKind::OptionLeftOut);
            fields.push("value");
        } else if let Some(key) = one_for_each(&model.name) {
            let key: Vec<String> = key.iter().map(|field| format!("{:?}", record.set(field))).collect();
            if !seen.insert(key.join(" ")) {
                reasons.push(FindingKind::DuplicateDropped);
                fields.clear();
            }
        }
        if reasons.is_empty() {
            match self.owner(record) {
                Owner::NotByActor => {}
                Owner::Known(_, target, pk) if self.new_pk(target, pk).is_some() => {}
                Owner::Known(..) | Owner::Unknown => cleared.push("owner"),
            }
            if let Some((first, second)) = second_owner(record)
                && !cleared.contains(&first)
            {
                cleared.push(second);
            }
            for field in cleared {
                self.expect(record, &[FindingKind::ClearedReference], &[field]);
            }
            self.expect_nested(model, record);
            self.expect_generated_slug(record);
            if find_organization {
                self.expect(record, &[FindingKind::TwoOrganizations], &[]);
            }
            let status = record.set("status").and_then(serde_json::Value::as_i64).unwrap_or(0);
            if model.name == ORGANIZATION && self.options.hide_organizations && status != 0 {
                self.expect(record, &[FindingKind::HiddenStatus], &["status"]);
            }
            return None;
        }
        self.expect(record, &reasons, &fields);
        Some(Outcome::Dropped)
    }

    /// A field that is missing in the record although the product's database needs it and no rule makes a
    /// value.
    fn lacks_value<'m>(&self, model: &'m Model, record: &FileRecord) -> Option<&'m str> {
        let is_made = |field: &str| {
            matches!(
                field,
                "slug" | "public_key" | "secret_key" | "token" | "token_hashed" | "subscription_id"
            )
        };
        let lacks = |column: &&Column| {
            let field = column.field.as_str();
            let is_null = match record.fields.get(field) {
                Some(value) => value.is_null(),
                None => matches!(column.default, Default::Null),
            };
            let has_default = matches!(column.default, Default::Literal(_) | Default::Now);
            is_null
                && !has_default
                && column.null
                && self.after.needs_value(&model.name, &column.column)
                && !is_made(field)
        };
        // There was one such type.
        if self.after.numbers_sources()
            && record.model == "workflow_engine.datasource"
            && record.text("type").is_some_and(|name| name != "snuba_query_subscription")
        {
            return Some("type");
        }
        model.columns.iter().find(lacks).map(|column| column.field.as_str())
    }

    /// Expects a finding for each primary key inside a value that leads to nothing imported.
    fn expect_nested(&mut self, model: &Model, record: &FileRecord) {
        for column in model.columns.iter().filter(|column| column.references.is_none()) {
            let Some(value) = record.fields.get(&column.field) else { continue };
            let Ok(cell) = cell::of_file(column, value) else { continue };
            let (cleared, kept) = self.nested_lost(record, &column.field, cell);
            for _ in 0..cleared {
                self.expect(record, &[FindingKind::ClearedReference], &[&column.field]);
            }
            for _ in 0..kept {
                self.expect_of_model(FindingKind::IdNotMapped, &model.name, Some(&column.field));
            }
        }
    }

    /// Decides about a user: it is merged into the user who has the name already, or becomes a new row.
    fn user(&mut self, record: &FileRecord, holders: &Holders, named: &mut HashMap<String, i64>) -> Outcome {
        let name = record.text("username").unwrap_or_default().to_lowercase();
        let mapped = self.mapped.get(&(USER.to_owned(), record.pk)).copied();
        let taken = if named.contains_key(&name) { Certainty::Yes } else { holders.taken(&name) };
        let merged = self.options.merge_users
            && match taken {
                Certainty::Yes => true,
                Certainty::Perhaps => matches!(mapped, Some((_, KeyKind::Existing))),
                Certainty::No => false,
            };
        if merged {
            self.expect(record, &[FindingKind::UserMerged], &["username"]);
            let mut holders = holders.ids(&name);
            holders.extend(named.get(&name));
            return self.existing(record, &holders);
        }
        let Some((id, KeyKind::Inserted)) = mapped else {
            self.mismatch(format!("user {} must be a new one and is {mapped:?}", record.pk));
            return Outcome::Dropped;
        };
        let given =
            self.after.row(USER, id).and_then(|row| row.get("username")?.as_text()).unwrap_or_default();
        let kept = Some(given) == record.text("username");
        match (taken, kept) {
            (Certainty::No, false) => self.mismatch(format!("the name of user {} was free", record.pk)),
            (Certainty::Yes, true) => self.mismatch(format!("the name of user {} was taken", record.pk)),
            _ => {}
        }
        let given = given.to_lowercase();
        if !kept {
            self.renamed.insert(record.pk);
            self.expect(record, &[FindingKind::UsernameChanged], &["username"]);
            if holders.taken(&given) != Certainty::No || named.contains_key(&given) {
                self.mismatch(format!("user {} got a name that was taken too", record.pk));
            }
        }
        named.insert(given, id);
        Outcome::Inserted(id)
    }

    /// Decides about an e-mail address: it is mapped to the row that exists already, or becomes a new row.
    fn email(&mut self, record: &FileRecord, holders: &Holders, named: &mut HashMap<String, i64>) -> Outcome {
        let email = record.text("email").unwrap_or_default().to_lowercase();
        let mapped = self.mapped.get(&(EMAIL.to_owned(), record.pk)).copied();
        let taken = if named.contains_key(&email) { Certainty::Yes } else { holders.taken(&email) };
        if taken == Certainty::Yes
            || matches!((taken, mapped), (Certainty::Perhaps, Some((_, KeyKind::Existing))))
        {
            let mut holders = holders.ids(&email);
            holders.extend(named.get(&email));
            return self.existing(record, &holders);
        }
        match mapped {
            Some((id, KeyKind::Inserted)) => {
                named.insert(email, id);
                Outcome::Inserted(id)
            }
            _ => {
                self.mismatch(format!("e-mail {} must be a new one and is {mapped:?}", record.pk));
                Outcome::Dropped
            }
        }
    }

    pub(super) fn existing(&mut self, record: &FileRecord, holders: &[i64]) -> Outcome {
        match self.mapped.get(&(record.model.clone(), record.pk)).copied() {
            Some((id, KeyKind::Existing)) if holders.contains(&id) => Outcome::Existing(id),
            mapped => {
                let (model, pk) = (&record.model, record.pk);
                self.mismatch(format!("{model} {pk} must be one of {holders:?} and is {mapped:?}"));
                Outcome::Dropped
            }
        }
    }

    /// Decides about a record that must become a new row, unless a row exists that agrees with it in a unique set.
    fn inserted(&mut self, model: &Model, record: &FileRecord) -> Outcome {
        match self.mapped.get(&(model.name.clone(), record.pk)).copied() {
            Some((id, KeyKind::Inserted)) => Outcome::Inserted(id),
            None if self.is_second_of_its_kind(model, record) => {
                self.expect(record, &[FindingKind::DuplicateDropped], &[]);
                Outcome::Dropped
            }
            mapped => {
                self.mismatch(format!("{} {} must be a new row and is {mapped:?}", model.name, record.pk));
                Outcome::Dropped
            }
        }
    }

    /// Whether there is a row that agrees with the record in a unique set.
    fn is_second_of_its_kind(&self, model: &Model, record: &FileRecord) -> bool {
        let value = |index: usize| {
            let column = model.columns.get(index)?;
            let value = record.set(&column.field)?;
            Some(match &column.references {
                Some(target) => Cell::Int(self.new_pk(target, value.as_i64()?)?),
                None => cell::of_file(column, value).ok()?,
            })
        };
        let holds = |condition: &Condition| {
            let field = model.columns.get(condition.column).map_or("", |column| column.field.as_str());
            record.set(field) == condition.equals.as_ref()
        };
        model.unique.iter().filter(|set| set.condition.as_ref().is_none_or(holds)).any(|set| {
            let wanted: Option<Vec<(&String, Cell)>> = set
                .columns
                .iter()
                .map(|index| Some((&model.columns.get(*index)?.field, value(*index)?)))
                .collect();
            wanted.is_some_and(|wanted| {
                self.after
                    .rows(&model.name)
                    .values()
                    .any(|row| wanted.iter().all(|(field, cell)| row.get(*field) == Some(cell)))
            })
        })
    }
}
