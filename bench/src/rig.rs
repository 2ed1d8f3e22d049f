//! What is measured: a control and a region as processes of their own, on fresh databases in each round.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::postgres::Postgres;
use causeway_relocation::catalog::Silo;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::machine::{self, Memory};

const START_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(1);

/// The database that the silos use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// A PostgreSQL server with `fsync`, a database for each silo.
    Postgres,
    /// A file for each silo.
    Sqlite,
}

impl Store {
    /// Its name in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }
}

/// A database server and the program to measure. Dropping it removes the server, its data and all files.
#[derive(Debug)]
pub struct Rig {
    causeway: PathBuf,
    store: Store,
    postgres: Option<Postgres>,
    directory: TempDir,
}

/// The databases of one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Databases {
    /// The URL of control's database.
    pub control: String,
    /// The URL of the region's database.
    pub region: String,
}

impl Databases {
    /// The URL of a silo's database.
    #[must_use]
    pub fn of(&self, silo: Silo) -> &str {
        match silo {
            Silo::Control => &self.control,
            Silo::Region => &self.region,
        }
    }
}

impl Rig {
    /// Starts the database server, and makes the databases `empty`, which have the schema and no rows. Each round gets
    /// copies of them.
    ///
    /// # Errors
    /// If PostgreSQL or Causeway does not start.
    pub async fn start(store: Store, causeway: &Path) -> anyhow::Result<Self> {
        ensure!(
            causeway.is_file(),
            "there is no {}: build it with cargo build --release",
            causeway.display()
        );
        let postgres = match store {
            Store::Postgres => Some(Postgres::start_durable().await?),
            Store::Sqlite => None,
        };
        let directory = tempfile::Builder::new().prefix("causeway-bench-").tempdir()?;
        let rig = Self { causeway: causeway.to_owned(), store, postgres, directory };
        let empty = rig.named("empty");
        if let Some(postgres) = &rig.postgres {
            for silo in ["control", "region"] {
                postgres.create_database(&format!("empty_{silo}")).await?;
            }
        }
        rig.serve(&empty).await?.stop()?;
        Ok(rig)
    }

