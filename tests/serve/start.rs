//! What a service logs when it starts, and when it cannot: what it tried, where, and what to do about it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use causeway_harness::{
    postgres::Postgres,
    process::{self, OwnPort, Process},
};
use causeway_silo::db::{Db, Options, Statement};
use tempfile::TempDir;

use crate::{run, serving, text};

fn sqlite(directory: &TempDir, name: &str) -> String {
    format!("sqlite:{}", directory.path().join(name).display())
}

/// The last line that a service prints on standard error when it could not start.
async fn why_not(arguments: &[&str]) -> String {
    let output = run(&[arguments, &["--listen", "127.0.0.1:0"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("secret") && !stderr.contains("at line"), "{stderr}");
    stderr.lines().last().unwrap_or_default().to_owned()
}

fn says(refusal: &str, words: &[&str]) {
    for word in words {
        assert!(refusal.contains(word), "{word:?} is not in {refusal:?}");
    }
}

async fn control(url: &str) -> String {
    why_not(&["control", "--database-url", url]).await
}

async fn region(url: &str, directory: &TempDir) -> String {
    let spool = directory.path().join("spool").display().to_string();
    why_not(&[
        "region",
        "--name",
        "eu",
        "--control",
        "http://127.0.0.1:9",
        "--spool-dir",
        &spool,
        "--database-url",
        url,
    ])
    .await
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named_with_what_to_do() {
    let directory = TempDir::new().expect("a directory");
    let own = OwnPort::new().expect("a free port");
    let address = own.address.to_string();
    let url = format!("postgres://me:secret@{address}/orders");
    // It does not wait until the time for a connection is over, which is 30 s.
    let at_once = async { [control(&url).await, region(&url, &directory).await] };
    let refusals = tokio::time::timeout(Duration::from_secs(10), at_once).await.expect("told at once");
    for refusal in refusals {
        says(&refusal, &["database orders", &address, "user me", "refused", "start PostgreSQL"]);
    }
    let refusal = control("postgres://me:secret@no-such-host.invalid/orders").await;
    says(&refusal, &["database orders", "no-such-host.invalid:5432", "--database-url"]);

    let refusal = control(&sqlite(&directory, "absent/x.db")).await;
    says(&refusal, &["absent/x.db", "its directory is not there: mkdir -p", "absent'"]);
    let refusal = control(&format!("sqlite:{}", directory.path().display())).await;
    says(&refusal, &[directory.path().to_str().expect("UTF-8"), "name a file"]);
    fs::write(directory.path().join("text.db"), "x".repeat(5_000)).expect("it is written");
    let refusal = control(&sqlite(&directory, "text.db")).await;
    says(&refusal, &["text.db", "not a database", "must be a SQLite database"]);

    let spool = directory.path().join("text.db").display().to_string();
    let database = sqlite(&directory, "eu.db");
    let named = ["region", "--name", "eu", "--control", "http://127.0.0.1:9", "--database-url", &database];
    let refusal = why_not(&[&named[..], &["--spool-dir", &spool]].concat()).await;
    says(&refusal, &["spool directory", &spool, "--spool-dir"]);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_with_how_to_make_it() {
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let refusal = control(&postgres.url("orders")).await;
    says(&refusal, &["database orders", "does not exist", "createdb -h 127.0.0.1 -p"]);
}

/// A PostgreSQL server that asks the user `me` for the password `right!`, and the host and name of databases of that
/// user.
async fn with_password(databases: &[&str]) -> (Postgres, Vec<String>) {
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let mut urls = Vec::new();
    for name in databases {
        urls.push(postgres.create_database(name).await.expect("made"));
    }
    let db = Db::connect(&urls[0], &Options::default()).await.expect("it is there");
    let own = databases.iter().map(|name| format!("ALTER DATABASE {name} OWNER TO me"));
    for sql in ["CREATE ROLE me LOGIN PASSWORD 'right!'".to_owned()].into_iter().chain(own).chain([
        // A PostgreSQL server's working directory is its data directory.
        "COPY (VALUES ('host all me 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust')) \
         TO PROGRAM 'cat > pg_hba.conf'"
            .to_owned(),
    ]) {
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new("").push(&sql)).await.expect("done");
        tx.commit().await.expect("kept");
    }
    db.fetch_optional(Statement::new("SELECT pg_reload_conf()")).await.expect("done");
    db.close().await;
    let places = urls.iter().map(|url| url.split_once('@').expect("a user").1.to_owned()).collect();
    (postgres, places)
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_never_shown() {
    let (_postgres, places) = with_password(&["orders"]).await;
    let refusal = control(&format!("postgres://me:secret@{}", places[0])).await;
    says(&refusal, &["database orders", "user me", "password", "--database-url"]);
}

#[tokio::test]
async fn a_log_of_everything_has_no_password_of_a_database() {
    let (_postgres, places) = with_password(&["control", "us"]).await;
    let directory = TempDir::new().expect("a directory");
    let spool = directory.path().join("spool").display().to_string();
    let file = directory.path().join("database-url");
    let start = |arguments: &[&str], url: Option<&str>| {
        let mut command = crate::command(&[arguments, &["--listen", "127.0.0.1:0"]].concat());
        command.env("CAUSEWAY_LOG", "trace");
        if let Some(url) = url {
            command.env("CAUSEWAY_DATABASE_URL", url);
        }
        Process::start(command).expect("it runs")
    };
    let mut logs = Vec::new();
    let mut control = start(&["control"], Some(&format!("postgres://me:right%21@{}", places[0])));
    let url = control.served_at().expect("it has the right password");
    fs::write(&file, format!("postgres://me:right%21@{}", places[1])).expect("it is written");
    let file = file.display().to_string();
    let region = ["region", "--name", "us", "--control", &url, "--spool-dir", &spool];
    let mut region = start(&[&region[..], &["--database-url-file", &file]].concat(), None);
    let at = region.served_at().expect("it has the right password");
    let imported = run(&["import", "organizations", "examples/acme.json", "--region", &at]).await;
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
    for process in [region, control] {
        process.signal("TERM").expect("it runs");
        logs.push(process.ended().expect("it ends").1);
    }
    for log in &logs {
        assert!(log.lines().filter(|line| line.contains("TRACE")).count() > 100, "it logs everything");
    }
    // And where it cannot be connected: by a password that is wrong, and as an option.
    let refused = start(&["control"], Some(&format!("postgres://me:not-right%21@{}", places[0])));
    let option = format!("postgres://me:right%21@{}_absent", places[0]);
    let absent = start(&["control", "--database-url", &option], None);
    for process in [refused, absent] {
        let (status, log) = process.ended().expect("it ends");
        assert_eq!(status.code(), Some(1), "{log}");
        logs.push(log);
    }
    for log in &logs {
        let lines: Vec<_> = log.lines().filter(|line| line.contains("right")).take(3).collect();
        assert!(lines.is_empty(), "a password is in the log: {lines:#?}");
    }
}

/// Starts a service on a database and kills it, so that the database belongs to that service.
fn settle(server: &[&str], url: &str) {
    let (process, _) = serving(&[server, &["--listen", "127.0.0.1:0", "--database-url", url]].concat());
    process.kill().expect("it runs");
}

async fn a_database_of_somebody_else_is_left_alone(control_url: &str, region_url: &str, directory: &TempDir) {
    let spool = directory.path().join("spool").display().to_string();
    settle(&["control"], control_url);
    settle(&["region", "--name", "eu", "--control", "http://127.0.0.1:9", "--spool-dir", &spool], region_url);
    says(&control(region_url).await, &["that of a region", "nothing in it was changed", "--database-url"]);
    says(&region(control_url, directory).await, &["that of a control", "nothing in it was changed"]);

    let db = Db::connect(control_url, &Options::default()).await.expect("it is there");
    let mut tx = db.begin().await.expect("a transaction");
    let newer = "INSERT INTO causeway_migration (version, description, success, checksum, execution_time) \
        SELECT 999, description, success, checksum, execution_time FROM causeway_migration WHERE version = 1";
    tx.execute(Statement::new(newer)).await.expect("it is written");
    tx.commit().await.expect("it is kept");
    db.close().await;
    let refusal = control(control_url).await;
    says(&refusal, &["newer release", "migration 999", "nothing was changed"]);
}

#[tokio::test]
async fn a_database_of_somebody_else_is_left_alone_on_sqlite() {
    let directory = TempDir::new().expect("a directory");
    let (control, region) = (sqlite(&directory, "control.db"), sqlite(&directory, "eu.db"));
    a_database_of_somebody_else_is_left_alone(&control, &region, &directory).await;
}

#[tokio::test]
async fn a_database_of_somebody_else_is_left_alone_on_postgres() {
    let directory = TempDir::new().expect("a directory");
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let control = postgres.create_database("control").await.expect("a database");
    let region = postgres.create_database("eu").await.expect("a database");
    a_database_of_somebody_else_is_left_alone(&control, &region, &directory).await;
}

/// The first start of a region, before its control is up. It starts twice, because what exists already must not be
/// logged again.
async fn a_start_says_little(control_url: &str, region_url: &str, directory: &TempDir) {
    let spool = directory.path().join("spool").display().to_string();
    for _ in 0..2 {
        let own = OwnPort::new().expect("a free port");
        let listen = own.address.to_string();
        let mut region = process::command(env!("CARGO_BIN_EXE_causeway"));
        region
            .args(["region", "--name", "eu", "--control", &format!("http://{listen}"), "--spool-dir", &spool])
            .args(["--listen", "127.0.0.1:0", "--database-url", region_url]);
        let mut region = Process::start(region).expect("it runs");
        let line = region.logged("cannot register").expect("there is no control");
        says(&line, &[&listen, "refused", "tries again"]);
        let (control, _) = serving(&["control", "--listen", &listen, "--database-url", control_url]);
        region.logged("registered with control").expect("it tries again");
        for (log, lines) in [(region.kill().expect("it runs"), 12), (control.kill().expect("it runs"), 5)] {
            for line in log.lines() {
                assert!(line.len() < 2_000 && !line.contains("sqlx") && !line.contains("CREATE"), "{line}");
            }
            assert!(log.lines().count() <= lines, "{log}");
            assert_eq!(log.matches("settings: ").count(), 1, "{log}");
            assert!(log.matches("cannot register").count() <= 1, "{log}");
        }
    }
}

#[tokio::test]
async fn a_start_says_little_on_sqlite() {
    let directory = TempDir::new().expect("a directory");
    let (control, region) = (sqlite(&directory, "control.db"), sqlite(&directory, "eu.db"));
    a_start_says_little(&control, &region, &directory).await;
}

#[tokio::test]
async fn a_start_says_little_on_postgres() {
    let directory = TempDir::new().expect("a directory");
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let control = postgres.create_database("control").await.expect("a database");
    let region = postgres.create_database("eu").await.expect("a database");
    a_start_says_little(&control, &region, &directory).await;
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_database_that_others_can_read_is_warned_of() {
    let directory = TempDir::new().expect("a directory");
    let url = sqlite(&directory, "control.db");
    let path = directory.path().join("control.db");
    let arguments = ["control", "--listen", "127.0.0.1:0", "--database-url", &url];
    let (first, _) = serving(&arguments);
    for name in ["control.db", "control.db-wal", "control.db-shm"] {
        assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
    }
    assert!(!first.kill().expect("it runs").contains("can read"), "no other user can read it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let (second, _) = serving(&arguments);
    let log = second.kill().expect("it runs");
    says(&log, &["other users of this machine can read", "644", &format!("chmod 600 '{}'", path.display())]);
    // The embedded services warn too, while they do what the user asked for.
    let data = directory.path().join("data");
    let data = data.to_str().expect("UTF-8");
    run(&["imports", "list", "--data-dir", data]).await;
    let file = directory.path().join("export.json");
    fs::write(&file, "[]").expect("it is written");
    let file = file.to_str().expect("UTF-8");
    run(&["import", "organizations", file, "--data-dir", data]).await;
    let embedded = directory.path().join("data/region.db");
    assert_eq!(mode(&embedded), 0o600);
    fs::set_permissions(&embedded, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let output = run(&["imports", "list", "--data-dir", data]).await;
    says(text(&output.stderr), &[&format!("chmod 600 '{}'", embedded.display())]);
}

#[tokio::test]
async fn a_shells_limit_on_open_files_is_raised() {
    let directory = TempDir::new().expect("a directory");
    let mut command = process::command("sh");
    command.args(["-c", r#"ulimit -Sn 64; exec "$@""#, "sh", env!("CARGO_BIN_EXE_causeway")]);
    command.args(["control", "--listen", "127.0.0.1:0", "--database-url", &sqlite(&directory, "control.db")]);
    let mut control = Process::start(command).expect("it runs");
    let url = control.served_at().expect("it serves");
    let address = url.trim_start_matches("http://");
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(tokio::net::TcpStream::connect(address).await.expect("it listens"));
    }
    // It still answers after it has accepted all of these connections.
    let output = run(&["slugs", "list", "--control", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!control.kill().expect("it runs").contains("cannot be accepted"));
}

#[tokio::test]
async fn the_url_of_a_database_may_be_in_a_file() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("database-url");
    let path = file.display().to_string();
    fs::write(&file, format!("{}\n", sqlite(&directory, "control.db"))).expect("it is written");
    let (process, _) = serving(&["control", "--listen", "127.0.0.1:0", "--database-url-file", &path]);
    let log = process.kill().expect("it runs");
    says(
        &log,
        &["other users of this machine can read a file with a secret", &format!("chmod 600 '{path}'")],
    );

    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    fs::write(&file, "postgres://me:secret@127.0.0.1:9/orders").expect("it is written");
    let refusal = why_not(&["control", "--database-url-file", &path]).await;
    says(&refusal, &["database orders", "127.0.0.1:9"]);
    assert!(!refusal.contains("can read"), "{refusal}");
    fs::write(&file, "mysql://me:secret@127.0.0.1/orders").expect("it is written");
    let refusal = why_not(&["control", "--database-url-file", &path]).await;
    says(&refusal, &["--database-url-file: the database URL must begin with"]);

    let both = why_not(&["control", "--database-url-file", &path, "--database-url", "sqlite:x"]).await;
    says(&both, &["not both"]);
    let absent = why_not(&["control", "--database-url-file", "/nowhere/at/all"]).await;
    says(&absent, &["/nowhere/at/all cannot be read"]);
    says(&why_not(&["control"]).await, &["give --database-url or --database-url-file"]);
}
