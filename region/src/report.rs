//! Tells control how the imports of this region are, and how the region compared with control, so that people find it
//! in one place: in control's console. Nothing waits for that. A report that does not arrive is made again, with what
//! is so by then.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | a report | what control has stored | the next process reports what has changed lately once more |

use std::{collections::HashMap, time::Duration};

use causeway_audit::{Call, scope};
use causeway_proto::{
    control::v1::{ReportComparisonRequest, ReportedImport, ReportedProgress, ReportedReason},
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
    convert::{counts_to_proto, finding_to_proto, kind_to_proto, severity_to_proto},
    error::{Error, paused},
    import::{Import, ImportState, Imports, ModelCounts, Progress},
    store,
};

/// How often a region reports if nothing has changed, so that control knows that what it shows is still so.
const STILL_ALIVE: Duration = Duration::from_secs(10);
/// How long to wait if control does not know the call: it is of an older release.
const UNKNOWN: Duration = Duration::from_secs(300);
/// The most imports of one report.
const AT_ONCE: usize = 20;
/// The most bytes of one report, well below the limit of a message.
const MAX_BYTES: usize = 2 << 20;
/// The most imports that are looked at at once: those that changed last.
const LOOKED_AT: i64 = 1_000;
/// How far back a region looks when it starts.
const AT_START: TimeDelta = TimeDelta::days(30);
/// How far the clocks of processes of one region may differ. A change that is noted with an older time is reported
/// late: with the next change.
const CLOCKS: TimeDelta = TimeDelta::seconds(60);
/// How many findings, and how many models and kinds of findings, of one import are reported.
const FINDINGS: u16 = 50;
const MODELS: usize = 300;
const KINDS: usize = 100;
/// The most bytes of the message of an import, and of the text of a finding.
const MAX_TEXT: usize = 4_000;
/// The most bytes of a name of a model or field.
const MAX_NAME: usize = 255;

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

fn bounded(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

fn reason(reason: ErrorReason, message: &str) -> ReportedReason {
    ReportedReason { reason: reason.into(), message: bounded(message, MAX_TEXT) }
}

/// What an import waits for, and since when. A pause is not stored as something that it waits for.
fn waiting(import: &Import) -> (Option<ReportedReason>, Option<DateTime<Utc>>) {
    match (&import.pause, &import.waiting) {
        (Some(pause), _) => {
            let told = reason(ErrorReason::ImportPaused, &paused(&import.id, pause));
            (Some(told), Some(pause.since))
        }
        (None, Some(waiting)) => (Some(reason(waiting.reason, &waiting.message)), Some(waiting.since)),
        (None, None) => (None, None),
    }
}

fn counts(counts: ModelCounts) -> contract::ModelCounts {
    let counts = counts_to_proto(counts);
    contract::ModelCounts { model: bounded(&counts.model, MAX_NAME), ..counts }
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
        let mut failed = 0;
        loop {
            let pause = match failed {
                0 => self.every,
                // A control that is away is not asked more often than by those who need it.
                attempts => self.every.max(context.backoff.after(attempts, |bound| context.env.below(bound))),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = context.lifecycle.stopping() => return,
            }
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
        let mut seen = HashMap::new();
        let mut changed = Vec::new();
        for import in looked {
            let is_run_elsewhere = import
                .lease
                .as_ref()
                .is_some_and(|lease| lease.holder != context.holder.id && lease.until > now);
            if is_run_elsewhere && !import.state.is_final() {
                // That process knows how far it is.
                continue;
            }
            // Counts and progress change only while it runs here.
            let runs = self.imports.running(import.id).is_some();
            if !runs && self.known.get(&import.id).is_some_and(|known| known.import == import) {
                seen.extend(self.known.remove_entry(&import.id));
                continue;
            }
            let report = self.reported(&import).await?;
            match self.known.remove_entry(&import.id).filter(|(_, known)| known.report == report) {
                Some(known) => seen.extend([known]),
                None => changed.push((import, report)),
            }
        }
        let feed_version = store::replica::cursor(&context.db).await?.version;
        let is_due = self.reported_at.is_none_or(|at| at.elapsed() >= STILL_ALIVE);
        for batch in batches(changed, is_due) {
            let reports = batch.iter().map(|(_, report)| report.clone()).collect();
            context.ask(context.control.report_imports(feed_version, reports)).await?;
            self.reported_at = Some(Instant::now());
            let at = Instant::now();
            let told = batch.into_iter().map(|(import, report)| (import.id, Reported { import, report, at }));
            seen.extend(told);
        }
        // Imports that are left out from now on have been reported as they ended.
        self.known = seen;
        self.since = now.checked_sub_signed(CLOCKS).unwrap_or(now);
        self.report_comparison().await
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
        let state = import.state.to_proto().as_str_name().trim_start_matches("IMPORT_STATE_").to_owned();
        let (id, ended) = (import.id, import.state.is_final());
        let models = store::model_counts::list(db, id).await?;
        let mut finding_counts: Vec<contract::FindingCount> = store::finding::counts(db, id)
            .await?
            .into_iter()
            .map(|(kind, count)| contract::FindingCount {
                kind: kind_to_proto(kind).into(),
                severity: severity_to_proto(kind.severity_in(tense)).into(),
                count,
            })
            .collect();
        finding_counts.truncate(KINDS);
        let mut findings = Vec::new();
        // They do not change any more, so they are read once.
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            let room = usize::from(FINDINGS).saturating_sub(findings.len());
            if !ended || room == 0 {
                break;
            }
            let page = PageRequest { limit: FINDINGS, after: None };
            let found = store::finding::list(db, id, None, Some((severity, tense)), &page).await?;
            findings.extend(found.into_iter().take(room).map(|(_, finding)| {
                let finding = finding_to_proto(finding, tense);
                contract::Finding {
                    model: bounded(&finding.model, MAX_NAME),
                    field: bounded(&finding.field, MAX_NAME),
                    reason: bounded(&finding.reason, MAX_TEXT),
                    ..finding
                }
            }));
        }
        let running = self.imports.running(id);
        let is_planning = import.state == ImportState::Planning;
        let progress = running.filter(|_| !ended).map(|running| running.progress(is_planning));
        let (waiting, waiting_since) = waiting(import);
        Ok(ReportedImport {
            import_id: id.to_string(),
            progress: progress.map(|progress| self.progress(id, &state, progress)),
            ended,
            dry_run: import.parameters.dry_run,
            create_time: Some(to_proto(import.created_at)),
            update_time: Some(to_proto(import.updated_at)),
            size_bytes: import.size_bytes,
            organization_count: import.organization_count,
            waiting,
            waiting_since: waiting_since.map(to_proto),
            failure: import.failure.as_ref().map(|failure| reason(failure.reason, &failure.message)),
            begun_by: import.begun_by.clone().unwrap_or_default(),
            models: models.into_iter().take(MODELS).map(counts).collect(),
            finding_counts,
            findings,
            state,
        })
    }

    fn progress(&self, id: Uuid, state: &str, progress: Progress) -> ReportedProgress {
        let Progress { model, records_done, records_total, bytes_done, throttled: _ } = progress;
        // The last report about the same state.
        let before = self.known.get(&id).filter(|before| before.report.state == state);
        let former = before.and_then(|before| Some((before.report.progress.as_ref()?, before.at.elapsed())));
        let rate = match (former, bytes_done) {
            (None, _) => 0,
            (Some((former, elapsed)), 0) => rate(former.records_done, records_done, elapsed),
            (Some((former, elapsed)), bytes) => rate(former.bytes_done, bytes, elapsed),
        };
        ReportedProgress { model: bounded(&model, MAX_NAME), records_done, records_total, bytes_done, rate }
    }
}

