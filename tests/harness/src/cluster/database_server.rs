//! What clusters run on: a temporary directory and, for PostgreSQL, a server.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use causeway_control::Control;
use causeway_region::Region;
use causeway_silo::{db, env::Environment};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::{Store, options};
use crate::postgres::{self, Postgres};

/// The database server of one or more clusters. Each cluster has its own databases. On a server for many clusters they
/// are copies of migrated templates, which saves most of the time that a cluster takes to start.
#[derive(Debug)]
pub struct DatabaseServer {
    store: Store,
    templates: Option<Mutex<HashMap<String, PathBuf>>>,
    numbers: AtomicU64,
    // Rust drops fields in this order: the server before its directory.
    postgres: Option<Mutex<Postgres>>,
    elsewhere: Option<Elsewhere>,
    directory: TempDir,
}

/// A PostgreSQL that somebody else started, such as one of several servers.
#[derive(Debug)]
struct Elsewhere {
    /// The URL for creating databases.
    admin: String,
    /// URLs with `{}` in the place of the database's name. The first control and all regions use the first one, the
    /// second control the second one, and so on in turns.
    urls: Vec<String>,
}

impl DatabaseServer {
    /// Creates a database server for many clusters.
    ///
    /// # Errors
    /// If there is no room for its directory, or PostgreSQL does not start.
    pub async fn new(store: Store) -> anyhow::Result<Self> {
        Ok(Self { templates: Some(Mutex::default()), ..Self::for_one(store).await? })
    }

