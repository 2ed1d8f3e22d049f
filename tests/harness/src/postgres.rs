//! A real PostgreSQL server for a test.
//!
//! Each test starts its own server and no two share anything, so a test may stop its server, or fill it, as it likes. A
//! server is a copy of a template that `initdb` made once for this machine. It runs on a free port of the loopback
//! interface, in a temporary directory. Nothing of it outlives the test, even if the test process is killed.

mod installation;
mod standby;
mod template;

use std::{
    env, fs, io,
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use self::{installation::Installation, template::Template};
use crate::process::OwnPort;

const SUPERUSER: &str = "postgres";
const START_WITHIN: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// No data has to survive a crash of the machine, so nothing is forced to disk. Committed data does survive a crash of
/// the server.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=100",
    "fsync=off",
    "full_page_writes=off",
    "max_wal_size=256MB",
    // In the server's directory, so that it is removed with the directory.
    "dynamic_shared_memory_type=mmap",
    "timezone=UTC",
];

/// Settings for measurements of a server that has to keep its data: everything is forced to disk.
const DURABLE: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=256MB",
    "min_wal_size=256MB",
    "max_wal_size=4GB",
    "timezone=UTC",
];

/// A command that runs `program` as the account of the servers, which owns `directory` from then on and is in it, with
/// the programs of PostgreSQL on the path.
///
/// # Errors
/// If no PostgreSQL is installed, or the directory cannot be given to the account.
pub fn command(program: &str, directory: &Path) -> anyhow::Result<Command> {
    let installation = Installation::find(env::var_os("CAUSEWAY_POSTGRES_BIN"))?;
    installation.give(directory)?;
    let mut command = installation.command(program, directory);
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [installation.bin().to_owned()].into_iter().chain(env::split_paths(&path));
    command.env("PATH", env::join_paths(paths)?);
    Ok(command)
}

/// A running server. Dropping it stops the server at once and removes its directory.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    guard: Child,
    place: Place,
    port: OwnPort,
    // Rust drops fields in this order: the directory goes last.
    _directory: TempDir,
}

impl Postgres {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// If no PostgreSQL is installed (the error contains how to get it), or it does not start (the error ends
    /// with the end of its log).
    pub async fn start() -> anyhow::Result<Self> {
        // On a blocking thread, apart from the runtime: a test whose runtime has its clock paused can start servers
        // too.
        tokio::task::spawn_blocking(|| Self::start_blocking(directory("causeway-postgres-")?, SETTINGS))
            .await?
    }

