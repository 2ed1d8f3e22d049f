//! Exports for tests: built record by record, generated, mutated, or one with everything.

mod exhaustive;
mod generated;
mod mutation;
#[expect(clippy::expect_used, clippy::panic, reason = "what does not hold ends its test")]
mod reading;
mod values;

use causeway_relocation::catalog::{Catalog, CatalogError};
use serde_json::{Map, Value, json};

pub use exhaustive::{OTHER_SLUG, OTHER_SOURCE_ID, SLUG, SOURCE_ID, exhaustive};
pub use generated::generated;
pub use mutation::{mutate, nested};
pub use reading::read;

/// A record of an export.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The model's name, written as in the file.
    pub model: String,
    /// The primary key in the file.
    pub pk: i64,
    /// The fields by name, without references resolved.
    pub fields: Map<String, Value>,
}

impl Record {
    /// Creates a record. `fields` is a JSON object.
    #[must_use]
    pub fn new(model: &str, pk: i64, fields: &Value) -> Self {
        Self { model: model.to_owned(), pk, fields: fields.as_object().cloned().unwrap_or_default() }
    }

    fn line(&self) -> String {
        json!({"model": self.model, "pk": self.pk, "fields": self.fields}).to_string()
    }

    /// Sets fields, and replaces those that exist already. `fields` is a JSON object.
    #[must_use]
    pub fn with(mut self, fields: &Value) -> Self {
        self.fields.extend(fields.as_object().cloned().unwrap_or_default());
        self
    }
}

/// Builds an export. Each helper adds a record with the fields that its model needs at least. Records of other models,
/// or with other fields, can be [pushed](Export::push).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Export {
    /// The records, in the order of the file.
    pub records: Vec<Record>,
}

impl Export {
    /// An export without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of the file, one record per line.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines: Vec<String> = self.records.iter().map(Record::line).collect();
        format!("[\n{}\n]\n", lines.join(",\n")).into_bytes()
    }

    /// The byte offset in the [file](Self::to_bytes) at which the record of a model with this primary key begins. The
    /// last such record, if there are several.
    #[must_use]
    pub fn offset(&self, model: &str, pk: i64) -> Option<usize> {
        let mut at = 2;
        let mut found = None;
        for record in &self.records {
            if record.pk == pk && record.model.eq_ignore_ascii_case(model) {
                found = Some(at);
            }
            at += record.line().len() + 2;
        }
        found
    }

    /// Adds a record at the end. `fields` is a JSON object.
    pub fn push(&mut self, model: &str, pk: i64, fields: &Value) -> &mut Self {
        self.records.push(Record::new(model, pk, fields));
        self
    }

    /// Finds the record of a model with this primary key. The letter case of the model does not matter.
    pub fn find(&mut self, model: &str, pk: i64) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.pk == pk && record.model.eq_ignore_ascii_case(model))
    }

    /// The same records from the last to the first.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.records.reverse();
        self
    }

    /// The same records in an order that follows from `seed` alone.
    #[must_use]
    pub fn shuffled(self, seed: u64) -> Self {
        let mut keyed: Vec<(u64, Record)> = self
            .records
            .into_iter()
            .enumerate()
            .map(|(index, record)| (values::hash(&[&seed.to_string(), &index.to_string()]), record))
            .collect();
        keyed.sort_by_key(|(key, _)| *key);
        Self { records: keyed.into_iter().map(|(_, record)| record).collect() }
    }

    /// Sorts the records as exports normally have them: model by model, each after those that it refers to. Models that
    /// the catalog does not know come first.
    ///
    /// # Errors
    /// If the catalog contradicts itself.
    pub fn in_order(mut self) -> Result<Self, CatalogError> {
        let catalog = Catalog::load()?;
        self.records.sort_by_key(|record| catalog.position(&record.model));
        Ok(self)
    }

    /// Adds an organization with a name made from its primary key.
    pub fn organization(&mut self, pk: i64, slug: &str) -> &mut Self {
        self.push("sentry.organization", pk, &json!({"name": format!("Organization {pk}"), "slug": slug}))
    }

    /// Adds a user, with an e-mail address derived from the username.
    pub fn user(&mut self, pk: i64, username: &str) -> &mut Self {
        let email = format!("{username}@example.com");
        self.push("sentry.user", pk, &json!({"username": username, "password": "pbkdf2$x", "email": email}))
    }

    /// Adds an e-mail address.
    pub fn email(&mut self, pk: i64, email: &str) -> &mut Self {
        self.push("sentry.email", pk, &json!({"email": email}))
    }

    /// Gives a user an e-mail address.
    pub fn user_email(&mut self, pk: i64, user: i64, email: &str) -> &mut Self {
        self.push("sentry.useremail", pk, &json!({"user": user, "email": email, "is_verified": true}))
    }

    /// Gives a user an option that applies everywhere.
    pub fn user_option(&mut self, pk: i64, user: i64, key: &str, value: &Value) -> &mut Self {
        self.push("sentry.useroption", pk, &json!({"user": user, "key": key, "value": value.to_string()}))
    }

    /// Makes a user an owner of an organization.
    pub fn member(&mut self, pk: i64, organization: i64, user: i64) -> &mut Self {
        self.push(
            "sentry.organizationmember",
            pk,
            &json!({"organization": organization, "user_id": user, "role": "owner"}),
        )
    }

    /// Invites an e-mail address into an organization.
    pub fn invite(&mut self, pk: i64, organization: i64, email: &str) -> &mut Self {
        self.push("sentry.organizationmember", pk, &json!({"organization": organization, "email": email}))
    }

    /// Adds a team, which has its slug as its name too.
    pub fn team(&mut self, pk: i64, organization: i64, slug: &str) -> &mut Self {
        self.push("sentry.team", pk, &json!({"organization": organization, "slug": slug, "name": slug}))
    }

    /// Adds a project, which has its slug as its name too.
    pub fn project(&mut self, pk: i64, organization: i64, slug: &str) -> &mut Self {
        self.push("sentry.project", pk, &json!({"organization": organization, "slug": slug, "name": slug}))
    }

    /// Gives a project a key. Both halves are derived from `key`.
    pub fn project_key(&mut self, pk: i64, project: i64, key: &str) -> &mut Self {
        let (public, secret) = (values::hex(&["public", key], 32), values::hex(&["secret", key], 32));
        self.push(
            "sentry.projectkey",
            pk,
            &json!({"project": project, "public_key": public, "secret_key": secret}),
        )
    }

    /// Gives a project an option.
    pub fn project_option(&mut self, pk: i64, project: i64, key: &str, value: &Value) -> &mut Self {
        self.push(
            "sentry.projectoption",
            pk,
            &json!({"project": project, "key": key, "value": value.to_string()}),
        )
    }

    /// Gives an organization an auth token. Its hash is derived from `name`.
    pub fn auth_token(&mut self, pk: i64, organization: i64, name: &str) -> &mut Self {
        let hashed = values::hex(&["token", name], 64);
        self.push(
            "sentry.orgauthtoken",
            pk,
            &json!({
                "organization_id": organization, "name": name, "token_hashed": hashed,
                "token_last_characters": "abcd", "scope_list": "[\"org:ci\"]",
            }),
        )
    }
}

