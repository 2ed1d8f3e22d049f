//! Audits an import: compares what the import reports, and every row in the databases, with the file and the rules of
//! the format. The audit is written from the rules and calls none of the importer's own code. It shares only the
//! catalog's facts (tables, columns, references, unique sets).
//!
//! ```no_run
//! # use causeway_harness::{account::{Audit, RowsSnapshot}, cluster::{Cluster, ImportOptions}};
//! # async fn example(cluster: &Cluster, export: &[u8]) -> anyhow::Result<()> {
//! let before = RowsSnapshot::at(cluster, 0).await?;
//! let options = ImportOptions::default();
//! let import = cluster.region(0).import(export, &options).await?;
//! let account = Audit::new(cluster, 0, &before, export, &options, &import).run().await?;
//! println!("{:?}", account.outcome("sentry.organization", 1));
//! # Ok(())
//! # }
//! ```

mod added;
mod case;
mod cell;
mod counts;
mod defects;
mod family;
mod file;
mod findings;
mod look;
mod nested;
mod organizations;
mod outcomes;
mod owners;
mod rows;
mod slugs;
mod taken;
mod unmapped;
mod unreferenced;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, bail, ensure};
use causeway_proto::{
    control::v1::BatchResolveSlugsRequest,
    organization_status,
    region::v1::{Import, ImportState, Organization},
    relocation::v1::{Finding, FindingKind, KeyKind, MappedKey},
};
use causeway_relocation::catalog::Catalog;
use causeway_silo::db::Statement;
use uuid::Uuid;

use case::AuditCase;
pub use cell::Cell;
pub(crate) use file::{FileRecord, parse};
pub(crate) use look::rows;
pub use look::{Row, Rows, RowsSnapshot};
pub(crate) use owners::{Owner, owner};

use crate::cluster::{Cluster, ImportOptions, Silo};

/// What the import did with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The record was inserted as the row with this id.
    Inserted(i64),
    /// The record was mapped to the row with this id, which existed before or came from an earlier record of the file.
    Existing(i64),
    /// The record is of another scope, or its model is excluded, removed or unknown.
    OutOfScope,
    /// The filter excludes the record.
    Filtered,
    /// The record was not written, and a finding contains the reason.
    Dropped,
}

/// An import to audit, with everything that the audit compares it with.
#[derive(Debug)]
pub struct Audit<'a> {
    cluster: &'a Cluster,
    region: usize,
    before: &'a RowsSnapshot,
    export: &'a [u8],
    options: &'a ImportOptions,
    import: &'a Import,
    with_other: Vec<(usize, String)>,
}

/// The result of an audit without mismatches: every record, every row and every finding is accounted for.
#[derive(Debug)]
pub struct AuditReport {
    /// All rows and slug reservations after the import.
    pub after: RowsSnapshot,
    /// All findings that the region lists for the import.
    pub findings: Vec<Finding>,
    /// The primary key map: for each record that is a row now, its primary key in the file and the id of the row.
    pub keys: Vec<MappedKey>,
    outcomes: HashMap<(String, i64), Outcome>,
}

impl<'a> Audit<'a> {
    /// Prepares the audit of an import of `export` into the region with this index. The import must have succeeded, and
    /// `before` must have been read just before it.
    #[must_use]
    pub fn new(
        cluster: &'a Cluster,
        region: usize,
        before: &'a RowsSnapshot,
        export: &'a [u8],
        options: &'a ImportOptions,
        import: &'a Import,
    ) -> Self {
        Self { cluster, region, before, export, options, import, with_other: Vec::new() }
    }

    /// Names another import that ran at the same time. Its rows count as its own, and it may have got a value
    /// before this import checked it, or after.
    #[must_use]
    pub fn with_other(mut self, region: usize, import: &Import) -> Self {
        self.with_other.push((region, import.import_id.clone()));
        self
    }

    /// Runs the audit.
    ///
    /// # Errors
    /// If a service or database cannot be reached, or anything differs from what the file and the rules
    /// define. The error then lists the differences, up to 40 of them.
    pub async fn run(self) -> anyhow::Result<AuditReport> {
        ensure!(
            self.import.state() == ImportState::Succeeded,
            "the import has not succeeded: {:?}",
            self.import.failure
        );
        let catalog = Catalog::load()?;
        let region = self.cluster.region(self.region);
        let id = &self.import.import_id;
        let findings = region.findings(id).await?;
        let keys = region.mapped_keys(id).await?;
        let after = RowsSnapshot::at(self.cluster, self.region).await?;
        let mut others = BTreeSet::new();
        for (region, id) in &self.with_other {
            let keys = self.cluster.region(*region).mapped_keys(id).await?;
            let inserted = keys.into_iter().filter(|key| key.kind() == KeyKind::Inserted);
            others.extend(inserted.map(|key| (key.model, key.new_pk)));
        }
        let mut case = AuditCase::new(
            &catalog,
            file::parse(self.export, after.has_older_field("workflow_engine.datacondition", "condition"))?,
            self.options,
            self.import,
            self.before,
            &after,
            &keys,
            &findings,
            &others,
        );
        case.expect_defects();
        case.decide_outcomes();
        case.check_keys();
        case.check_added();
        case.check_counts();
        case.check_rows();
        case.check_no_other_rows();
        case.check_organizations();
        case.check_owners();
        case.check_usernames();
        case.check_findings();
        self.check_what_is_visible(&mut case).await?;
        self.check_directory(&mut case).await?;
        self.check_nothing_is_left_over(&mut case).await?;
        let (outcomes, problems) = case.close();
        if !problems.is_empty() {
            let shown: Vec<String> = problems.iter().take(40).map(|it| format!("- {it}")).collect();
            bail!("{} things do not add up:\n{}", problems.len(), shown.join("\n"));
        }
        Ok(AuditReport { after, findings, keys, outcomes })
    }

