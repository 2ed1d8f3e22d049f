//! The options of control about a replica for reads that may be old.

use std::{path::PathBuf, time::Duration};

use causeway_silo::db::{DatabaseUrl, ReplicaOptions};

use super::server;
use crate::settings::units;

#[derive(Debug, clap::Args)]
pub(super) struct ReadDatabaseArgs {
    /// A standby of the database for reads that may be old: ResolveSlug, BatchResolveSlugs, ListOrganizations and
    /// ListSlugReservations. They go to the database itself while the standby is away or too far behind
    #[arg(long, value_name = "URL", env = "CAUSEWAY_READ_DATABASE_URL", hide_env_values = true)]
    read_database_url: Option<DatabaseUrl>,
    /// A file with the URL of --read-database-url and nothing else, so that its password is neither an argument nor a
    /// variable
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_READ_DATABASE_URL_FILE")]
    read_database_url_file: Option<PathBuf>,
    /// How far the standby may be behind. It has no effect without --read-database-url
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_READ_MAX_LAG"
    )]
    read_max_lag: Duration,
}

impl ReadDatabaseArgs {
    /// Checks the URL. The file with it is read only if `reads_files`: a server that starts reads it once.
    pub(super) fn check(&self, reads_files: bool) -> anyhow::Result<()> {
        if reads_files || self.read_database_url_file.is_none() || self.read_database_url.is_some() {
            self.options()?;
        }
        Ok(())
    }

    /// The replica, if there is one.
    ///
    /// # Errors
    /// If two URLs are given, the file cannot be read, or what is there is no URL of PostgreSQL.
    pub(super) fn options(&self) -> anyhow::Result<Option<ReplicaOptions>> {
        let options = ("--read-database-url", "--read-database-url-file");
        let file = self.read_database_url_file.as_deref();
        let url = server::database_url(options, self.read_database_url.as_ref(), file)?;
        Ok(url.map(|url| ReplicaOptions { url, max_lag: self.read_max_lag }))
    }
}
