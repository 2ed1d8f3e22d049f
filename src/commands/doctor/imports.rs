//! The imports of a region that need somebody.

use causeway_proto::{
    failure::reason_name,
    region::v1::{Import, ImportState},
    relocation::v1::ErrorReason,
};
use chrono::{DateTime, Utc};

use super::services::{SHOWN, elapsed, shown};
use crate::output::{
    diagnosis::{About, Check},
    numbers::count,
    place::CommandTarget,
    report::{Remedy, remedy},
};

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

/// What is to be said of an import, and what to do; `None` if it needs nobody. A dry run that has failed has told what it
/// was made for.
fn finding(import: &Import, place: &CommandTarget, now: DateTime<Utc>) -> Option<(String, String)> {
    let id = import.import_id.as_str();
    let message = |text: &str| place.complete(text, &import.control_addresses);
    if let Some(waiting) = &import.waiting {
        let since = elapsed(waiting.since.as_ref(), now)
            .map_or_else(String::new, |age| format!(" for {}", shown(age)));
        let reason = ErrorReason::try_from(waiting.reason)
            .map_or("a reason that this program does not know", reason_name);
        let advice = match import.pause {
            Some(_) => format!("to continue it: `{}`", place.command(["imports", "resume", id])),
            None => "it goes on by itself once that has passed".to_owned(),
        };
        return Some((format!("import {id} waits{since} ({reason}): {}", message(&waiting.message)), advice));
    }
    if import.state() != ImportState::Failed || import.dry_run {
        return None;
    }
    let why = import.failure.as_ref().map_or("", |failure| failure.message.as_str());
    Some((format!("import {id} has failed: {}", message(why)), what_to_do(import, place)))
}

/// Reports imports that wait or have failed, of the newest ones.
pub(super) fn imports(about: &mut About<'_>, newest: &[Import], place: &CommandTarget, now: DateTime<Utc>) {
    let mut found = newest.iter().filter_map(|import| finding(import, place, now));
    let mut is_well = true;
    for (text, advice) in found.by_ref().take(SHOWN) {
        is_well = false;
        about.warning(Check::Imports, text, advice);
    }
    let more = i64::try_from(found.count()).unwrap_or(i64::MAX);
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
    use causeway_proto::region::v1::{ImportFailure, Pause, Waiting};
    use chrono::TimeDelta;

    use super::*;
    use crate::output::{diagnosis::Report, terminal::Width};

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
        let (_, advice) = finding(&waits, &place(), now).expect("a finding");
        assert_eq!(advice, "it goes on by itself once that has passed");
        let paused = Import { pause: Some(Pause::default()), ..waits };
        let (_, advice) = finding(&paused, &place(), now).expect("a finding");
        assert_eq!(advice, "to continue it: `causeway imports resume 3b1f --region http://127.0.0.1:1`");
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