/// A large export: `organizations` of them, each with about a hundred records of fourteen models, and a long text in
/// many of the records. Every tenth slug occurs twice.
#[must_use]
pub fn large(organizations: i64) -> Export {
    let mut export = Export::new();
    for o in 1..=organizations {
        let (user, project) = (o * 3, |index: i64| o * 100 + index);
        let slug = if o % 10 == 0 { o - 1 } else { o };
        export
            .organization(o, &format!("tenant-{slug}"))
            .user(user, &format!("user-{o}"))
            .email(user, &format!("user-{o}@example.com"))
            .user_email(user, user, &format!("user-{o}@example.com"))
            .user_option(user, user, "theme", &json!("dark"))
            .member(o, o, user)
            .auth_token(o, o, &format!("token {o}"));
        for index in 0..10 {
            export.team(project(index), o, &format!("team-{index}"));
            export.project(project(index), o, &format!("project-{index}"));
            export.project_key(project(index), project(index), &format!("{o} {index}"));
            export.push(
                "sentry.projectteam",
                project(index),
                &json!({"project": project(index), "team": project(index)}),
            );
            export.project_option(
                project(index),
                project(index),
                "sentry:resolve_age",
                &json!({"hours": index}),
            );
            export.push(
                "sentry.environment",
                project(index),
                &json!({"organization_id": o, "name": format!("environment {index}")}),
            );
            for rule in 0..3 {
                let text =
                    "a condition of some length, so that batches are cut by their size too; ".repeat(4);
                export.push(
                    "sentry.rule",
                    project(index) * 3 + rule,
                    &json!({"project": project(index), "label": format!("rule {rule}"), "data": {"text": text}}),
                );
            }
        }
    }
    let catalog = Catalog::load();
    export.records.sort_by_key(|record| catalog.as_ref().ok().and_then(|it| it.position(&record.model)));
    export
}
