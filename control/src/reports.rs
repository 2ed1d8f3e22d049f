//! What regions report about their own work: their imports, and how they compare with control. For people only.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the commit, answer lost | the report | the region reports the same again, which changes nothing but the time |

use std::collections::HashSet;

use causeway_audit::Subject;
use causeway_proto::limits::{
    MAX_MODEL_NAME_BYTES, MAX_REPORTED_BY_BYTES, MAX_REPORTED_DIFFERENCES, MAX_REPORTED_FINDINGS,
    MAX_REPORTED_IMPORTS, MAX_REPORTED_KINDS, MAX_REPORTED_MODELS, MAX_REPORTED_SLUGS,
    MAX_REPORTED_TEXT_BYTES, MAX_REPORTED_WORD_BYTES, MAX_TEXT_BYTES, MAX_VERSION_BYTES,
};
use causeway_silo::{
    db::{Db, DbError},
    env::Environment,
    transact,
};
use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    Error, Page, PageRequest, instructions,
    model::{
        instruction::Instruction,
        report::{
            Comparison, ImportDetails, ImportFilter, ImportPosition, ImportReport, ImportSummary,
            RegionReport, ReportedImport, ReportedReason,
        },
    },
    regions::{self, admission},
    store::report as store,
    validate,
};

/// The most imports of a region that control stores.
const MOST_IMPORTS: i64 = 1_000;
/// How long an import that has ended is stored after its last change.
const KEPT: TimeDelta = TimeDelta::days(30);

/// The use cases of reports. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports {
    db: Db,
    env: Environment,
}

fn at_most(field: String, length: usize, most: usize) -> Result<(), Error> {
    if length > most {
        return Err(Error::invalid(field, format!("at most {most}")));
    }
    Ok(())
}

fn not_negative(field: impl FnOnce() -> String, numbers: &[i64]) -> Result<(), Error> {
    if numbers.iter().any(|number| *number < 0) {
        return Err(Error::invalid(field(), "must not be negative"));
    }
    Ok(())
}

/// Checks a word of the contract, such as a state: later releases have others, so only its form is checked.
fn word(field: impl FnOnce() -> String, word: &str) -> Result<(), Error> {
    let is_word = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if word.is_empty() || word.len() > MAX_REPORTED_WORD_BYTES || !is_word {
        return Err(Error::invalid(
            field(),
            format!("must be 1 to {MAX_REPORTED_WORD_BYTES} upper case letters, digits and underscores"),
        ));
    }
    Ok(())
}

fn check_summary(path: &str, summary: &ImportSummary) -> Result<(), Error> {
    let ImportSummary { progress, waiting, failure, begun_by, waiting_since: _, slug_operation: _ } = summary;
    validate::text(|| format!("{path}.begun_by"), begun_by, MAX_REPORTED_BY_BYTES)?;
    if let Some(progress) = progress {
        let field = || format!("{path}.progress");
        validate::text(field, &progress.model, MAX_MODEL_NAME_BYTES)?;
        not_negative(
            field,
            &[progress.records_done, progress.records_total, progress.bytes_done, progress.rate],
        )?;
        if let Some(throttled) = &progress.throttled {
            word(|| format!("{path}.progress.throttled.kind"), &throttled.kind)?;
            not_negative(
                || format!("{path}.progress.throttled"),
                &[throttled.limit, throttled.write_percent.into()],
            )?;
        }
    }
    for (name, reason) in [("waiting", waiting), ("failure", failure)] {
        if let Some(ReportedReason { message, .. }) = reason {
            validate::text(|| format!("{path}.{name}.message"), message, MAX_REPORTED_TEXT_BYTES)?;
        }
    }
    Ok(())
}

fn check_details(path: &str, details: &ImportDetails) -> Result<(), Error> {
    let ImportDetails { models, finding_counts, findings, slugs } = details;
    at_most(format!("{path}.models"), models.len(), MAX_REPORTED_MODELS)?;
    at_most(format!("{path}.finding_counts"), finding_counts.len(), MAX_REPORTED_KINDS)?;
    at_most(format!("{path}.findings"), findings.len(), usize::from(MAX_REPORTED_FINDINGS))?;
    at_most(format!("{path}.slugs"), slugs.len(), MAX_REPORTED_SLUGS)?;
    for (index, slug) in slugs.iter().enumerate() {
        validate::text(|| format!("{path}.slugs[{index}]"), slug, MAX_TEXT_BYTES)?;
    }
    for (index, counts) in models.iter().enumerate() {
        validate::text(|| format!("{path}.models[{index}].model"), &counts.model, MAX_MODEL_NAME_BYTES)?;
    }
    for (index, finding) in findings.iter().enumerate() {
        let field = |name: &str| format!("{path}.findings[{index}].{name}");
        for (name, text, most) in [
            ("model", &finding.model, MAX_MODEL_NAME_BYTES),
            ("field", &finding.field, MAX_MODEL_NAME_BYTES),
            ("reason", &finding.reason, MAX_REPORTED_TEXT_BYTES),
            ("remedy", &finding.remedy, MAX_REPORTED_TEXT_BYTES),
        ] {
            validate::text(|| field(name), text, most)?;
        }
    }
    Ok(())
}

