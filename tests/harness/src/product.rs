//! Databases as the product makes them, for tests that import into one. Only PostgreSQL: the product has no other.

use anyhow::Context as _;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Schema {
    tables: std::collections::BTreeMap<String, Table>,
}

#[derive(Debug, Deserialize)]
struct Table {
    columns: Vec<Column>,
    #[serde(default)]
    unique: Vec<Unique>,
    #[serde(default)]
    foreign_keys: Vec<ForeignKey>,
    #[serde(default)]
    checks: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    sql: String,
    #[serde(default)]
    null: bool,
    default: Option<String>,
    identity: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Unique {
    columns: Vec<String>,
    #[serde(rename = "where")]
    condition: Option<String>,
    /// Whether it is a constraint that is checked at the end of a transaction.
    #[serde(default)]
    deferred: bool,
}

#[derive(Debug, Deserialize)]
struct ForeignKey {
    columns: Vec<String>,
    references: String,
    deferred: bool,
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A release of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// As read from a database of that release.
    R24_9,
    /// The tables of 25.6, changed back to what the public schema files say of then.
    R24_11,
    /// What the public schema files say changed until then.
    R25_6,
    /// The same, until then.
    R26_6,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::R24_9, Self::R24_11, Self::R25_6, Self::R26_6];

    fn description(self) -> &'static str {
        match self {
            Self::R24_9 => include_str!("../product/24.9.json"),
            Self::R24_11 | Self::R25_6 => include_str!("../product/25.6.json"),
            Self::R26_6 => include_str!("../product/26.6.json"),
        }
    }

    /// The statements that change the tables of its description.
    fn changes(self) -> &'static [&'static str] {
        match self {
            Self::R24_11 => &BACK_TO_24_11,
            Self::R24_9 | Self::R25_6 | Self::R26_6 => &[],
        }
    }
}

/// What was other in November 2024 than in 25.6: columns had other names, one said the opposite, conditions had their
/// operator beside their type, the types of data sources were numbers, owners and rules were foreign keys.
const BACK_TO_24_11: [&str; 12] = [
    "ALTER TABLE workflow_engine_datasource RENAME COLUMN source_id TO query_id",
    "ALTER TABLE workflow_engine_datasource ALTER COLUMN query_id TYPE bigint USING query_id::bigint, \
     ALTER COLUMN type TYPE integer USING type::integer",
    "ALTER TABLE workflow_engine_datacondition ADD COLUMN condition varchar(200) NOT NULL",
    "ALTER TABLE sentry_dashboardpermissions RENAME COLUMN is_editable_by_everyone TO is_creator_only_editable",
    "ALTER TABLE workflow_engine_detector ADD COLUMN organization_id bigint NOT NULL REFERENCES sentry_organization (id) \
     DEFERRABLE INITIALLY DEFERRED, DROP COLUMN project_id, DROP COLUMN config, DROP COLUMN enabled, DROP COLUMN status, \
     DROP COLUMN description, DROP COLUMN created_by_id",
    "ALTER TABLE workflow_engine_detector ADD FOREIGN KEY (owner_team_id) REFERENCES sentry_team (id) \
     DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE workflow_engine_workflow ADD FOREIGN KEY (owner_team_id) REFERENCES sentry_team (id) \
     DEFERRABLE INITIALLY DEFERRED, ADD UNIQUE (name, organization_id)",
    "ALTER TABLE workflow_engine_alertruledetector \
     ADD FOREIGN KEY (alert_rule_id) REFERENCES sentry_alertrule (id) DEFERRABLE INITIALLY DEFERRED, \
     ADD FOREIGN KEY (rule_id) REFERENCES sentry_rule (id) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE workflow_engine_alertruleworkflow \
     ADD FOREIGN KEY (alert_rule_id) REFERENCES sentry_alertrule (id) DEFERRABLE INITIALLY DEFERRED, \
     ADD FOREIGN KEY (rule_id) REFERENCES sentry_rule (id) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE sentry_groupsearchview ADD COLUMN position smallint NOT NULL CHECK (position >= 0), \
     ADD UNIQUE (user_id, organization_id, position) DEFERRABLE INITIALLY DEFERRED, DROP COLUMN visibility, \
     DROP COLUMN is_all_projects, DROP COLUMN environments, DROP COLUMN time_filters",
    "ALTER TABLE sentry_monitor DROP COLUMN is_upserting",
    "DROP TABLE workflow_engine_dataconditionalertruletrigger, workflow_engine_workflowgroupstatus, \
     sentry_dashboardfavoriteuser, sentry_groupsearchviewproject, sentry_groupsearchviewstarred, \
     sentry_groupsearchviewlastvisited, sentry_organizationmemberinvite, sentry_projectsdk, explore_exploresavedquery, \
     explore_exploresavedqueryproject, explore_exploresavedquerystarred, explore_exploresavedquerylastvisited, \
     insights_starred_segments CASCADE",
];

/// The statements that make the tables of a release of the product.
///
/// # Errors
/// If the description of the tables cannot be read.
pub fn tables(release: Release) -> anyhow::Result<Vec<String>> {
    let schema: Schema = serde_json::from_str(release.description())
        .with_context(|| format!("the description of {release:?}"))?;
    let mut statements = vec!["CREATE EXTENSION IF NOT EXISTS citext".to_owned()];
    for (name, table) in &schema.tables {
        let mut lines = Vec::new();
        for column in &table.columns {
            let mut line = format!("{} {}", quoted(&column.name), column.sql);
            if column.identity.is_some() {
                line.push_str(" GENERATED BY DEFAULT AS IDENTITY");
            } else if let Some(default) = &column.default {
                line.push_str(&format!(" DEFAULT {default}"));
            }
            if column.name == "id" {
                line.push_str(" PRIMARY KEY");
            } else if !column.null {
                line.push_str(" NOT NULL");
            }
            lines.push(line);
        }
        lines.extend(table.checks.iter().cloned());
        statements.push(format!("CREATE TABLE {} ({})", quoted(name), lines.join(", ")));
        for unique in &table.unique {
            let condition = unique.condition.as_ref().map_or_else(String::new, |it| format!(" WHERE {it}"));
            let columns = list(&unique.columns);
            statements.push(match unique.deferred {
                true => format!(
                    "ALTER TABLE {} ADD UNIQUE ({columns}) DEFERRABLE INITIALLY DEFERRED",
                    quoted(name)
                ),
                false => format!("CREATE UNIQUE INDEX ON {} ({columns}){condition}", quoted(name)),
            });
        }
    }
    for (name, table) in &schema.tables {
        for ForeignKey { columns, references, deferred } in &table.foreign_keys {
            let when = if *deferred { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
            statements.push(format!(
                "ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} (id){when}",
                quoted(name),
                list(columns),
                quoted(references)
            ));
        }
    }
    statements.extend(release.changes().iter().map(|statement| (*statement).to_owned()));
    Ok(statements)
}
