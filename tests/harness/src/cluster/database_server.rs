//! What clusters run on: a temporary directory and, for PostgreSQL, a server.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use causeway_control::Control;
use causeway_region::Region;
use causeway_silo::{db, env::Environment};
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
    directory: TempDir,
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
        Ok(Self { store, templates: None, numbers: AtomicU64::new(0), postgres, directory })
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
    db::Options { max_connections: 6, acquire_timeout: Duration::from_secs(5) }
}