/// Imports in as many reports as the limits ask for; one report without any if there are none and `is_due`.
fn batches<I>(changed: Vec<(I, ReportedImport)>, is_due: bool) -> Vec<Vec<(I, ReportedImport)>> {
    let mut batches: Vec<Vec<(I, ReportedImport)>> = Vec::new();
    let mut bytes = 0;
    for (import, report) in changed {
        let length = report.encoded_len();
        match batches.last_mut() {
            Some(batch) if batch.len() < AT_ONCE && bytes + length <= MAX_BYTES => {
                bytes += length;
                batch.push((import, report));
            }
            _ => {
                bytes = length;
                batches.push(vec![(import, report)]);
            }
        }
    }
    if batches.is_empty() && is_due {
        batches.push(Vec::new());
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(message: usize) -> ((), ReportedImport) {
        let failure = Some(ReportedReason { reason: 1, message: "x".repeat(message) });
        ((), ReportedImport { failure, ..ReportedImport::default() })
    }

    #[test]
    fn imports_are_reported_in_calls_that_control_takes() {
        let sizes =
            |changed: Vec<_>, is_due| batches(changed, is_due).iter().map(Vec::len).collect::<Vec<usize>>();
        assert_eq!(sizes((0..41).map(|_| import(1)).collect(), false), [20, 20, 1]);
        assert_eq!(sizes((0..3).map(|_| import(MAX_BYTES / 2)).collect(), false), [1, 1, 1]);
        assert_eq!(sizes(Vec::new(), true), [0]);
        assert_eq!(sizes(Vec::new(), false), [0_usize; 0]);
    }

    #[test]
    fn a_rate_is_what_was_done_in_a_second() {
        let in_two_seconds = |former, done| rate(former, done, Duration::from_secs(2));
        assert_eq!((in_two_seconds(100, 700), in_two_seconds(100, 50)), (300, 0));
        assert_eq!(rate(0, 5, Duration::ZERO), 5_000);
    }
}
