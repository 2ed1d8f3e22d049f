//! The promises of `docs/design.md`, I1 to I10, held against all tables of all silos.
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
//! What a service says of itself is not asked for: the rows are read. They are read one table after the other, so
//! nothing may be under way meanwhile. Everything in the model tables must come from imports.

mod all_rows;
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

/// The violations that are shown at most.
const SHOWN: usize = 40;

/// Rows that break a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The number of the promise.
    pub invariant: u8,
    /// Which rows, and how.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: {}", self.invariant, self.message)
    }
}

/// A look at all tables for what breaks a promise.
#[derive(Debug)]
pub struct Inspection<'a> {
    cluster: &'a Cluster,
    exports: Vec<(Uuid, Vec<FileRecord>)>,
    approved: Vec<Uuid>,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, invariant: u8, message: impl Into<String>) {
        self.0.push(Violation { invariant, message: message.into() });
    }
}

impl<'a> Inspection<'a> {
    /// A look at a cluster in which nothing is under way.
    #[must_use]
    pub fn of(cluster: &'a Cluster) -> Self {
        Self { cluster, exports: Vec::new(), approved: Vec::new() }
    }

    /// What an import was of: then I7 is that each reference leads to the row that the file means, and not only to one.
    ///
    /// # Errors
    /// If the id is no UUID or the file no export.
    pub fn export(mut self, import_id: &str, export: &[u8]) -> anyhow::Result<Self> {
        self.exports.push((Uuid::try_parse(import_id)?, crate::account::parse(export)?));
        Ok(self)
    }

    /// The organizations of an import, which left them hidden, have been approved.
    ///
    /// # Errors
    /// If the id is no UUID.
    pub fn approved(mut self, import_id: &str) -> anyhow::Result<Self> {
        self.approved.push(Uuid::try_parse(import_id)?);
        Ok(self)
    }

    /// All that breaks a promise.
    ///
    /// # Errors
    /// If a database cannot be read.
    pub async fn violations(&self) -> anyhow::Result<Vec<Violation>> {
        let world = AllRows::load(self.cluster).await?;
        let mut found = Found::default();
        reservations::check(&world, &mut found);
        imports::check(&world, &self.approved, &mut found);
        references::check(&world, &self.exports, &mut found);
        ids::check(&world, &mut found);
        Ok(found.0)
    }

    /// Nothing breaks a promise.
    ///
    /// # Errors
    /// If something does: with all of it. If a database cannot be read.
    pub async fn run(&self) -> anyhow::Result<()> {
        let violations = self.violations().await?;
        if violations.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = violations.iter().take(SHOWN).map(Violation::to_string).collect();
        bail!("{} things break a promise:\n{}", violations.len(), shown.join("\n"))
    }
}

impl Cluster {
    /// Checks all promises; see [the module](crate::invariants).
    ///
    /// # Errors
    /// If something breaks one: with all of it. If a database cannot be read.
    pub async fn assert_invariants(&self) -> anyhow::Result<()> {
        Inspection::of(self).run().await
    }
}
