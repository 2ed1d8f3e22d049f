//! The database of a server.

use std::{path::PathBuf, time::Duration};

use causeway_relocation::schema::Examination;
use causeway_silo::{
    db::{self, DatabaseUrl, OLDEST_POSTGRES, ServerFacts},
    env::Environment,
};
use chrono::TimeDelta;

use super::spool;
use crate::output::{
    diagnosis::{About, Check},
    numbers::counted,
    place::quoted,
};

/// How many tables a finding names at most.
const NAMED: usize = 5;

/// A larger difference between the clocks of the database and of this machine is warned of: leases of imports and times
/// of findings go by both.
const CLOCKS_MAY_DIFFER: TimeDelta = TimeDelta::seconds(5);

/// How long the whole examination of a database may take.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Some of the names, and how many more there are.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// Checks a SQLite database that does not exist yet. Returns whether the database must not be opened, because opening it
/// would make it.
pub(super) fn is_absent(about: &mut About<'_>, url: &DatabaseUrl) -> bool {
    let absent: Option<PathBuf> = match db::absent_file(url.secret()) {
        Ok(absent) => absent,
        // The configuration has been checked by now.
        Err(error) => {
            about.error_that_says_what_to_do(Check::Database, error.to_string());
            return true;
        }
    };
    let Some(path) = absent else { return false };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.map_or_else(|| PathBuf::from("."), PathBuf::from);
    if !directory.is_dir() {
        about.error(
            Check::Database,
            format!("the directory of the database {} is not there", path.display()),
            format!("`mkdir -p {}`, or mend --database-url", quoted(&directory.display().to_string())),
        );
    } else if let Err(error) = tempfile::tempfile_in(&directory) {
        about.error(
            Check::Database,
            format!("the database {} cannot be made: {error}", path.display()),
            format!("let this user write into {}, or mend --database-url", directory.display()),
        );
    } else {
        about.ok(Check::Database, format!("{} is not there yet; the server makes it", path.display()));
    }
    true
}

/// Adds what was found in a database. `connections` is how many the server opens at most.
pub(super) fn report(
    about: &mut About<'_>,
    url: &DatabaseUrl,
    found: &Examination,
    connections: u32,
    env: &Environment,
) {
    let owner = if found.of_product { ", and it is the product's" } else { "" };
    about.ok(Check::Database, format!("it answers{owner}"));
    if let Ok(Some(path)) = db::file_of_url(url.secret()) {
        spool::free_space(about, Check::Database, &path);
    }
    if let Some(damage) = &found.damage {
        about.error(
            Check::Database,
            format!("the file is damaged: {damage}"),
            "stop the server, and put back a copy of the database",
        );
    }
    server(about, found, connections, env);
    migrations(about, found);
    schema(about, found);
    rights(about, found);
    sequences(about, found);
}

fn server(about: &mut About<'_>, found: &Examination, connections: u32, env: &Environment) {
    let Some(server) = &found.server else { return };
    let mut is_right = true;
    let mut wrong = |about: &mut About<'_>, text: String, advice: &str| {
        is_right = false;
        about.error(Check::DatabaseServer, text, advice);
    };
    if server.version_number < OLDEST_POSTGRES {
        let text = format!("PostgreSQL {} is older than 15", server.version);
        wrong(about, text, "upgrade the server to PostgreSQL 15 or later");
    }
    if server.is_standby {
        let text = "the server replays what another one writes, and refuses writes itself".to_owned();
        wrong(about, text, "name the primary in --database-url");
    }
    if server.encoding != "UTF8" {
        let text = format!("the database stores texts as {}, and exports are UTF-8", server.encoding);
        wrong(
            about,
            text,
            "make a database with `createdb -E UTF8 -T template0 NAME`, and mend --database-url",
        );
    }
    if i64::from(connections) > server.max_connections {
        let text = format!(
            "the server accepts {} connections, and --database-max-connections is {connections}",
            server.max_connections
        );
        wrong(about, text, "raise max_connections of the server, or lower --database-max-connections");
    }
    if is_right {
        about.ok(Check::DatabaseServer, format!("PostgreSQL {}", server.version));
    }
    let difference = server.clock - env.now();
    if difference.abs() > CLOCKS_MAY_DIFFER {
        let (seconds, way) =
            (difference.num_seconds(), if difference > TimeDelta::zero() { "ahead of" } else { "behind" });
        about.warning(
            Check::Clock,
            format!(
                "the clock of the database's server is {} {way} this machine's",
                counted(seconds.abs(), "second")
            ),
            "set both by NTP; `timedatectl` shows whether a machine is",
        );
    } else {
        about.ok(Check::Clock, "the database's server and this machine agree");
    }
}

