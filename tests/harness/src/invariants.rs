//! Checks the promises of `docs/design.md`, I1 to I10, against all tables of all silos.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use causeway_harness::cluster::Cluster;
//! # async fn example(cluster: &Cluster) -> anyhow::Result<()> {
//! cluster.heal().await?;
//! cluster.quiet(Duration::from_secs(30)).await?;
//! cluster.assert_invariants().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The checks read the rows and ask no service. They read one table after the other, so nothing may be in progress
//! meanwhile. All rows in the model tables must come from imports.

mod all_rows;
mod audit;
mod ids;
mod imports;
mod references;
mod reservations;
#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::bail;
use uuid::Uuid;

pub(crate) use self::all_rows::{AllRows, ORGANIZATION};
use crate::{account::FileRecord, cluster::Cluster};

/// The most violations that an error lists.
const SHOWN: usize = 40;

/// Rows that break a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The number of the promise, 1 to 10.
    pub invariant: u8,
    /// Which rows break the promise, and how.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: {}", self.invariant, self.message)
    }
}

/// Checks all tables of a cluster for rows that break a promise.
#[derive(Debug)]
pub struct Inspection<'a> {
    cluster: &'a Cluster,
    exports: Vec<(Uuid, Vec<FileRecord>)>,
    approved: Vec<Uuid>,
}

/// The violations found so far.
#[derive(Debug, Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, invariant: u8, message: impl Into<String>) {
        self.0.push(Violation { invariant, message: message.into() });
    }
}

impl<'a> Inspection<'a> {
    /// Prepares the check of a cluster in which nothing is in progress.
    #[must_use]
    pub fn of(cluster: &'a Cluster) -> Self {
        Self { cluster, exports: Vec::new(), approved: Vec::new() }
    }

    /// Names the export of an import. I7 then requires that each reference leads to the row that the file means, and
    /// not only to some row.
    ///
    /// # Errors
    /// If the id is not a UUID or the file is not an export.
    pub fn export(mut self, import_id: &str, export: &[u8]) -> anyhow::Result<Self> {
        self.exports.push((Uuid::try_parse(import_id)?, crate::account::parse(export, false)?));
        Ok(self)
    }

    /// Declares that the organizations of an import, which left them hidden, have been approved and so may be
    /// visible.
    ///
    /// # Errors
    /// If the id is not a UUID.
    pub fn approved(mut self, import_id: &str) -> anyhow::Result<Self> {
        self.approved.push(Uuid::try_parse(import_id)?);
        Ok(self)
    }

    /// Finds all rows that break a promise.
    ///
    /// # Errors
    /// If a database cannot be read.
    pub async fn violations(&self) -> anyhow::Result<Vec<Violation>> {
        let all = AllRows::load(self.cluster).await?;
        let mut found = Found::default();
        reservations::check(&all, &mut found);
        imports::check(&all, &self.approved, &mut found);
        references::check(&all, &self.exports, &mut found);
        ids::check(&all, &mut found);
        Ok(found.0)
    }

    /// Checks that no row breaks a promise, and that the audit logs are whole.
    ///
    /// # Errors
    /// If a row breaks a promise, or a log is not whole; the error lists the violations, up to 40 of them. If a
    /// database cannot be read.
    pub async fn run(&self) -> anyhow::Result<()> {
        let violations = self.violations().await?;
        if violations.is_empty() {
            return audit::check(self.cluster).await;
        }
        let shown: Vec<String> = violations.iter().take(SHOWN).map(Violation::to_string).collect();
        bail!("{} things break a promise:\n{}", violations.len(), shown.join("\n"))
    }
}

impl Cluster {
    /// Checks all promises; see [the module](crate::invariants).
    ///
    /// # Errors
    /// If a row breaks a promise; the error lists the violations, up to 40 of them. If a database cannot be read.
    pub async fn assert_invariants(&self) -> anyhow::Result<()> {
        Inspection::of(self).run().await
    }
}