    /// Starts a server for measurements: on disk, with `fsync` and full-size log segments, like a server that has to
    /// keep its data.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_durable() -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| {
            let mut postgres = Self::start_blocking(
                tempfile::Builder::new().prefix("causeway-postgres-").tempdir()?,
                DURABLE,
            )?;
            if let Some(mut server) = postgres.server.take() {
                end(&mut server, "INT")?;
            }
            // The template has small segments. A large import would fill a thousand of them.
            let place = &postgres.place;
            let reset = &mut place.installation.program("pg_resetwal", &place.root);
            let done = reset.args(["--wal-segsize=16", "-D", "data"]).stdout(Stdio::null()).status()?;
            ensure!(done.success(), "pg_resetwal failed");
            postgres.server = place.launch(postgres.port())?;
            ensure!(
                postgres.server.is_some(),
                "PostgreSQL did not start again: {}",
                postgres.place.log_tail()
            );
            Ok(postgres)
        })
        .await?
    }

    fn start_blocking(directory: TempDir, settings: &'static [&'static str]) -> anyhow::Result<Self> {
        let installation = Installation::find(env::var_os("CAUSEWAY_POSTGRES_BIN"))?;
        installation.give(directory.path())?;
        let guard = guard(directory.path())?;
        let place = Place { installation, root: directory.path().to_owned(), settings };
        let mut postgres = Self { server: None, guard, place, port: OwnPort::new()?, _directory: directory };
        Template::new(&postgres.place.installation, &env::temp_dir())?.unpack(&postgres.place.root)?;
        postgres.server = postgres.place.launch(postgres.port())?;
        if postgres.server.is_some() {
            return Ok(postgres);
        }
        bail!("PostgreSQL ended while it started; the end of its log:\n{}", postgres.place.log_tail())
    }

    /// Creates an empty database and returns its URL. `name` is made of lowercase letters, digits and `_`.
    ///
    /// # Errors
    /// If the name has other characters or is in use, or the server is not running.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.copy_database(name, None).await
    }

    /// Creates a copy of the database `of`, to which nobody may be connected. Without `of`, the database is empty.
    ///
    /// # Errors
    /// As [`create_database`](Self::create_database).
    pub async fn copy_database(&self, name: &str, of: Option<&str>) -> anyhow::Result<String> {
        let of = of.map(|of| Ok::<_, anyhow::Error>(format!(" TEMPLATE {}", quoted(of)?))).transpose()?;
        self.execute(format!("CREATE DATABASE {}{}", quoted(name)?, of.unwrap_or_default())).await?;
        Ok(self.url(name))
    }

    /// Creates an empty database with all its tables in a directory, which must be empty and accessible to everybody.
    ///
    /// # Errors
    /// As [`create_database`](Self::create_database), or if the directory cannot be used.
    pub async fn create_database_in(&self, name: &str, directory: &Path) -> anyhow::Result<String> {
        let database = quoted(name)?;
        let path =
            directory.to_str().filter(|path| !path.contains('\'')).context("it has no name for SQL")?;
        self.place.installation.give(directory)?;
        self.execute(format!("CREATE TABLESPACE {database} LOCATION '{path}'")).await?;
        self.execute(format!("CREATE DATABASE {database} TABLESPACE {database}")).await?;
        Ok(self.url(name))
    }

    /// Makes all databases of the server read-only, or writable again. Open connections change too.
    ///
    /// # Errors
    /// If the server is not running.
    pub async fn set_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        self.execute(format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}")).await?;
        self.execute("SELECT pg_reload_conf()".to_owned()).await
    }

    /// Removes a database and breaks all connections to it.
    ///
    /// # Errors
    /// If there is no such database, or the server is not running.
    pub async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        self.execute(format!("DROP DATABASE {} WITH (FORCE)", quoted(name)?)).await
    }

    /// Runs a statement without parameters. The caller has checked the names in it.
    async fn execute(&self, statement: String) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// The URL of a database of this server. It stays the same after a [`restart`](Self::restart).
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{}:{}/{database}", Ipv4Addr::LOCALHOST, self.port())
    }

    /// Shuts the server down cleanly: it closes connections and writes out what was committed.
    ///
    /// # Errors
    /// If the server cannot be signalled.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end("INT").await
    }

    /// Ends the server as a crash does: connections break, nothing is written out, and the next start has to recover.
    /// (Not by SIGKILL: that would leave its sessions running for a while, and its shared memory for ever.)
    ///
    /// # Errors
    /// If the server cannot be signalled.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        self.end("QUIT").await
    }

    async fn end(&mut self, signal: &'static str) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        tokio::task::spawn_blocking(move || end(&mut server, signal)).await??;
        Ok(())
    }

    /// Starts the server again, on the same port and with the same data. Crashes it first if it is running.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.crash().await?;
        let (place, port) = (self.place.clone(), self.port());
        let server = tokio::task::spawn_blocking(move || place.launch(port)).await??;
        let log = || format!("PostgreSQL ended while it restarted; its log:\n{}", self.place.log_tail());
        self.server = Some(server.with_context(log)?);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ended_either_way = end(&mut server, "QUIT");
        }
        let _gone_already = self.guard.kill();
        let _reaped = self.guard.wait();
    }
}

/// Quotes a name for a statement in which it cannot be bound as a parameter.
fn quoted(name: &str) -> anyhow::Result<String> {
    ensure!(
        (1..=63).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')),
        "{name:?} is not a name for a test's database"
    );
    Ok(format!("\"{name}\""))
}

/// Sends a signal that ends the server, and waits until it has ended. Wakes a server that SIGSTOP has stopped, and
/// kills one that cannot be signalled. The server itself limits how long its sessions may take.
fn end(server: &mut Child, signal: &str) -> io::Result<()> {
    if server.try_wait()?.is_some() {
        return Ok(());
    }
    let signalled = Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2" && kill -s CONT "$2""#, "sh", signal, &server.id().to_string()])
        .stderr(Stdio::null())
        .status();
    if !signalled.is_ok_and(|status| status.success()) {
        server.kill()?;
    }
    server.wait().map(drop)
}

