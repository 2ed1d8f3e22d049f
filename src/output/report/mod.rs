//! The report on one import, for people.

mod findings;
mod organizations;
mod reverted;
#[cfg(test)]
mod tests;

use std::time::Duration;

use causeway_proto::{
    failure::reason_name,
    region::v1::{Import, ImportFailure, ImportState},
    relocation::v1::{ErrorReason, Finding, FindingCount, FindingKind},
    time::from_proto,
};

use super::{
    counts::{records, seen, summary},
    numbers::{bytes, count, counted, duration, moment, rate},
    place::CommandTarget,
    table::clean,
    terminal::{ATTENTION, BAD, GOOD, Width, styled},
    throttle,
    wrap::{wrap, wrap_lines},
};

/// What the report shows of the things that need no attention, and how wide it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// Also show, one by one, what is as it was wanted.
    pub(crate) all: bool,
    /// How wide its paragraphs may be.
    pub(crate) width: Width,
    /// How wide its tables may be.
    pub(crate) table_width: Width,
}

/// The findings that the report shows.
#[derive(Debug)]
pub(crate) enum Findings {
    /// The first findings of each kind.
    First(Vec<Finding>),
    /// All findings of the import.
    All(Vec<Finding>),
}

/// The name of an enum value without the prefix that all values of its type have.
pub(super) fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The import's state; its number if it is of a newer contract.
pub(crate) fn state(import: &Import) -> String {
    state_name(import.state)
}

fn state_name(state: i32) -> String {
    ImportState::try_from(state).map_or_else(|_| state.to_string(), |state| state.short_name().to_uppercase())
}

/// The name of a reason; its number if it is of a newer contract.
pub(super) fn reason(reason: i32) -> String {
    ErrorReason::try_from(reason).map_or_else(|_| reason.to_string(), |reason| reason_name(reason).to_owned())
}

/// The state, in the color of its outcome.
fn colored(import: &Import) -> String {
    let style = match import.state() {
        ImportState::Succeeded | ImportState::Planned => GOOD,
        ImportState::Failed => BAD,
        _ => return state(import),
    };
    styled(&state(import), style)
}

/// How long an import took that has ended; `None` for any other.
pub(super) fn duration_of(import: &Import) -> Option<Duration> {
    if !matches!(import.state(), ImportState::Succeeded | ImportState::Planned | ImportState::Failed) {
        return None;
    }
    // An import changes after its end, when its organizations are approved. An older region says only when that was.
    let ended = import.end_time.as_ref().or(import.update_time.as_ref());
    let [begun, ended] = [import.create_time.as_ref(), ended].map(|time| time.and_then(from_proto));
    (ended? - begun?).to_std().ok()
}

/// The file, when the import began and, once it has ended, how long it took and how many records a second that is.
fn times(import: &Import) -> Option<String> {
    let begun = import.create_time.as_ref().and_then(from_proto)?;
    let size = bytes(u64::try_from(import.size_bytes).unwrap_or(0));
    let mut text =
        format!("{size}{}, begun {}", if import.encrypted { " encrypted" } else { "" }, moment(begun));
    if let Some(took) = duration_of(import) {
        text.push_str(&format!(", took {}", duration(took)));
        // One that failed has not handled all records of the file.
        let all = Some(seen(import)).filter(|_| import.state() != ImportState::Failed);
        let all = all.and_then(|seen| u64::try_from(seen).ok());
        if let Some(rate) = all.and_then(|seen| rate(seen, took)) {
            text.push_str(&format!(" ({} records/s)", super::numbers::count_of(rate)));
        }
    }
    if import.resume_count > 0 {
        text.push_str(&format!(", resumed {}", counted(import.resume_count.into(), "time")));
    }
    Some(text)
}