    /// The database that the silos use.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store
    }

    /// A directory for the other files of a round. It is removed with the rig.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The databases of this name, whether they exist or not.
    #[must_use]
    pub fn named(&self, name: &str) -> Databases {
        let url = |silo: &str| match &self.postgres {
            Some(postgres) => postgres.url(&format!("{name}_{silo}")),
            None => format!("sqlite:{}", self.file(name, silo).display()),
        };
        Databases { control: url("control"), region: url("region") }
    }

    fn file(&self, name: &str, silo: &str) -> PathBuf {
        self.directory.path().join(format!("{name}_{silo}.db"))
    }

    /// Makes databases of the name `name` that are copies of those of the name `from`.
    ///
    /// # Errors
    /// If they cannot be copied, e.g. because somebody is connected to `from`.
    pub async fn copy(&self, from: &str, name: &str) -> anyhow::Result<Databases> {
        for silo in ["control", "region"] {
            if self.postgres.is_some() {
                self.administrate(&format!("CREATE DATABASE \"{name}_{silo}\" TEMPLATE \"{from}_{silo}\""))
                    .await?;
            } else {
                std::fs::copy(self.file(from, silo), self.file(name, silo))?;
            }
        }
        Ok(self.named(name))
    }

    /// Removes the databases of this name.
    ///
    /// # Errors
    /// If they are in use.
    pub async fn remove(&self, name: &str) -> anyhow::Result<()> {
        for silo in ["control", "region"] {
            if self.postgres.is_some() {
                self.administrate(&format!("DROP DATABASE \"{name}_{silo}\" WITH (FORCE)")).await?;
            } else {
                for ending in ["", "-wal", "-shm"] {
                    let mut file = self.file(name, silo).into_os_string();
                    file.push(ending);
                    match std::fs::remove_file(&file) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the database write out what it has not written yet, so that one round does not pay for another.
    ///
    /// # Errors
    /// If PostgreSQL refuses.
    pub async fn settle(&self) -> anyhow::Result<()> {
        if self.postgres.is_some() {
            self.administrate("CHECKPOINT").await?;
        }
        Ok(())
    }

    async fn administrate(&self, sql: &str) -> anyhow::Result<()> {
        let postgres = self.postgres.as_ref().context("there is no PostgreSQL")?;
        let mut connection = PgConnection::connect(&postgres.url("postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Starts a control and a region.
    ///
    /// # Errors
    /// If either does not serve in time.
    pub async fn serve(&self, databases: &Databases) -> anyhow::Result<Services> {
        let control = self.control(&databases.control).await?;
        let region = self.region("us", &databases.region, &control.url()).await?;
        Ok(Services { region, control })
    }

    /// Starts a control.
    ///
    /// # Errors
    /// If it does not serve in time.
    pub async fn control(&self, database: &str) -> anyhow::Result<Service> {
        Service::start(&self.causeway, self.directory(), &["control"], database).await
    }

    /// Starts a region.
    ///
    /// # Errors
    /// If it does not serve in time.
    pub async fn region(&self, name: &str, database: &str, control: &str) -> anyhow::Result<Service> {
        let spool = self.directory.path().join(format!("spool-{name}"));
        let spool = spool.to_str().context("the directory's name is not UTF-8")?;
        let arguments = ["region", "--name", name, "--control", control, "--spool-dir", spool];
        Service::start(&self.causeway, self.directory(), &arguments, database).await
    }
}

/// A control and a region.
#[derive(Debug)]
pub struct Services {
    // Dropped in order: the region needs control.
    /// The region, named `us`.
    pub region: Service,
    /// The control that the region calls.
    pub control: Service,
}

impl Services {
    /// Stops both softly.
    ///
    /// # Errors
    /// If they cannot be signalled.
    pub fn stop(self) -> anyhow::Result<()> {
        self.region.stop()?;
        self.control.stop()
    }
}

/// A service as a process of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct Service {
    process: Child,
    address: SocketAddr,
    log: PathBuf,
    /// From the start of the process until its health check answers `SERVING`.
    pub started_in: Duration,
}

impl Service {
    async fn start(
        program: &Path,
        directory: &Path,
        arguments: &[&str],
        database: &str,
    ) -> anyhow::Result<Self> {
        // Another process may take the free port first. This process then ends, and its log says why.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = directory.join(format!("{}-{}.log", arguments.first().unwrap_or(&""), address.port()));
        let began = Instant::now();
        let process = Command::new(program)
            .args(arguments)
            .args(["--listen", &address.to_string()])
            .env("CAUSEWAY_DATABASE_URL", database)
            .env("CAUSEWAY_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let mut service = Self { process, address, log, started_in: Duration::ZERO };
        loop {
            if let Some(status) = service.process.try_wait()? {
                bail!("{} ended ({status}): {}", arguments.join(" "), service.said());
            }
            // The port is bound before the database is opened, but answers only when calls are served.
            if service.answers().await {
                service.started_in = began.elapsed();
                return Ok(service);
            }
            ensure!(
                began.elapsed() < START_WITHIN,
                "{} does not serve: {}",
                arguments.join(" "),
                service.said()
            );
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Starts a hidden command of this program, the one that measures.
    pub(crate) async fn of_this_program(
        directory: &Path,
        arguments: &[&str],
        database: &str,
    ) -> anyhow::Result<Self> {
        Self::start(&std::env::current_exe()?, directory, arguments, database).await
    }

    /// Whether its health check answers `SERVING`.
    async fn answers(&self) -> bool {
        if TcpStream::connect(self.address).is_err() {
            return false;
        }
        let Ok(endpoint) = tonic::transport::Endpoint::from_shared(self.url()) else { return false };
        let Ok(channel) = endpoint.connect_timeout(START_WITHIN).connect().await else { return false };
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let asked = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
        asked.is_ok_and(|answer| {
            answer.into_inner().status() == tonic_health::pb::health_check_response::ServingStatus::Serving
        })
    }

    /// What it has logged so far.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The address that it listens on, as an `http://` URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The memory of its process now.
    ///
    /// # Errors
    /// If it does not run any more.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        machine::memory(self.process.id())
    }

    /// Stops it softly and waits until it has ended.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let id = self.process.id().to_string();
        let signalled = Command::new("kill").args(["-s", "TERM", &id]).status()?;
        ensure!(signalled.success(), "the process {id} cannot be signalled");
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}
