//! The imports of a region that need somebody.

use causeway_proto::{
    failure::reason_name,
    region::v1::{Import, ImportState},
    relocation::v1::ErrorReason,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::services::{SHOWN, elapsed, shown};
use crate::output::{
    diagnosis::{About, Check},
    numbers::count,
    place::CommandTarget,
    report::{Remedy, remedy},
};

/// A shorter wait needs nobody: a step that fails is tried again within seconds.
const LONG_WAIT: TimeDelta = TimeDelta::minutes(1);

/// Something about an import.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It needs somebody: what is wrong, and what to do.
    Warning(String, String),
    /// It needs nobody yet.
    Note(String),
}

/// What to do about an import that has failed.
fn what_to_do(import: &Import, place: &CommandTarget) -> String {
    let id = import.import_id.as_str();
    let revert = place.command(["imports", "revert", id]);
    match remedy(import.failure.as_ref()) {
        Remedy::MendFile => {
            format!(
                "mend the file, and import it again under a new id; after `{revert}` this is not reported again"
            )
        }
        Remedy::RevertAndMendFile => {
            format!("take it back: `{revert}`; then mend the file, and import it again under a new id")
        }
        Remedy::CorrectFilter => format!(
            "correct the slugs of the filter, and import the file again under a new id; after `{revert}` this is not \
             reported again"
        ),
        Remedy::Report => format!(
            "this is a defect of Causeway: keep the file and the region's log, and report it. `{revert}` takes it back"
        ),
        Remedy::Resume => format!(
            "`{}` goes on once the cause is gone, `{revert}` takes it back",
            place.command(["imports", "resume", id])
        ),
    }
}

/// What is to be said of an import; `None` if nothing is. A dry run that has failed has told what it was made for.
fn finding(import: &Import, place: &CommandTarget, now: DateTime<Utc>) -> Option<Said> {
    let id = import.import_id.as_str();
    let message = |text: &str| place.complete(text, &import.control_addresses);
    if let Some(waiting) = &import.waiting {
        let age = elapsed(waiting.since.as_ref(), now);
        let since = age.map_or_else(String::new, |age| format!(" for {}", shown(age)));
        let reason = ErrorReason::try_from(waiting.reason)
            .map_or("a reason that this program does not know", reason_name);
        let text = format!("import {id} waits{since} ({reason}): {}", message(&waiting.message));
        return Some(match import.pause {
            Some(_) => {
                Said::Warning(text, format!("to continue it: `{}`", place.command(["imports", "resume", id])))
            }
            None if age.is_some_and(|age| age < LONG_WAIT) => Said::Note(text),
            None => Said::Warning(text, "it goes on by itself once that has passed".to_owned()),
        });
    }
    if import.state() != ImportState::Failed || import.dry_run {
        return None;
    }
    let why = import.failure.as_ref().map_or("", |failure| failure.message.as_str());
    let text = format!("import {id} has failed: {}", message(why));
    Some(Said::Warning(text, what_to_do(import, place)))
}

