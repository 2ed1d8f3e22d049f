//! Tells control how the imports of this region are, and how the region compared with control, so that people find it
//! in one place: in control's console. Nothing waits for that. A report that does not arrive is made again, with the
//! state of that moment. The answer to a report has what operators tell the region to do, which is carried out at once; another
//! report says what became of it.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | a report | what control has stored | the next process reports what has changed lately once more |
//! | the answer to a report | nothing | control hands out its instructions again |

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use causeway_audit::{Call, scope};
use causeway_proto::{
    control::v1::{
        self as control, ReportComparisonRequest, ReportedImport, ReportedProgress, ReportedReason,
        ReportedThrottle,
    },
    limits::{
        MAX_MODEL_NAME_BYTES, MAX_REPORTED_FINDINGS, MAX_REPORTED_IMPORTS, MAX_REPORTED_KINDS,
        MAX_REPORTED_MODELS, MAX_REPORTED_SLUGS, MAX_REPORTED_TEXT_BYTES,
    },
    relocation::v1::{self as contract, ErrorReason},
    time::to_proto,
};
use causeway_relocation::finding::Severity;
use causeway_silo::page::PageRequest;
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    convert::{counts_to_proto, finding_counts_to_proto, finding_to_proto, waiting_of},
    error::Error,
    import::{Answer, Import, ImportState, Imports, ModelCounts, Progress, Throttled, slug_operation_id},
    instructions, store,
    throttle::ThrottleKind,
};

/// How often a region reports if nothing has changed, so that control knows that what it shows is still so, and so that an
/// instruction of an operator is carried out soon. More often if it looks very often for what has changed.
const STILL_ALIVE: Duration = Duration::from_secs(5);
/// How long to wait if control does not know the call: it is of an older release.
const UNKNOWN: Duration = Duration::from_secs(300);
/// The most bytes of one report, well below the limit of a message.
const MAX_BYTES: usize = 2 << 20;
/// The most imports that are looked at at once: those that changed last.
const LOOKED_AT: i64 = 1_000;
/// How far back a region looks when it starts.
const AT_START: TimeDelta = TimeDelta::days(30);
/// How far the clocks of processes of one region may differ. A change that is noted with an older time is reported
/// late: with the next change.
const CLOCKS: TimeDelta = TimeDelta::seconds(60);
/// What was reported about an import, and when.
#[derive(Debug)]
struct Reported {
    /// The row that the report was made from.
    import: Import,
    report: ReportedImport,
    at: Instant,
}

/// Reports to control. See the top of this file.
#[derive(Debug)]
pub(crate) struct Reporter {
    imports: Imports,
    compared: watch::Receiver<Option<ReportComparisonRequest>>,
    every: Duration,
    /// The imports of the last look, as control knows them.
    known: HashMap<Uuid, Reported>,
    /// Changes before this time have been reported.
    since: DateTime<Utc>,
    reported_at: Option<Instant>,
}

/// The beginning of a text, at most `most` bytes.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

fn reason(reason: ErrorReason, message: &str) -> ReportedReason {
    ReportedReason { reason: reason.into(), message: bounded(message, MAX_REPORTED_TEXT_BYTES) }
}

fn counts(counts: ModelCounts) -> contract::ModelCounts {
    let counts = counts_to_proto(counts);
    contract::ModelCounts { model: bounded(&counts.model, MAX_MODEL_NAME_BYTES), ..counts }
}

/// How much was done in a second, if it was `former` so long ago.
fn rate(former: i64, done: i64, elapsed: Duration) -> i64 {
    let millis = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX).max(1);
    done.saturating_sub(former).max(0).saturating_mul(1_000) / millis
}

