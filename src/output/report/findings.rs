//! The findings of an import: the first of each kind, or all.

use causeway_proto::{
    region::v1::Import,
    relocation::v1::{Finding, Severity},
};

use super::{Shown, reverted, short};
use crate::output::{
    numbers::{count, counted as counted_as},
    place::CommandTarget,
    table::clean,
    terminal::{ATTENTION, BAD, HEADING, styled},
    wrap::wrap,
};

fn kind_name(finding: &Finding) -> String {
    short(finding.kind().as_str_name(), "FINDING_KIND_").to_owned()
}

fn severity_name(severity: Severity) -> String {
    let name = short(severity.as_str_name(), "SEVERITY_").to_lowercase();
    match severity {
        Severity::Error => styled(&name, BAD),
        Severity::Warning => styled(&name, ATTENTION),
        Severity::Info | Severity::Unspecified => name,
    }
}

/// The heading above so many findings.
fn title(findings: i64) -> String {
    styled(&format!("Findings ({})", count(findings)), HEADING) + "\n"
}

/// The first findings of each kind, those of the highest severity first.
pub(super) fn by_kind(import: &Import, first: &[Finding], place: &CommandTarget, shown: Shown) -> String {
    let outdated = reverted::outdated(import);
    let all: i64 = import.finding_counts.iter().map(|count| count.count).sum();
    let mut text = title(all - outdated);
    let mut more = false;
    let holds = |kind| reverted::still_holds(import, kind);
    let mut counts: Vec<_> = import.finding_counts.iter().filter(|counted| holds(counted.kind())).collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.severity));
    for counted in counts {
        let kind = short(counted.kind().as_str_name(), "FINDING_KIND_");
        let severity = severity_name(counted.severity());
        text.push_str(&format!("  {kind} ({severity}): {}\n", count(counted.count)));
        let mut listed = 0;
        for finding in first.iter().filter(|finding| finding.kind == counted.kind) {
            listed += 1;
            // The head of the report has said it.
            if import.failure.as_ref().is_some_and(|failure| {
                !finding.reason.is_empty() && failure.message.starts_with(&finding.reason)
            }) {
                continue;
            }
            text.push_str(&wrap(&one(import, finding, place), shown.width, "    ", 6));
        }
        if counted.count > listed {
            text.push_str(&format!("    and {} more\n", count(counted.count - listed)));
            more = true;
        }
        let remedy = first.iter().find(|finding| finding.kind == counted.kind).map(|it| it.remedy.as_str());
        if let Some(remedy) = remedy.filter(|remedy| !remedy.is_empty()) {
            let remedy = place.complete(&clean(remedy), &import.control_addresses);
            text.push_str(&wrap(&format!("To do: {remedy}"), shown.width, "    ", 6));
        }
    }
    if more {
        let all = "All of them (--findings-file FILE writes them as lines of JSON):";
        text.push_str(&wrap(all, shown.width, "  ", 2));
        let command = place.command(["imports", "show", &import.import_id, "--findings"]);
        text.push_str(&format!("  {command}\n"));
    }
    if outdated > 0 {
        let what =
            format!("{} of the import itself, from before its revert:", counted_as(outdated, "finding"));
        text.push_str(&wrap(&what, shown.width, "  ", 2));
        let command = place.command(["imports", "show", &import.import_id, "--findings"]);
        text.push_str(&format!("  {command}\n"));
    }
    text
}

/// All findings, in the order in which they were made.
pub(super) fn all(import: &Import, all: &[Finding], place: &CommandTarget, shown: Shown) -> String {
    let mut text = title(i64::try_from(all.len()).unwrap_or(i64::MAX));
    for finding in all {
        let severity = severity_name(finding.severity());
        let line = format!("{} ({severity}): {}", kind_name(finding), one(import, finding, place));
        text.push_str(&wrap(&line, shown.width, "  ", 4));
    }
    text
}

/// The place of a finding in the file, and its reason. Parts of the place that it does not have are left out. Commands
/// in the reason go to `target`.
fn one(import: &Import, finding: &Finding, target: &CommandTarget) -> String {
    let mut place = Vec::new();
    if !finding.model.is_empty() {
        place.push(finding.model.clone());
    }
    if finding.ordinal > 0 {
        place.push(format!("#{}", finding.ordinal));
    }
    if finding.source_pk != 0 {
        place.push(format!("pk {}", finding.source_pk));
    }
    if !finding.field.is_empty() {
        place.push(format!("field {}", finding.field));
    }
    let reason = target.complete(&clean(&finding.reason), &import.control_addresses);
    if place.is_empty() { reason } else { format!("{}: {reason}", clean(&place.join(" "))) }
}
