//! Standbys: servers that replay what another one writes, until they are promoted.

use std::{
    env, fs,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use sqlx::{Connection as _, PgConnection};

use super::{Installation, Place, Postgres, SETTINGS, SUPERUSER, directory, guard};
use crate::process::OwnPort;

/// How long a standby may take to become the primary, in seconds.
const PROMOTE_WITHIN: i32 = 30;
/// How long a standby may take to replay what its primary has, or to pause.
const FOLLOW_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two looks at how far a standby is.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Postgres {
    /// Starts a standby of this server, which follows it by streaming.
    ///
    /// # Errors
    /// If it cannot be copied, or the copy does not start.
    pub async fn standby(&self) -> anyhow::Result<Self> {
        let port = self.port();
        tokio::task::spawn_blocking(move || Self::standby_blocking(port)).await?
    }

    fn standby_blocking(primary: u16) -> anyhow::Result<Self> {
        let directory = directory("causeway-standby-")?;
        let installation = Installation::find(env::var_os("CAUSEWAY_POSTGRES_BIN"))?;
        installation.give(directory.path())?;
        let guard = guard(directory.path())?;
        let place = Place { installation, root: directory.path().to_owned(), settings: SETTINGS };
        let copied = place
            .installation
            .program("pg_basebackup", &place.root)
            .args(["-D", "data", "-R", "-X", "stream", "-c", "fast", "-h", "127.0.0.1", "-U", SUPERUSER])
            .args(["-p", &primary.to_string()])
            .stdout(Stdio::null())
            .output()
            .context("pg_basebackup")?;
        ensure!(copied.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&copied.stderr));
        let mut standby = Self { server: None, guard, place, port: OwnPort::new()?, _directory: directory };
        standby.server = standby.place.launch(standby.port())?;
        if standby.server.is_some() {
            return Ok(standby);
        }
        bail!("the standby ended while it started; the end of its log:\n{}", standby.place.log_tail())
    }

    /// Waits until a standby has everything that this server has committed so far.
    ///
    /// # Errors
    /// If one of the two does not answer, or the standby does not get it within a minute.
    pub async fn replicated_to(&self, standby: &Self) -> anyhow::Result<()> {
        let mut here = PgConnection::connect(&self.url("postgres")).await?;
        let mut there = PgConnection::connect(&standby.url("postgres")).await?;
        let (end,): (String,) =
            sqlx::query_as("SELECT pg_current_wal_lsn()::text").fetch_one(&mut here).await?;
        let began = Instant::now();
        loop {
            let (is_there,): (bool,) =
                sqlx::query_as("SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)")
                    .bind(&end)
                    .fetch_one(&mut there)
                    .await?;
            if is_there {
                return Ok(());
            }
            ensure!(
                began.elapsed() < FOLLOW_WITHIN,
                "the standby has not reached {end} in {FOLLOW_WITHIN:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Pauses or resumes the replay of a standby. A pause has begun when this returns: until then the standby may still
    /// replay what it receives.
    ///
    /// # Errors
    /// If it does not answer, is not a standby, or does not pause within a minute.
    pub async fn set_replay(&self, goes_on: bool) -> anyhow::Result<()> {
        if goes_on {
            return self.execute("SELECT pg_wal_replay_resume()".to_owned()).await;
        }
        self.execute("SELECT pg_wal_replay_pause()".to_owned()).await?;
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let began = Instant::now();
        loop {
            let (state,): (String,) =
                sqlx::query_as("SELECT pg_get_wal_replay_pause_state()").fetch_one(&mut connection).await?;
            if state == "paused" {
                return Ok(connection.close().await?);
            }
            ensure!(
                began.elapsed() < FOLLOW_WITHIN,
                "the standby has not paused in {FOLLOW_WITHIN:?}: {state}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes a standby the primary.
    ///
    /// # Errors
    /// If it does not become one in time.
    pub async fn promote(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let (is_promoted,): (bool,) = sqlx::query_as("SELECT pg_promote(true, $1)")
            .bind(PROMOTE_WITHIN)
            .fetch_one(&mut connection)
            .await?;
        ensure!(is_promoted, "the standby is not the primary after {PROMOTE_WITHIN} s");
        Ok(())
    }

    /// Stops all processes of the server as they are, or lets them go on as if nothing had happened. Their connections
    /// stay open meanwhile, and nobody answers on them.
    ///
    /// # Errors
    /// If the server is not running, or cannot be signalled.
    pub fn set_frozen(&self, is_frozen: bool) -> anyhow::Result<()> {
        let server = self.server.as_ref().context("the server is not running")?.id();
        let signal = if is_frozen { "STOP" } else { "CONT" };
        // The first one first, so that it starts no others meanwhile.
        kill(signal, &server.to_string())?;
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
        for child in children.split_whitespace() {
            // It may have ended meanwhile.
            let _gone = kill(signal, child);
        }
        Ok(())
    }

    /// The port that the server listens on, on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.address.port()
    }
}

fn kill(signal: &str, process: &str) -> anyhow::Result<()> {
    let done =
        std::process::Command::new("kill").args(["-s", signal, process]).stderr(Stdio::null()).status()?;
    ensure!(done.success(), "{process} cannot be signalled");
    Ok(())
}