/// Everything about an import that fits on a few screens. Commands in it go to `place`.
pub(crate) fn render(import: &Import, findings: &Findings, place: &CommandTarget, shown: Shown) -> String {
    let message = |text: &str| place.complete(&clean(text), &import.control_addresses);
    let paragraph = |text: &str| wrap(text, shown.width, "", 2);
    let (what, written) = if import.dry_run { ("Dry run", "; nothing was written") } else { ("Import", "") };
    let mut head = paragraph(&format!(
        "{what} {} in region {}: {}{written}",
        import.import_id,
        clean(&import.region),
        colored(import)
    ));
    if let Some(times) = times(import) {
        head.push_str(&paragraph(&times));
    }
    let mut sections = vec![head];
    if let Some(throttled) = import.progress.as_ref().and_then(|progress| progress.throttled.as_ref()) {
        sections.push(paragraph(&format!("The import is {}", throttle::slowed(throttled))));
    }
    if let Some(waiting) = import.waiting.as_ref().filter(|_| import.pause.is_some()) {
        sections.push(paragraph(&format!(
            "{}: {} ({})",
            styled("Paused", ATTENTION),
            message(&waiting.message),
            reason(waiting.reason)
        )));
    } else if let Some(waiting) = &import.waiting {
        let attempts = counted(waiting.attempts.into(), "failed attempt");
        sections.push(paragraph(&format!(
            "{} after {attempts}: {} ({}). It tries again by itself.",
            styled("Waiting", ATTENTION),
            message(&waiting.message),
            reason(waiting.reason)
        )));
    }
    if let Some(lease) = &import.lease {
        let renewed = lease.renew_time.as_ref().and_then(from_proto);
        sections.push(paragraph(&format!(
            "Run by {}, which last showed itself at {}",
            clean(&lease.place),
            renewed.map_or_else(String::new, moment),
        )));
    }
    sections.extend(reverted::summary(import, place).map(|summary| paragraph(&summary)));
    if let Some(failure) = &import.failure {
        let failed = if reverted::is_reverted(import) { "It had failed" } else { "Failed" };
        sections.push(paragraph(&format!(
            "{failed} while {}: {} ({})",
            state_name(failure.state),
            message(&failure.message),
            reason(failure.reason)
        )));
    }
    sections.extend(summary(import).map(|summary| paragraph(&summary)));
    // What failed before there was anything to count has nothing to show there.
    let failed = import.state() == ImportState::Failed;
    if !(failed && import.organization_count == 0) {
        sections.push(organizations::organizations(import, place, shown));
    }
    if !(failed && import.models.is_empty()) {
        let all = place.command(["imports", "show", &import.import_id, "--all"]);
        sections.push(records(import, &all, shown));
    }
    match findings {
        Findings::First(_) if failed && import.finding_counts.is_empty() => {}
        Findings::First(first) => sections.push(findings::by_kind(import, first, place, shown)),
        Findings::All(all) => sections.push(findings::all(import, all, place, shown)),
    }
    if import.hidden_organization_count > 0 {
        let are = if import.hidden_organization_count == 1 { "organization is" } else { "organizations are" };
        sections.push(wrap_lines(
            &format!(
                "{} {are} hidden until somebody approves them:\n  {}\n",
                count(import.hidden_organization_count),
                place.command(["organizations", "approve", "--import", &import.import_id])
            ),
            shown.width,
        ));
    }
    sections.join("\n")
}

/// The warning for stderr if the file has no record of a model that is imported.
pub(crate) fn nothing_imported(import: &Import) -> Option<String> {
    let nothing = |count: &FindingCount| count.kind() == FindingKind::NothingToImport && count.count > 0;
    let what = if import.dry_run { "would be imported" } else { "was imported" };
    import.finding_counts.iter().any(nothing).then(|| {
        format!("warning: nothing {what}: the file has no record of a model that is imported; the report says which it has")
    })
}

/// What to do about an import that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Import a mended file; nothing was written.
    MendFile,
    /// Take back what was written, and import a mended file.
    RevertAndMendFile,
    /// Import the file with another filter; nothing was written.
    CorrectFilter,
    /// Report a defect of Causeway.
    Report,
    /// Go on once the cause is gone, or take it back.
    Resume,
}

/// What to do about an import that has failed, by its reason. The same file would fail again, so a region does not keep
/// it.
pub(crate) fn remedy(failure: Option<&ImportFailure>) -> Remedy {
    match failure.map(|failure| (ErrorReason::try_from(failure.reason), failure.state())) {
        Some((Ok(ErrorReason::ExportInvalid), ImportState::Planning)) => Remedy::MendFile,
        Some((Ok(ErrorReason::ExportInvalid), _)) => Remedy::RevertAndMendFile,
        Some((Ok(ErrorReason::FilterMatchesNothing), _)) => Remedy::CorrectFilter,
        Some((Ok(ErrorReason::CountsDoNotAddUp), _)) => Remedy::Report,
        _ => Remedy::Resume,
    }
}

/// The text for stderr about a failed import: why it failed, and what to do. `again` is the command that imports the
/// same file once more, if it is known. `told`: the report, which says why, is just above on the same screen.
pub(crate) fn failure(import: &Import, place: &CommandTarget, again: Option<&str>, told: bool) -> String {
    let id = &import.import_id;
    let Some(failure) = &import.failure else {
        return format!("import {id} is {}", state(import));
    };
    let (at, why) = (state_name(failure.state), reason(failure.reason));
    let why = match told {
        true => format!(" ({why})"),
        false => format!(": {} ({why})", place.complete(&clean(&failure.message), &import.control_addresses)),
    };
    let again = |what: &str| match again {
        Some(command) => format!("{what}, under a new import id:\n  {command}"),
        None => format!("{what}, under a new import id"),
    };
    if import.dry_run {
        let what = again("correct what is wrong, and try again");
        return format!("the import would fail, as dry run {id} did while {at}{why}\n{what}");
    }
    let resume = place.command(["imports", "resume", id]);
    let revert = place.command(["imports", "revert", id]);
    let what_to_do = match remedy(Some(failure)) {
        Remedy::MendFile => again("mend the file and import it again"),
        Remedy::RevertAndMendFile => {
            format!("take it back:\n  {revert}\n{}", again("then mend the file and import it again"))
        }
        Remedy::CorrectFilter => again("correct --filter-org-slugs and import the file again"),
        Remedy::Report => format!(
            "this is a defect of Causeway: keep the file and the region's log, and report it. To take the import back:\n  \
             {revert}"
        ),
        Remedy::Resume => format!(
            "see to the cause, which the region's log tells more of; then go on with the import, or take it back:\n  \
             {resume}\n  {revert}"
        ),
    };
    format!("import {id} failed while {at}{why}\nnothing of it is visible; {what_to_do}")
}
