//! The embedded default: a control and a region in this process, on SQLite files in one directory, each on a real
//! loopback port. The next run continues with the data that this one leaves there.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use causeway_client::{CallError, Client, Service, Timeouts};
use causeway_relocation::encrypted::PrivateKey;
use causeway_silo::{db, env::Environment};
use tokio::net::TcpListener;

use crate::serve::{Running, Settings, serve_control, serve_region};

/// The name of the embedded region.
pub const REGION: &str = "embedded";

const CONTROL_FILE: &str = "control.db";
const REGION_FILE: &str = "region.db";
const SPOOL_DIR: &str = "spool";
const LOCK_FILE: &str = "lock";

/// A control and a region that run in this process.
#[derive(Debug)]
pub struct Embedded {
    control: Running,
    region: Running,
    /// The locked file. The operating system releases the lock when the file is closed, also after a crash.
    lock: File,
}

impl Embedded {
    /// Starts both on the data in `directory`. With `create`, makes the directory if it is absent.
    ///
    /// # Errors
    /// If the directory cannot be used, another process uses it, or, without `create`, there is no data in it.
    pub async fn start(directory: &Path, create: bool, env: Environment) -> anyhow::Result<Self> {
        Self::start_with_key(directory, create, None, env).await
    }

    /// Like [`start`](Self::start), with the private key that the region opens encrypted exports with. The key is not
    /// stored: an encrypted import that has not ended waits until the region is started with the key again.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with_key(
        directory: &Path,
        create: bool,
        key: Option<Arc<PrivateKey>>,
        env: Environment,
    ) -> anyhow::Result<Self> {
        let shown = directory.display();
        if create {
            // The databases contain what exports contain, so only the owner may read them.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .with_context(|| format!("the data directory {shown} cannot be made"))?;
        } else if ![CONTROL_FILE, REGION_FILE].iter().all(|file| directory.join(file).is_file()) {
            bail!(
                "there is no data in {shown}; an import without --region puts it there, --data-dir names another \
                 directory"
            );
        }
        // Absolute, so that it stays right if the working directory changes.
        let directory =
            directory.canonicalize().with_context(|| format!("the data directory {shown} cannot be used"))?;
        let lock = lock(&directory)?;

        let listener = bind_loopback().await?;
        let control = serve_control(
            listener.0,
            causeway_control::Options {
                database_url: sqlite_url(&directory.join(CONTROL_FILE))?.into(),
                database: db::Options::default(),
                address: listener.1,
                accept_regions: causeway_control::model::region::AcceptRegions::Any,
                feed: causeway_control::feed::Options::default(),
                bulk: causeway_control::slug::bulk_intake::Options::default(),
                replica: None,
                audit: causeway_audit::Options::default(),
            },
            Settings::default(),
            env.clone(),
        )
        .await?;
        let listener = bind_loopback().await?;
        let started = serve_region(
            listener.0,
            causeway_region::Options {
                decryption_keys: key.into_iter().collect(),
                // The region lives for one command. `causeway reconcile` compares on demand.
                reconcile_every: std::time::Duration::ZERO,
                // Nobody looks at its control meanwhile.
                report_every: std::time::Duration::ZERO,
                ..causeway_region::Options::new(
                    REGION.to_owned(),
                    listener.1,
                    sqlite_url(&directory.join(REGION_FILE))?,
                    vec![control.url()],
                    directory.join(SPOOL_DIR),
                )
            },
            Settings::default(),
            env,
        )
        .await;
        match started {
            Ok(region) => Ok(Self { control, region, lock }),
            Err(error) => {
                control.stop().await;
                Err(error)
            }
        }
    }

    /// Connects to the control.
    ///
    /// # Errors
    /// If control has stopped by itself.
    pub async fn control(&self) -> Result<Client, CallError> {
        Client::connect(Service::Control, &self.control.url(), Timeouts::default()).await
    }

    /// Connects to the region.
    ///
    /// # Errors
    /// If the region has stopped by itself.
    pub async fn region(&self) -> Result<Client, CallError> {
        Client::connect(Service::Region, &self.region.url(), Timeouts::default()).await
    }

    /// Stops both: the region first, because it needs control to stop cleanly.
    pub async fn stop(self) {
        self.region.stop().await;
        self.control.stop().await;
        // Unlock here, not by closing the file: a child process that is being spawned has the file open too, until it
        // runs its own program.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the data directory stays locked until this process ends");
        }
    }
}

async fn bind_loopback() -> anyhow::Result<(TcpListener, String)> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port can be had on loopback")?;
    let url = format!("http://{}", listener.local_addr().context("no port can be had on loopback")?);
    Ok((listener, url))
}

/// Locks the directory for this process. Two embedded regions on one database would both run its imports.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join(LOCK_FILE);
    let taken = || -> io::Result<Option<File>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    };
    match taken().with_context(|| format!("the data directory {} cannot be locked", directory.display()))? {
        Some(file) => Ok(file),
        None => bail!(
            "another causeway command uses the data directory {}; wait until it has ended, or name another \
             directory with --data-dir",
            directory.display()
        ),
    }
}

/// The URL of a SQLite file. Escapes characters that have a meaning in a URL.
fn sqlite_url(path: &Path) -> anyhow::Result<String> {
    let Some(path) = path.to_str() else { bail!("the path {} is not UTF-8", path.display()) };
    Ok(format!("sqlite:{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_as_a_url() {
        let url = sqlite_url(Path::new("/a/50% ?/x.db")).expect("it is UTF-8");
        assert_eq!(url, "sqlite:/a/50%25 %3F/x.db");
    }

    #[test]
    fn a_directory_is_locked_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = lock(directory.path()).expect("nobody has it");
        let second = lock(directory.path()).expect_err("somebody has it");
        assert!(second.to_string().contains("another causeway command"), "{second}");
        drop(first);
        lock(directory.path()).expect("nobody has it any more");
    }

    #[tokio::test]
    async fn looking_makes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let absent = directory.path().join("absent");
        let error =
            Embedded::start(&absent, false, Environment::system()).await.expect_err("there is no data there");
        assert!(error.to_string().contains("there is no data in"), "{error}");
        assert!(!absent.exists());
    }
}