impl Reporter {
    /// Reports every `every` until the service stops; never if that is zero. `compared` has the last comparison.
    pub(crate) fn start(
        imports: &Imports,
        compared: watch::Receiver<Option<ReportComparisonRequest>>,
        every: Duration,
    ) {
        if every.is_zero() {
            return;
        }
        let context = imports.context();
        let since = context.env.now().checked_sub_signed(AT_START).unwrap_or(DateTime::UNIX_EPOCH);
        let reporter = Self {
            imports: imports.clone(),
            compared,
            every,
            known: HashMap::new(),
            since,
            reported_at: None,
        };
        let call = Call::own(context.env.uuid(), &context.region, "report");
        context.lifecycle.background(scope(call, reporter.run()));
    }

    async fn run(mut self) {
        let context = self.imports.context().clone();
        let mut registration = context.registration.follow();
        tokio::select! {
            // Never an error: the sender lives as long as the region.
            _ = registration.wait_for(|is_known| *is_known) => {}
            () = context.lifecycle.stopping() => return,
        }
        let mut failed = 0;
        // The first report is made at once: until then, the console shows what the former process has reported.
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = context.lifecycle.stopping() => return,
            }
            pause = self.every;
            if !context.registration.is_known() {
                continue;
            }
            match self.report().await {
                Ok(()) => failed = 0,
                Err(error) if error.is_stop() => return,
                Err(Error::Control(error)) if error.code() == Some(Code::Unimplemented) => {
                    tracing::info!("control is of a release that wants no reports about imports");
                    tokio::select! {
                        () = sleep(UNKNOWN) => {}
                        () = context.lifecycle.stopping() => return,
                    }
                }
                Err(error) => {
                    failed += 1;
                    // A control that is away is not asked more often than by those who need it.
                    pause = self.every.max(context.backoff.after(failed, |bound| context.env.below(bound)));
                    if failed == 1 && !error.is_transient() {
                        tracing::warn!(%error, "control does not take the report about imports; it is made again");
                    } else {
                        tracing::debug!(%error, "the report about imports is made again");
                    }
                }
            }
        }
    }

    /// Reports what has changed since the last report, or that nothing has if that was long ago.
    async fn report(&mut self) -> Result<(), Error> {
        let context = self.imports.context().clone();
        let now = context.env.now();
        let looked = store::import::changed_since(&context.db, self.since, LOOKED_AT).await?;
        let feed_version = store::replica::cursor(&context.db).await?.version;
        let mut seen = HashSet::new();
        let mut batch = Batch::default();
        let mut waiting = Vec::new();
        for import in looked {
            let is_run_elsewhere = import
                .lease
                .as_ref()
                .is_some_and(|lease| lease.holder != context.holder.id && lease.until > now);
            if is_run_elsewhere && !import.state.is_final() {
                // That process knows how far it is.
                continue;
            }
            let import = self.imports.with_unstored(import);
            seen.insert(import.id);
            // Counts and progress change only while it runs here.
            let runs = self.imports.running(import.id).is_some();
            if !runs && self.known.get(&import.id).is_some_and(|known| known.import == import) {
                continue;
            }
            let report = self.reported(&import).await?;
            if let Some(known) = self.known.get_mut(&import.id).filter(|known| known.report == report) {
                known.import = import;
                continue;
            }
            let length = report.encoded_len();
            if !batch.takes(length) {
                waiting.extend(self.send(feed_version, std::mem::take(&mut batch), Vec::new()).await?);
            }
            batch.push(import, report, length);
        }
        let alive = STILL_ALIVE.min(self.every.saturating_mul(3));
        let is_due = self.reported_at.is_none_or(|at| at.elapsed() >= alive);
        let answers = self.imports.unanswered().await?;
        if is_due || !batch.imports.is_empty() || !answers.is_empty() {
            waiting.extend(self.send(feed_version, batch, answers).await?);
        }
        // Imports that are left out from now on have been reported as they ended.
        self.known.retain(|id, _| seen.contains(id));
        self.since = now.checked_sub_signed(CLOCKS).unwrap_or(now);
        if !waiting.is_empty() {
            instructions::carry_out(&self.imports, waiting).await?;
            // At once: somebody looks at the page of the import. What arrives with it arrives again.
            let answers = self.imports.unanswered().await?;
            if !answers.is_empty() {
                self.send(feed_version, Batch::default(), answers).await?;
            }
        }
        self.report_comparison().await
    }

    /// Reports these imports and answers, and notes that control knows them as they are. Returns the instructions that wait.
    async fn send(
        &mut self,
        feed_version: i64,
        batch: Batch,
        answers: Vec<Answer>,
    ) -> Result<Vec<control::Instruction>, Error> {
        let context = self.imports.context();
        let reports = batch.imports.iter().map(|(_, report)| report.clone()).collect();
        let told: Vec<Uuid> = answers.iter().map(|answer| answer.id).collect();
        let answers = answers.into_iter().map(instructions::to_proto).collect();
        let waiting = context.ask(context.control.report_imports(feed_version, reports, answers)).await?;
        if !told.is_empty() {
            self.imports.answered(&told).await?;
        }
        let at = Instant::now();
        self.reported_at = Some(at);
        let told =
            batch.imports.into_iter().map(|(import, report)| (import.id, Reported { import, report, at }));
        self.known.extend(told);
        Ok(waiting)
    }

    async fn report_comparison(&mut self) -> Result<(), Error> {
        if !self.compared.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let Some(compared) = self.compared.borrow_and_update().clone() else { return Ok(()) };
        let context = self.imports.context();
        let told = context.ask(context.control.report_comparison(compared)).await;
        if told.is_err() {
            self.compared.mark_changed();
        }
        told
    }

    async fn reported(&self, import: &Import) -> Result<ReportedImport, Error> {
        let db = &self.imports.context().db;
        let tense = import.tense();
        let (id, ended) = (import.id, import.state.is_final());
        let models = store::model_counts::list(db, id).await?;
        let mut finding_counts = finding_counts_to_proto(store::finding::counts(db, id).await?, tense);
        finding_counts.truncate(MAX_REPORTED_KINDS);
        let mut findings = Vec::new();
        // They are many, so they wait for the end. The directory's answer may add some to an import that has succeeded.
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            let room = usize::from(MAX_REPORTED_FINDINGS).saturating_sub(findings.len());
            if !ended || room == 0 {
                break;
            }
            let page = PageRequest { limit: MAX_REPORTED_FINDINGS, after: None };
            let found = store::finding::list(db, id, None, Some((severity, tense)), &page).await?;
            findings.extend(found.into_iter().take(room).map(|(_, finding)| {
                let finding = finding_to_proto(finding, tense);
                contract::Finding {
                    model: bounded(&finding.model, MAX_MODEL_NAME_BYTES),
                    field: bounded(&finding.field, MAX_MODEL_NAME_BYTES),
                    reason: bounded(&finding.reason, MAX_REPORTED_TEXT_BYTES),
                    ..finding
                }
            }));
        }
        let mut slugs = Vec::new();
        if ended {
            let organizations = store::imported::organizations(db, id, 0).await?;
            slugs.extend(organizations.into_iter().filter_map(|it| it.slug).take(MAX_REPORTED_SLUGS));
        }
        let running = self.imports.running(id);
        let is_planning = import.state == ImportState::Planning;
        let progress = running.filter(|_| !ended).map(|running| running.progress(is_planning));
        let waiting = waiting_of(import);
        Ok(ReportedImport {
            import_id: id.to_string(),
            progress: progress.map(|progress| self.progress(import, progress)),
            ended,
            dry_run: import.parameters.dry_run,
            create_time: Some(to_proto(import.created_at)),
            update_time: Some(to_proto(import.updated_at)),
            size_bytes: import.size_bytes,
            organization_count: import.organization_count,
            waiting_since: waiting.as_ref().map(|waiting| to_proto(waiting.since)),
            waiting: waiting.map(|waiting| reason(waiting.reason, &waiting.message)),
            failure: import.failure.as_ref().map(|failure| reason(failure.reason, &failure.message)),
            begun_by: import.begun_by.clone().unwrap_or_default(),
            models: models.into_iter().take(MAX_REPORTED_MODELS).map(counts).collect(),
            finding_counts,
            findings,
            slugs,
            slug_operation_id: match import.slug_attempt {
                0 => String::new(),
                attempt => slug_operation_id(id, attempt).to_string(),
            },
            // As in the contract, without the prefix.
            state: import.state.name().to_uppercase(),
        })
    }

    fn progress(&self, import: &Import, progress: Progress) -> ReportedProgress {
        let Progress { model, records_done, records_total, bytes_done, throttled } = progress;
        // The last report about the same state.
        let before = self.known.get(&import.id).filter(|before| before.import.state == import.state);
        let former = before.and_then(|before| Some((before.report.progress.as_ref()?, before.at.elapsed())));
        let rate = match (former, bytes_done) {
            (None, _) => 0,
            (Some((former, elapsed)), 0) => rate(former.records_done, records_done, elapsed),
            (Some((former, elapsed)), bytes) => rate(former.bytes_done, bytes, elapsed),
        };
        ReportedProgress {
            model: bounded(&model, MAX_MODEL_NAME_BYTES),
            records_done,
            records_total,
            bytes_done,
            rate,
            throttled: throttled.map(reported_throttle),
        }
    }
}