fn migrations(about: &mut About<'_>, found: &Examination) {
    let newest = found.newest_migration;
    match found.migration {
        None => about.ok(
            Check::Migrations,
            "no server has started on this database; the first start makes its tables",
        ),
        Some(migration) if migration < newest => about.ok(
            Check::Migrations,
            format!("the database has migration {migration}; the next start brings it to {newest}"),
        ),
        Some(migration) => {
            about.ok(Check::Migrations, format!("the database has migration {migration}, the newest"))
        }
    }
}

fn schema(about: &mut About<'_>, found: &Examination) {
    for difference in &found.differences {
        about.error(
            Check::Schema,
            difference.clone(),
            "the server does not start like this: mend --database-url, or start a release that knows these tables",
        );
    }
    for (model, reason) in &found.left_out {
        about.warning(
            Check::Schema,
            format!("records of {model} are not imported into this database: {reason}"),
            "start a release of Causeway that knows this column, if you need them",
        );
    }
    if found.differences.is_empty() && found.left_out.is_empty() {
        about.ok(Check::Schema, "the tables fit the catalog");
    }
}

fn rights(about: &mut About<'_>, found: &Examination) {
    let Some(server) = &found.server else { return };
    if !found.of_product && found.migration.is_none() && !found.unavailable_extensions.is_empty() {
        about.error(
            Check::DatabaseExtensions,
            format!("the server does not have {}", found.unavailable_extensions.join(", ")),
            "install the contrib package of PostgreSQL on the database's machine",
        );
    }
    let mut lacks = false;
    let ServerFacts { database, user, schema, .. } = server;
    if found.needs_schema {
        // The tables go into the schema that the next start makes, and its owner may create them.
        if !server.may_create_schemas {
            lacks = true;
            about.error(
                Check::DatabaseRights,
                "the user may not create schemas, and the first start makes one for Causeway's own tables",
                format!("as the owner of the database: GRANT CREATE ON DATABASE {database} TO {user};"),
            );
        }
    } else if found.migration != Some(found.newest_migration) && !server.may_create_tables {
        lacks = true;
        about.error(
            Check::DatabaseRights,
            "the user may not create tables, and the next start has to",
            format!("as the owner of the schema: GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};"),
        );
    }
    for lacking in &found.lacking_rights {
        lacks = true;
        let kind = if lacking.is_sequence { "SEQUENCE" } else { "TABLE" };
        about.error(
            Check::DatabaseRights,
            format!("the user lacks {} on {}", lacking.rights, lacking.name),
            format!("as its owner: GRANT {} ON {kind} {} TO {user};", lacking.rights, lacking.name),
        );
    }
    if !lacks {
        about.ok(Check::DatabaseRights, "the user may do all that is needed");
    }
}

fn sequences(about: &mut About<'_>, found: &Examination) {
    if found.server.is_none() {
        return;
    }
    if found.sequences_behind.is_empty() {
        about.ok(Check::Sequences, "each is at or above the highest id of its table");
        return;
    }
    let tables: Vec<String> = found.sequences_behind.iter().map(|it| it.table.clone()).collect();
    let statements: Vec<String> = found
        .sequences_behind
        .iter()
        .map(|it| format!("SELECT setval('{}', {});", it.sequence.replace('\'', "''"), it.highest))
        .collect();
    about.error(
        Check::Sequences,
        format!("the next insert of the application collides in {}", some(&tables)),
        format!("in psql: {}", statements.join(" ")),
    );
}

#[cfg(test)]
mod tests {
    use causeway_silo::db::{LackingRights, SequenceBehind};

    use super::*;
    use crate::output::diagnosis::{Report, Severity};
    use crate::output::terminal::Width;