    /// Creates a database server for one cluster. It makes no templates, because one cluster does not reuse them.
    pub(super) async fn for_one(store: Store) -> anyhow::Result<Self> {
        let postgres = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(Mutex::new(Postgres::start().await?)),
        };
        // Every commit on SQLite waits for the disk and a test has hundreds of commits, so the directory is in memory
        // if possible.
        let directory = postgres::directory("causeway-cluster-")?;
        Ok(Self { store, templates: None, numbers: AtomicU64::new(0), postgres, elsewhere: None, directory })
    }

    /// Uses a PostgreSQL that somebody else has started. `admin` is a URL with which databases can be created. Each of
    /// `urls` is a way to the same server with `{}` in the place of the database's name: control number N and all
    /// regions use the ways in turns.
    ///
    /// # Errors
    /// If there is no way, or no room for a directory.
    pub fn elsewhere(admin: &str, urls: &[String]) -> anyhow::Result<Self> {
        ensure!(!urls.is_empty(), "there is no way to the database");
        Ok(Self {
            store: Store::Postgres,
            templates: None,
            numbers: AtomicU64::new(0),
            postgres: None,
            elsewhere: Some(Elsewhere { admin: admin.to_owned(), urls: urls.to_vec() }),
            directory: postgres::directory("causeway-cluster-")?,
        })
    }

    /// The URL by which a control of this number reaches the database of the first one.
    pub(super) fn url_of_control(&self, first: &str, index: usize) -> String {
        let Some(Elsewhere { urls, .. }) = &self.elsewhere else { return first.to_owned() };
        let name = first.rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap_or_default();
        urls[index % urls.len()].replace("{}", name)
    }

    /// The kind of its databases.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store
    }

    /// Creates the directory of one cluster.
    pub(super) fn directory(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("cluster-").tempdir_in(self.directory.path())?)
    }

    /// Creates a database of control or, with a name, of a region, and returns its URL. An SQLite file goes into
    /// `directory`.
    pub(super) async fn database(&self, directory: &Path, region: Option<&str>) -> anyhow::Result<String> {
        let kind = match region {
            Some(name) => format!("region_{}", name.replace('-', "_")),
            None => "control".to_owned(),
        };
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let template = match &self.templates {
            Some(templates) => Some(self.template(&mut *templates.lock().await, &kind, region).await?),
            None => None,
        };
        if let Some(Elsewhere { admin, urls }) = &self.elsewhere {
            let name = format!("{kind}_{number}");
            let mut connection = PgConnection::connect(admin).await?;
            let create = AssertSqlSafe(format!("CREATE DATABASE \"{name}\""));
            sqlx::raw_sql(create).execute(&mut connection).await?;
            connection.close().await?;
            return Ok(urls[0].replace("{}", &name));
        }
        match &self.postgres {
            Some(postgres) => {
                let postgres = postgres.lock().await;
                postgres
                    .copy_database(&format!("{kind}_{number}"), template.as_deref().and_then(Path::to_str))
                    .await
            }
            None => {
                let path = directory.join(format!("{kind}.db"));
                if let Some(template) = template {
                    tokio::fs::copy(template, &path).await?;
                }
                sqlite_url(&path)
            }
        }
    }

    /// The migrated template to copy: the path of an SQLite file, or the name of a PostgreSQL database. Made on first
    /// use.
    async fn template(
        &self,
        templates: &mut HashMap<String, PathBuf>,
        kind: &str,
        region: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        if let Some(template) = templates.get(kind) {
            return Ok(template.clone());
        }
        let (template, url) = match &self.postgres {
            Some(postgres) => {
                let name = format!("template_{kind}");
                let url = postgres.lock().await.create_database(&name).await?;
                (PathBuf::from(name), url)
            }
            None => {
                let path = self.directory.path().join(format!("template-{kind}.db"));
                let url = sqlite_url(&path)?;
                (path, url)
            }
        };
        let nowhere = "http://127.0.0.1:1".to_owned();
        match region {
            None => Control::start(options::control(url, nowhere), Environment::system()).await?.stop().await,
            Some(name) => {
                let spool = self.directory.path().join(format!("template-{kind}"));
                let options = options::region(name, url, nowhere.clone(), vec![nowhere], spool);
                Region::start(options, Environment::system()).await?.stop().await;
            }
        }
        templates.insert(kind.to_owned(), template.clone());
        Ok(template)
    }

    /// Removes a database that [`database`](Self::database) created, unless it is removed with its directory.
    pub(super) async fn forget(&self, url: &str) -> anyhow::Result<()> {
        match &self.postgres {
            Some(postgres) => {
                let name = url.rsplit('/').next().unwrap_or_default();
                let name = name.split('?').next().unwrap_or_default();
                postgres.lock().await.drop_database(name).await
            }
            None => Ok(()),
        }
    }

    /// Shuts the database server down cleanly. Does nothing on SQLite.
    ///
    /// # Errors
    /// If it cannot be stopped.
    pub async fn stop_database(&self) -> anyhow::Result<()> {
        let Some(postgres) = &self.postgres else { return Ok(()) };
        postgres.lock().await.stop().await
    }

    /// Starts the stopped database server again. Does nothing on SQLite.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_database(&self) -> anyhow::Result<()> {
        let Some(postgres) = &self.postgres else { return Ok(()) };
        postgres.lock().await.restart().await
    }

    /// Crashes the database server and starts it again after `down`. Does nothing on SQLite, which has no server: its
    /// database is down when the service is.
    ///
    /// # Errors
    /// If it does not start again.
    pub async fn crash_database(&self, down: Duration) -> anyhow::Result<()> {
        let Some(postgres) = &self.postgres else { return Ok(()) };
        let mut postgres = postgres.lock().await;
        postgres.crash().await?;
        tokio::time::sleep(down).await;
        postgres.restart().await
    }
}

fn sqlite_url(path: &Path) -> anyhow::Result<String> {
    Ok(format!("sqlite:{}", path.to_str().context("the temporary directory is not UTF-8")?))
}

/// The pool options of a service in a test: few connections, because there are many services, and a short timeout.
pub(super) fn pool() -> db::Options {
    db::Options { max_connections: 6, acquire_timeout: Duration::from_secs(5), ..db::Options::default() }
}