fn reported_throttle(throttled: Throttled) -> ReportedThrottle {
    let kind = match throttled.by {
        ThrottleKind::Rows => "ROWS",
        ThrottleKind::Bytes => "BYTES",
        ThrottleKind::Latency => "LATENCY",
    };
    ReportedThrottle {
        kind: kind.to_owned(),
        limit: i64::try_from(throttled.limit).unwrap_or(i64::MAX),
        write_percent: i32::try_from(throttled.percent).unwrap_or(i32::MAX),
    }
}

/// The imports of one report, within the limits of a call.
#[derive(Debug)]
struct Batch<I = Import> {
    imports: Vec<(I, ReportedImport)>,
    bytes: usize,
}

impl<I> Default for Batch<I> {
    fn default() -> Self {
        Self { imports: Vec::new(), bytes: 0 }
    }
}

impl<I> Batch<I> {
    /// Whether there is room for a report of that length. There always is for the first one.
    fn takes(&self, length: usize) -> bool {
        self.imports.is_empty()
            || (self.imports.len() < MAX_REPORTED_IMPORTS && self.bytes + length <= MAX_BYTES)
    }

    fn push(&mut self, import: I, report: ReportedImport, length: usize) {
        self.bytes += length;
        self.imports.push((import, report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_reported_in_calls_that_control_takes() {
        let sizes = |lengths: &[usize]| {
            let (mut sizes, mut batch) = (Vec::new(), Batch::default());
            for length in lengths {
                if !batch.takes(*length) {
                    sizes.push(std::mem::take(&mut batch).imports.len());
                }
                batch.push((), ReportedImport::default(), *length);
            }
            sizes.push(batch.imports.len());
            sizes
        };
        assert_eq!(sizes(&[1; 41]), [20, 20, 1]);
        assert_eq!(sizes(&[MAX_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(sizes(&[MAX_BYTES / 2 + 1; 3]), [1, 1, 1]);
        // Whatever its length, it is sent alone.
        assert_eq!(sizes(&[MAX_BYTES + 1, 1]), [1, 1]);
        assert_eq!(sizes(&[]), [0]);
    }

    #[test]
    fn a_rate_is_what_was_done_in_a_second() {
        let in_two_seconds = |former, done| rate(former, done, Duration::from_secs(2));
        assert_eq!((in_two_seconds(100, 700), in_two_seconds(100, 50)), (300, 0));
        assert_eq!(rate(0, 5, Duration::ZERO), 5_000);
    }
}