/// A directory for a server: in memory, if there is ample room and `TMPDIR` is not set. A server has a thousand small
/// files, which take some disks a second, and each database has three hundred more.
pub(crate) fn directory(prefix: &str) -> io::Result<TempDir> {
    const MEMORY: &str = "/dev/shm";
    const ROOM_KIB: u64 = 2 << 20;
    let mut named = tempfile::Builder::new();
    named.prefix(prefix);
    if env::var_os("TMPDIR").is_none()
        && let Ok(output) = Command::new("df").args(["-Pk", MEMORY]).stderr(Stdio::null()).output()
        && let Some(line) = String::from_utf8_lossy(&output.stdout).lines().nth(1)
        && line
            .split_whitespace()
            .nth(3)
            .and_then(|free| free.parse().ok())
            .is_some_and(|free: u64| free >= ROOM_KIB)
        && let Ok(directory) = named.tempdir_in(MEMORY)
    {
        return Ok(directory);
    }
    named.tempdir()
}

/// Starts a process that waits until this one is gone, for whatever reason, then ends the server and removes the
/// directory. It notices when its standard input ends. It has its own process group, so that a signal that ends the
/// test's group does not end it.
fn guard(root: &Path) -> anyhow::Result<Child> {
    const SCRIPT: &str = r#"
        while read -r _; do :; done
        if read -r server 2>/dev/null <"$1/data/postmaster.pid"; then
            kill -s QUIT "$server"
            kill -s CONT "$server"
            seconds=0
            while kill -s 0 "$server" && [ "$seconds" -lt 10 ]; do
                sleep 1
                seconds=$((seconds + 1))
            done
            kill -s KILL "$server"
        fi
        rm -rf "$1""#;
    Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .arg(root)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("sh cannot be run")
}

/// A server's directory, with the installation and settings that it uses.
#[derive(Debug, Clone)]
struct Place {
    installation: Installation,
    root: PathBuf,
    settings: &'static [&'static str],
}