/// Reports imports that wait or have failed, of the newest ones.
pub(super) fn imports(about: &mut About<'_>, newest: &[Import], place: &CommandTarget, now: DateTime<Utc>) {
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    for said in newest.iter().filter_map(|import| finding(import, place, now)) {
        match said {
            Said::Warning(text, advice) => warnings.push((text, advice)),
            Said::Note(text) => notes.push(text),
        }
    }
    let is_well = warnings.is_empty() && notes.is_empty();
    let more = i64::try_from(warnings.len().saturating_sub(SHOWN)).unwrap_or(i64::MAX);
    for (text, advice) in warnings.into_iter().take(SHOWN) {
        about.warning(Check::Imports, text, advice);
    }
    for text in notes.into_iter().take(SHOWN) {
        about.ok(Check::Imports, text);
    }
    if more > 0 {
        let list = place.command(["imports", "list"]);
        about.warning(
            Check::Imports,
            format!("{} more like these", count(more)),
            format!("`{list}` lists them"),
        );
    }
    if is_well {
        about.ok(Check::Imports, "none waits or has failed");
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::{
        region::v1::{ImportFailure, Pause, Waiting},
        time::to_proto,
    };

    use super::*;
    use crate::output::{
        diagnosis::{Report, Severity},
        terminal::Width,
    };

    fn place() -> CommandTarget {
        CommandTarget::Region("http://127.0.0.1:1".to_owned())
    }

    fn failed(reason: ErrorReason, state: ImportState) -> Import {
        let failure = ImportFailure { reason: reason.into(), state: state.into(), ..Default::default() };
        Import {
            import_id: "3b1f".to_owned(),
            state: ImportState::Failed.into(),
            failure: Some(failure),
            ..Default::default()
        }
    }

    #[test]
    fn an_import_that_would_fail_again_is_not_to_be_resumed() {
        let advice = |reason, state| what_to_do(&failed(reason, state), &place());
        assert_eq!(
            advice(ErrorReason::SchemaChanged, ImportState::Writing),
            "`causeway imports resume 3b1f --region http://127.0.0.1:1` goes on once the cause is gone, `causeway imports \
             revert 3b1f --region http://127.0.0.1:1` takes it back"
        );
        let planned = advice(ErrorReason::ExportInvalid, ImportState::Planning);
        assert!(planned.starts_with("mend the file") && planned.contains("not reported again"), "{planned}");
        let written = advice(ErrorReason::ExportInvalid, ImportState::Writing);
        assert!(
            written.starts_with("take it back: `causeway imports revert 3b1f")
                && written.contains("mend the file"),
            "{written}"
        );
        let filter = advice(ErrorReason::FilterMatchesNothing, ImportState::Planning);
        let defect = advice(ErrorReason::CountsDoNotAddUp, ImportState::Finishing);
        for text in [planned, written, filter, defect] {
            assert!(!text.contains("resume"), "{text}");
        }
    }

    #[test]
    fn a_paused_import_does_not_go_on_by_itself() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let waits = Import {
            import_id: "3b1f".to_owned(),
            state: ImportState::Writing.into(),
            waiting: Some(Waiting { message: "it waits".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let advice = |import: &Import| match finding(import, &place(), now) {
            Some(Said::Warning(_, advice)) => advice,
            other => format!("{other:?}"),
        };
        assert_eq!(advice(&waits), "it goes on by itself once that has passed");
        let paused = Import { pause: Some(Pause::default()), ..waits };
        assert_eq!(
            advice(&paused),
            "to continue it: `causeway imports resume 3b1f --region http://127.0.0.1:1`"
        );
    }

    #[test]
    fn a_wait_of_a_few_seconds_is_no_warning() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        for (seconds, severity) in [(4, Severity::Ok), (59, Severity::Ok), (60, Severity::Warning)] {
            let since = Some(to_proto(now - TimeDelta::seconds(seconds)));
            let waits = Import {
                import_id: "3b1f".to_owned(),
                state: ImportState::Writing.into(),
                waiting: Some(Waiting { message: "control is away".to_owned(), since, ..Default::default() }),
                ..Default::default()
            };
            let mut report = Report::default();
            imports(&mut About::new(&mut report, "us".to_owned()), &[waits], &place(), now);
            let text = report.text(Width::UNLIMITED);
            assert!(report.worst() == severity && text.contains("import 3b1f waits for"), "{text}");
        }
    }

    #[test]
    fn a_failed_dry_run_is_no_finding_and_not_all_imports_are_named() {
        let found = |count: usize, dry_run| {
            let mut report = Report::default();
            let import = Import { dry_run, ..failed(ErrorReason::SchemaChanged, ImportState::Writing) };
            let all = vec![import; count];
            imports(&mut About::new(&mut report, "us".to_owned()), &all, &place(), DateTime::UNIX_EPOCH);
            (report.findings().len(), report.text(Width::UNLIMITED))
        };
        let (number, text) = found(2, true);
        assert!(number == 1 && text.contains("none waits or has failed"), "{text}");
        assert_eq!(found(SHOWN, false).0, SHOWN);
        let (number, text) = found(SHOWN + 2, false);
        assert!(number == SHOWN + 1 && text.contains("2 more like these"), "{text}");
    }
}