    fn healthy(env: &Environment) -> Examination {
        Examination {
            server: Some(ServerFacts {
                version: "15.18".to_owned(),
                version_number: 150_018,
                is_standby: false,
                clock: env.now(),
                max_connections: 97,
                encoding: "UTF8".to_owned(),
                database: "us".to_owned(),
                user: "me".to_owned(),
                schema: "public".to_owned(),
                may_create_schemas: true,
                may_create_tables: true,
            }),
            of_product: false,
            needs_schema: false,
            migration: Some(40),
            newest_migration: 40,
            differences: Vec::new(),
            left_out: Vec::new(),
            lacking_rights: Vec::new(),
            sequences_behind: Vec::new(),
            unavailable_extensions: Vec::new(),
            damage: None,
        }
    }

    /// The checks that find something in a database, and what they say.
    fn faults(env: &Environment, found: &Examination) -> (Vec<(&'static str, Severity)>, String) {
        let mut all = Report::default();
        report(&mut About::new(&mut all, "control".to_owned()), &"postgres:///x".into(), found, 10, env);
        let faults = all.findings().iter().filter(|finding| finding.severity != Severity::Ok);
        (faults.map(|finding| (finding.check.into(), finding.severity)).collect(), all.text(Width::UNLIMITED))
    }

    type Break = fn(&mut Examination);

    fn server(found: &mut Examination) -> &mut ServerFacts {
        found.server.as_mut().expect("a server")
    }

    #[test]
    fn each_thing_that_is_wrong_with_a_database_has_its_own_finding() {
        let env = Environment::system();
        assert_eq!(faults(&env, &healthy(&env)).0, []);
        let cases: [(Break, &str, Severity, &str); 14] = [
            (|it| server(it).version_number = 140_022, "database-server", Severity::Error, "older than 15"),
            (|it| server(it).is_standby = true, "database-server", Severity::Error, "name the primary"),
            (|it| server(it).encoding = "LATIN1".to_owned(), "database-server", Severity::Error, "as LATIN1"),
            (
                |it| server(it).max_connections = 9,
                "database-server",
                Severity::Error,
                "accepts 9 connections",
            ),
            (|it| server(it).clock += TimeDelta::minutes(2), "clock", Severity::Warning, "ahead of this"),
            (|it| server(it).clock -= TimeDelta::minutes(2), "clock", Severity::Warning, "behind this"),
            (
                |it| {
                    it.migration = None;
                    it.unavailable_extensions = vec!["citext".to_owned()];
                },
                "database-extensions",
                Severity::Error,
                "contrib",
            ),
            (
                |it| {
                    it.migration = Some(39);
                    server(it).may_create_tables = false;
                },
                "database-rights",
                Severity::Error,
                "may not create tables",
            ),
            (
                |it| {
                    (it.migration, it.of_product, it.needs_schema) = (None, true, true);
                    // This schema is not where the tables go.
                    (server(it).may_create_tables, server(it).may_create_schemas) = (false, false);
                },
                "database-rights",
                Severity::Error,
                "GRANT CREATE ON DATABASE us TO me;",
            ),
            (
                |it| {
                    let name = "sentry_team".to_owned();
                    it.lacking_rights =
                        vec![LackingRights { name, is_sequence: false, rights: "DELETE".to_owned() }];
                },
                "database-rights",
                Severity::Error,
                "GRANT DELETE ON TABLE sentry_team",
            ),
            (
                |it| {
                    it.sequences_behind = vec![SequenceBehind {
                        table: "sentry_team".to_owned(),
                        sequence: "public.sentry_team_id_seq".to_owned(),
                        last: 1,
                        highest: 9,
                    }];
                },
                "sequences",
                Severity::Error,
                "SELECT setval('public.sentry_team_id_seq', 9);",
            ),
            (|it| it.differences = vec!["x is not y".to_owned()], "schema", Severity::Error, "x is not y"),
            (
                |it| it.left_out = vec![("sentry.team".to_owned(), "it has a new column".to_owned())],
                "schema",
                Severity::Warning,
                "sentry.team are not imported",
            ),
            (|it| it.damage = Some("page 7".to_owned()), "database", Severity::Error, "damaged: page 7"),
        ];
        for (change, check, severity, words) in cases {
            let mut found = healthy(&env);
            change(&mut found);
            let (faults, text) = faults(&env, &found);
            assert_eq!(faults, [(check, severity)], "{text}");
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
    }

    #[test]
    fn not_all_tables_are_named() {
        let names: Vec<String> = (1..=7).map(|number| format!("t{number}")).collect();
        assert_eq!(some(&names), "t1, t2, t3, t4, t5 and 2 more");
        assert_eq!(some(&names[..2]), "t1, t2");
    }
}
