//! The history of each slug: which organization had it, in order. Triggers on control's own table record it,
//! so that a test can compare an answer with it whatever the services report. A transaction that changes a
//! slug locks its row, so the history has the order of the commits.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use causeway_harness::cluster::{Cluster, Silo, Store};
use causeway_silo::db::{Column, Db, Statement};

/// The state of a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SlugState {
    /// No organization has it.
    Free,
    /// An organization has reserved it, but not confirmed it.
    Temporary(Owner),
    /// It is the canonical slug of an organization.
    Primary(Owner),
    /// It is an alias of an organization.
    Alias(Owner),
}

/// An organization of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) region: String,
    pub(crate) id: i64,
}

/// The states that slugs have had, each from its first one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past(BTreeMap<String, Vec<SlugState>>);

impl Past {
    /// The states of a slug so far. The last one is its current state. A slug without history is free.
    pub(crate) fn of(&self, slug: &str) -> &[SlugState] {
        self.0.get(slug).map_or(&[SlugState::Free], Vec::as_slice)
    }

    /// The states of a slug since an earlier read, starting with its state at that time.
    pub(crate) fn since(&self, before: &Self, slug: &str) -> &[SlugState] {
        let known = before.of(slug).len();
        self.of(slug).get(known - 1..).unwrap_or_default()
    }

    /// All slugs that lead to an organization now.
    pub(crate) fn leading(&self) -> BTreeSet<&str> {
        let leads = |state: &SlugState| matches!(state, SlugState::Primary(_) | SlugState::Alias(_));
        let leading = self.0.iter().filter(|(_, states)| states.last().is_some_and(leads));
        leading.map(|(slug, _)| slug.as_str()).collect()
    }

    /// All slugs that any organization ever had.
    pub(crate) fn slugs(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    #[cfg(test)]
    pub(crate) fn with(mut self, slug: &str, states: &[SlugState]) -> Self {
        self.0.insert(slug.to_owned(), [&[SlugState::Free], states].concat());
        self
    }
}

const TABLE: &str = "CREATE TABLE test_slug_history (seq SERIAL, slug text NOT NULL, region text NOT NULL, \
                     organization_id bigint NOT NULL, type text)";
const INSERT: &str = "INSERT INTO test_slug_history (slug, region, organization_id, type) VALUES";
const ON: &str = "ON causeway_organization_slug_reservation";

/// Creates the table and the triggers that record the history of slugs.
pub(crate) async fn begin(cluster: &Cluster) -> anyhow::Result<()> {
    let new = format!("{INSERT} (new.slug, new.region, new.organization_id, new.type)");
    let old = format!("{INSERT} (old.slug, old.region, old.organization_id, NULL)");
    let statements = match cluster.store() {
        Store::Sqlite => vec![
            TABLE.replace("SERIAL", "integer PRIMARY KEY AUTOINCREMENT"),
            format!("CREATE TRIGGER test_slug_taken AFTER INSERT {ON} BEGIN {new}; END"),
            format!("CREATE TRIGGER test_slug_changed AFTER UPDATE {ON} BEGIN {new}; END"),
            format!("CREATE TRIGGER test_slug_freed AFTER DELETE {ON} BEGIN {old}; END"),
        ],
        Store::Postgres => vec![
            TABLE.replace("SERIAL", "bigserial PRIMARY KEY"),
            format!(
                "CREATE FUNCTION test_slug_history() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF TG_OP = 'DELETE' THEN {old}; ELSE {new}; END IF; RETURN NULL; END $$"
            ),
            format!(
                "CREATE TRIGGER test_slug_history AFTER INSERT OR UPDATE OR DELETE {ON} \
                 FOR EACH ROW EXECUTE FUNCTION test_slug_history()"
            ),
        ],
    };
    let index = "CREATE INDEX test_slug_history_idx ON test_slug_history (slug, seq)".to_owned();
    let statements: Vec<Statement> =
        statements.iter().chain([&index]).map(|statement| Statement::new("").push(statement)).collect();
    cluster.change(Silo::Control, &statements).await
}

/// Reads the history of these slugs from control's database; of all slugs if `None`.
pub(crate) async fn read(db: &Db, slugs: Option<&BTreeSet<String>>) -> anyhow::Result<Past> {
    let select =
        Statement::new("SELECT h.slug, h.region, h.organization_id, h.type FROM test_slug_history h");
    let select = match slugs {
        Some(slugs) => select
            .push(" JOIN ")
            .rows(db.dialect(), "r", [("slug", Column::Texts(slugs.iter().cloned().collect()))])
            .push(" ON r.slug = h.slug"),
        None => select,
    };
    let mut past = BTreeMap::<String, Vec<SlugState>>::new();
    for row in db.fetch_all(select.push(" ORDER BY h.seq")).await? {
        let owner = Owner { region: row.text("region")?, id: row.int("organization_id")? };
        let state = match row.opt_text("type")?.as_deref() {
            None => SlugState::Free,
            Some("temporary_rename_alias") => SlugState::Temporary(owner),
            Some("primary") => SlugState::Primary(owner),
            Some("vanity_alias") => SlugState::Alias(owner),
            Some(other) => bail!("a reservation of an unknown type: {other}"),
        };
        let states = past.entry(row.text("slug")?).or_insert_with(|| vec![SlugState::Free]);
        if states.last().context("a first state")? != &state {
            states.push(state);
        }
    }
    Ok(Past(past))
}