fn check_import(index: usize, import: &ReportedImport) -> Result<(), Error> {
    let path = format!("imports[{index}]");
    word(|| format!("{path}.state"), &import.state)?;
    not_negative(|| format!("{path}.size_bytes"), &[import.size_bytes])?;
    not_negative(|| format!("{path}.organization_count"), &[import.organization_count])?;
    check_summary(&path, &import.summary)?;
    check_details(&path, &import.details)
}

impl Reports {
    pub(crate) fn new(db: Db, env: Environment) -> Self {
        Self { db, env }
    }

    /// Stores what a region reports about its imports. Each report replaces the former one about the same import. Returns
    /// the instructions that wait for the region.
    ///
    /// # Errors
    /// If something is malformed or too long, or the region has not registered or is suspended.
    pub async fn report_imports(&self, report: &ImportReport) -> Result<Vec<Instruction>, Error> {
        let subject = causeway_audit::about(Subject::region(&report.region));
        validate::text(|| "version".to_owned(), &report.version, MAX_VERSION_BYTES)?;
        not_negative(|| "feed_version".to_owned(), &[report.feed_version])?;
        at_most("imports".to_owned(), report.imports.len(), MAX_REPORTED_IMPORTS)?;
        let ids: HashSet<Uuid> = report.imports.iter().map(|import| import.import_id).collect();
        if ids.len() != report.imports.len() {
            return Err(Error::invalid("imports", "names an import twice"));
        }
        for (index, import) in report.imports.iter().enumerate() {
            check_import(index, import)?;
        }
        instructions::check_answers(&report.answers)?;
        let region = regions::writing(&self.db, "region", &report.region).await?.name;
        let now = self.env.now();
        let horizon = now
            .checked_sub_signed(KEPT)
            .ok_or_else(|| DbError::inconsistent("the time of the clock is out of range"))?;
        transact!(Error, self.db, |tx| {
            admission::may_write(tx, &region).await?;
            let is_new_version = store::note(tx, report, now).await?;
            if !report.imports.is_empty() {
                store::upsert(tx, report, now).await?;
                store::forget(tx, &region, horizon, MOST_IMPORTS).await?;
            }
            if is_new_version {
                causeway_audit::append(tx, &subject, now).await?;
            }
            instructions::exchange(tx, &region, &report.answers, now).await?
        })
    }

    /// Stores the result of a comparison, unless a later one of the region is stored.
    ///
    /// # Errors
    /// If something is malformed or too long, or the region has not registered or is suspended.
    pub async fn report_comparison(&self, comparison: &Comparison) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::region(&comparison.region));
        at_most("differences".to_owned(), comparison.differences.len(), MAX_REPORTED_DIFFERENCES)?;
        for (name, number) in [
            ("compared", comparison.compared),
            ("difference_count", comparison.difference_count),
            ("repaired_count", comparison.repaired_count),
            ("moving_count", comparison.moving_count),
        ] {
            not_negative(|| name.to_owned(), &[number])?;
        }
        for (index, difference) in comparison.differences.iter().enumerate() {
            let field = |name: &str| format!("differences[{index}].{name}");
            word(|| field("kind"), &difference.kind)?;
            validate::text(|| field("message"), &difference.message, MAX_REPORTED_TEXT_BYTES)?;
            validate::text(|| field("remedy"), &difference.remedy, MAX_REPORTED_TEXT_BYTES)?;
        }
        let region = regions::writing(&self.db, "region", &comparison.region).await?.name;
        let now = self.env.now();
        transact!(Error, self.db, |tx| {
            admission::may_write(tx, &region).await?;
            if store::set_comparison(tx, comparison).await? {
                causeway_audit::append(tx, &subject, now).await?;
            }
        })
    }

    /// When each region has last reported, sorted by region. Regions that never did are left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn regions(&self) -> Result<Vec<RegionReport>, Error> {
        Ok(store::regions(&self.db).await?)
    }

    /// A page of reported imports without their details, each with its region, the newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn imports(
        &self,
        filter: &ImportFilter,
        request: &PageRequest<ImportPosition>,
    ) -> Result<Page<(String, ReportedImport), ImportPosition>, Error> {
        let rows = store::imports(&self.db, filter, request.after.as_ref(), request.rows()).await?;
        Ok(Page::cut(rows, request, |(region, import)| ImportPosition {
            created_at: import.created_at,
            region: region.clone(),
            import_id: import.import_id,
        }))
    }

    /// One reported import with its details; `None` if the region has reported none of that id, or control has deleted
    /// it since.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn import(&self, region: &str, import_id: Uuid) -> Result<Option<ReportedImport>, Error> {
        Ok(store::get(&self.db, region, import_id).await?)
    }

    /// A page of the last comparisons, one of each region, sorted by region.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn comparisons(
        &self,
        request: &PageRequest<String>,
    ) -> Result<Page<Comparison, String>, Error> {
        let rows = store::comparisons(&self.db, request.after.as_deref(), request.rows()).await?;
        Ok(Page::cut(rows, request, |comparison| comparison.region.clone()))
    }

    /// How many regions differed from control after their last comparison. It reads no differences.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn differing(&self) -> Result<i64, Error> {
        Ok(store::differing(&self.db).await?)
    }
}