    /// Checks that the region lists the organizations of the import, except the hidden ones.
    async fn check_what_is_visible(&self, case: &mut AuditCase<'_>) -> anyhow::Result<()> {
        let visible: BTreeMap<i64, Organization> = self
            .cluster
            .region(self.region)
            .visible_organizations()
            .await?
            .into_iter()
            .map(|organization| (organization.id, organization))
            .collect();
        for (id, row) in case.inserted_rows("sentry.organization") {
            let status = row.get("status").and_then(Cell::as_int);
            match (visible.get(&id), status) {
                (None, Some(3)) => {}
                (Some(seen), Some(status)) if status != 3 => {
                    let same = row.get("slug").and_then(Cell::as_text) == Some(&seen.slug)
                        && row.get("name").and_then(Cell::as_text) == Some(&seen.name)
                        && seen.status() == organization_status::from_stored(status);
                    if !same {
                        case.mismatch(format!("organization {id} is shown as {seen:?}"));
                    }
                }
                (seen, status) => {
                    case.mismatch(format!("organization {id} has status {status:?} and is shown as {seen:?}"))
                }
            }
        }
        Ok(())
    }

    /// Checks that control resolves the slugs of the import to its organizations.
    async fn check_directory(&self, case: &mut AuditCase<'_>) -> anyhow::Result<()> {
        let rows = case.inserted_rows("sentry.organization");
        for rows in rows.chunks(100) {
            let slugs = rows.iter().filter_map(|(_, row)| row.get("slug")?.as_text().map(str::to_owned));
            let request = BatchResolveSlugsRequest { slugs: slugs.collect() };
            let answer = self.cluster.control().directory().batch_resolve_slugs(request).await?.into_inner();
            let found: BTreeSet<(i64, &str)> =
                answer.organizations.iter().map(|it| (it.organization_id, it.region.as_str())).collect();
            for (id, _) in rows {
                if !found.contains(&(*id, self.import.region.as_str())) {
                    case.mismatch(format!("control does not resolve the slug of organization {id} to it"));
                }
            }
        }
        Ok(())
    }

    async fn check_nothing_is_left_over(&self, case: &mut AuditCase<'_>) -> anyhow::Result<()> {
        let db = self.cluster.shared_db(Silo::Region(self.region)).await?;
        let statement =
            Statement::new("SELECT count(*) AS count FROM causeway_import_carried WHERE import_id = $1")
                .with(Uuid::try_parse(&self.import.import_id)?);
        let left = db.fetch_optional(statement).await?.context("a count")?.int("count")?;
        if left != 0 {
            case.mismatch(format!("{left} carried values are left over"));
        }
        Ok(())
    }
}

impl AuditReport {
    /// What the import did with the record of this model and source primary key. `None` if the file has no such record.
    #[must_use]
    pub fn outcome(&self, model: &str, source_pk: i64) -> Option<Outcome> {
        self.outcomes.get(&(model.to_owned(), source_pk)).copied()
    }

    /// The row that the record was inserted as or mapped to. `None` if the record was not written.
    #[must_use]
    pub fn row(&self, model: &str, source_pk: i64) -> Option<&Row> {
        match self.outcome(model, source_pk)? {
            Outcome::Inserted(id) | Outcome::Existing(id) => self.after.row(model, id),
            _ => None,
        }
    }

    /// The number of records for which `of` returns true.
    #[must_use]
    pub fn count(&self, of: impl Fn(Outcome) -> bool) -> usize {
        self.outcomes.values().filter(|outcome| of(**outcome)).count()
    }

    /// The number of rows that the import inserted.
    #[must_use]
    pub fn inserted(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Inserted(_)))
    }

    /// The findings of this kind, in the order in which the region lists them.
    #[must_use]
    pub fn findings_of(&self, kind: FindingKind) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| finding.kind() == kind).collect()
    }

    /// The inserted rows by model and source primary key, with the references in the rows translated to source primary
    /// keys too. Two imports of the same records return the same map.
    ///
    /// # Errors
    /// If the catalog contradicts itself.
    pub fn rows_by_source(&self) -> anyhow::Result<BTreeMap<(String, i64), Row>> {
        let catalog = Catalog::load()?;
        let sources: HashMap<(&str, i64), i64> =
            self.keys.iter().map(|key| ((key.model.as_str(), key.new_pk), key.source_pk)).collect();
        let mut rows = BTreeMap::new();
        for ((name, source_pk), outcome) in &self.outcomes {
            let (Outcome::Inserted(id), Some(model)) = (outcome, catalog.model(name)) else { continue };
            let mut row = self.after.row(name, *id).cloned().unwrap_or_default();
            for column in &model.columns {
                let Some(target) = &column.references else { continue };
                let Some(Cell::Int(new)) = row.get(&column.field) else { continue };
                let source = sources.get(&(target.as_str(), *new)).copied();
                row.insert(column.field.clone(), source.map_or(Cell::Null, Cell::Int));
            }
            rows.insert((name.clone(), *source_pk), row);
        }
        Ok(rows)
    }
}