impl Place {
    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Starts the server and waits until it is ready. `None` if it ended instead.
    fn launch(&self, port: u16) -> anyhow::Result<Option<Child>> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut server = self
            .installation
            .program("postgres", &self.root)
            .arg("-D")
            .arg(self.data())
            .arg("-p")
            .arg(port.to_string())
            .args(self.settings.iter().flat_map(|setting| ["-c", *setting]))
            .stdout(log.try_clone()?)
            .stderr(log)
            // Only the test receives Ctrl-C. It then ends the server.
            .process_group(0)
            .spawn()?;
        let began = Instant::now();
        while !self.is_ready(&server) {
            if server.try_wait()?.is_some() {
                return Ok(None);
            }
            if began.elapsed() > START_WITHIN {
                server.kill()?;
                server.wait()?;
                bail!("PostgreSQL is not ready after {START_WITHIN:?}; its log:\n{}", self.log_tail());
            }
            thread::sleep(POLL_EVERY);
        }
        Ok(Some(server))
    }

    /// Whether the server has written into its lock file that it accepts connections. A successful connection would
    /// prove less: it may reach another server that took the port meanwhile.
    fn is_ready(&self, server: &Child) -> bool {
        let Ok(lock) = fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let mut lines = lock.lines().map(str::trim);
        lines.next() == Some(&server.id().to_string()) && lines.nth(6) == Some("ready")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    fn lives(process: u32) -> bool {
        let script = r#"kill -s 0 "$1" 2>/dev/null"#;
        Command::new("sh").args(["-c", script, "sh", &process.to_string()]).status().unwrap().success()
    }

    fn server_and_root(postgres: &Postgres) -> (u32, PathBuf) {
        (postgres.server.as_ref().unwrap().id(), postgres.place.root.clone())
    }

    #[tokio::test]
    async fn a_server_has_databases_and_leaves_nothing() {
        let postgres = Postgres::start().await.unwrap();
        let (process, root) = server_and_root(&postgres);
        let urls = [
            postgres.create_database("control").await.unwrap(),
            postgres.create_database("region_1").await.unwrap(),
        ];
        assert_ne!(urls[0], urls[1]);
        for url in urls {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let (version,): (String,) =
                sqlx::query_as("SELECT version()").fetch_one(&mut connection).await.unwrap();
            let (number,): (i32,) = sqlx::query_as("SELECT current_setting('server_version_num')::int")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert!(version.starts_with("PostgreSQL ") && number >= 150_000, "{version}");
            sqlx::query("CREATE EXTENSION citext").execute(&mut connection).await.unwrap();
            let (equal,): (bool,) =
                sqlx::query_as("SELECT 'Ab'::citext = 'aB'").fetch_one(&mut connection).await.unwrap();
            assert!(equal);
        }
        assert!(lives(process) && root.exists());
        drop(postgres);
        assert!(!lives(process) && !root.exists());
    }

    #[tokio::test]
    async fn a_name_that_needs_quoting_is_refused() {
        let postgres = Postgres::start().await.unwrap();
        for name in ["", "a b", "A", "a\"; DROP DATABASE postgres; --"] {
            postgres.create_database(name).await.unwrap_err();
        }
        postgres.create_database("a").await.unwrap();
        postgres.create_database("a").await.unwrap_err();
    }

    #[tokio::test]
    async fn what_is_committed_survives_a_stop_and_a_crash() {
        let mut postgres = Postgres::start().await.unwrap();
        let url = postgres.create_database("kept").await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::query("CREATE TABLE kept (n int)").execute(&mut connection).await.unwrap();
        for number in 1..=2 {
            sqlx::query("INSERT INTO kept VALUES ($1)").bind(number).execute(&mut connection).await.unwrap();
            if number == 1 {
                postgres.stop().await.unwrap()
            } else {
                postgres.crash().await.unwrap()
            }
            sqlx::query("SELECT 1").execute(&mut connection).await.unwrap_err();
            PgConnection::connect(&url).await.unwrap_err();
            postgres.restart().await.unwrap();
            connection = PgConnection::connect(&url).await.unwrap();
            let (count,): (i64,) =
                sqlx::query_as("SELECT count(*) FROM kept").fetch_one(&mut connection).await.unwrap();
            assert_eq!(count, i64::from(number));
        }
    }

    #[tokio::test]
    async fn many_start_at_once() {
        let (a, b, c) = tokio::try_join!(Postgres::start(), Postgres::start(), Postgres::start()).unwrap();
        assert!(a.port() != b.port() && b.port() != c.port() && c.port() != a.port());
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_says_why() {
        let mut postgres = Postgres::start().await.unwrap();
        postgres.stop().await.unwrap();
        fs::write(postgres.place.data().join("postgresql.conf"), "no_such_setting = 1\n").unwrap();
        let error = postgres.restart().await.unwrap_err().to_string();
        assert!(error.contains("no_such_setting"), "{error}");
    }

    /// The test runs itself, as the process that is killed.
    #[tokio::test]
    async fn a_killed_test_leaves_nothing() {
        const VICTIM: &str = "CAUSEWAY_HARNESS_VICTIM";
        if env::var_os(VICTIM).is_some() {
            let postgres = Postgres::start().await.unwrap();
            let (process, root) = server_and_root(&postgres);
            println!("\nvictim {process} {}", root.display());
            io::stdin().read_line(&mut String::new()).unwrap();
            return;
        }
        let mut victim = Command::new(env::current_exe().unwrap())
            .args(["--exact", "postgres::tests::a_killed_test_leaves_nothing", "--nocapture"])
            .env(VICTIM, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = BufReader::new(victim.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("victim ").map(str::to_owned))
            .unwrap();
        let (process, root) = line.split_once(' ').unwrap();
        let (process, root) = (process.parse().unwrap(), Path::new(root));
        assert!(lives(process) && root.exists());
        victim.kill().unwrap();
        victim.wait().unwrap();
        let began = Instant::now();
        while lives(process) || root.exists() {
            assert!(began.elapsed() < START_WITHIN, "the server outlives its test");
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}
