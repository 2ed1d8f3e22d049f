//! One import: how far it is or how it ended, its counts and its findings, and what can be done about it.

use axum::extract::{Path, State, rejection::PathRejection};
use causeway_control::model::report::{ReportedCounts, ReportedFinding, ReportedImport};
use maud::{Markup, html};
use uuid::Uuid;

use super::{
    imports::{age, how_far, state},
    regions,
};
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{
        Column, Section, Tone, at, badge, command, facts, live, numeric, prose, query, table, text, when,
    },
};

fn severity(severity: &str) -> Markup {
    let tone = match severity {
        "ERROR" => Tone::Bad,
        "WARNING" => Tone::Warn,
        _ => Tone::Plain,
    };
    badge(tone, &format::words(severity))
}

/// A count of a model, and its name.
type Count = (&'static str, fn(&ReportedCounts) -> i64);

const COUNTS: [Count; 9] = [
    ("Inserted", |counts| counts.inserted),
    ("Existing", |counts| counts.existing),
    ("Changed", |counts| counts.changed),
    ("Dropped", |counts| counts.dropped),
    ("Filtered", |counts| counts.filtered),
    ("Other scope", |counts| counts.out_of_scope),
    ("Passed over", |counts| counts.passed_over),
    ("Deleted", |counts| counts.deleted),
    ("Kept", |counts| counts.kept),
];

/// The counts by model, without columns that are empty.
fn counts(models: &[ReportedCounts]) -> Markup {
    let used: Vec<&Count> =
        COUNTS.iter().filter(|(_, of)| models.iter().any(|counts| of(counts) != 0)).collect();
    let columns: Vec<Column> = [text("Model"), numeric("In the file")]
        .into_iter()
        .chain(used.iter().map(|(name, _)| numeric(name)))
        .collect();
    let row = |name: Markup, of_all: &dyn Fn(fn(&ReportedCounts) -> i64) -> i64| {
        let mut row = vec![name, html! { (format::number(of_all(|counts| counts.seen))) }];
        row.extend(used.iter().map(|(_, of)| html! { (format::number(of_all(*of))) }));
        row
    };
    let mut rows: Vec<Vec<Markup>> =
        models.iter().map(|counts| row(html! { (counts.model) }, &|of| of(counts))).collect();
    rows.push(row(html! { strong { "All" } }, &|of| {
        models.iter().fold(0_i64, |sum, counts| sum.saturating_add(of(counts)))
    }));
    table("Records by model", &columns, &rows)
}

fn finding(finding: &ReportedFinding) -> Vec<Markup> {
    vec![
        html! { (severity(&finding.severity)) " " (format::words(&finding.kind)) },
        html! {
            @if !finding.model.is_empty() {
                (finding.model)
                @if finding.source_pk > 0 { " " (finding.source_pk) }
                @if !finding.field.is_empty() { ", " (finding.field) }
            }
        },
        html! {
            (prose(&finding.reason))
            @if !finding.remedy.is_empty() { span.sub { (prose(&finding.remedy)) } }
        },
    ]
}

/// What an operator can do about an import. Control cannot call a region, so these are commands.
fn what_to_do(import: &ReportedImport, address: &str) -> Markup {
    let id = import.import_id.to_string();
    let of = |verb: &'static str| command(["causeway", "imports", verb, &id, "--region", address]);
    let all = command(["causeway", "imports", "show", &id, "--all", "--findings", "--region", address]);
    let is = |states: &[&str]| states.contains(&import.state.as_str());
    // A file that breaks a rule would break it the next time too, so its region has not kept it.
    let is_kept = import.summary.failure.as_ref().is_none_or(|failure| {
        !["EXPORT_INVALID", "FILTER_MATCHES_NOTHING"].contains(&failure.reason.as_str())
    });
    html! {
        h2 { "What can be done" }
        p {
            "Control cannot call a region, so these commands go to the region. With TLS, add "
            code { "--tls-ca" } ", " code { "--tls-cert" } " and " code { "--tls-key" } "."
        }
        dl.commands {
            dt { "See it all: each organization with its new slug, each model, and every finding" }
            dd { (all) }
            @if is(&["FAILED"]) && !is_kept {
                dt { "Correct the file, or the slugs of the filter, and import it again" }
                dd { (command(["causeway", "import", "organizations", "FILE", "--region", address])) }
            }
            @if is(&["FAILED"]) && !import.dry_run && is_kept {
                dt { "Go on where it failed, once the cause is gone" }
                dd { (of("resume")) }
            }
            @if !import.dry_run && !is(&["REVERTED"]) {
                dt { "Undo it: delete what it inserted in both silos, and free its slugs. The command asks first" }
                dd { (of("revert")) }
            }
        }
    }
}

pub(crate) async fn show(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Markup, Failed> {
    let Path((region, id)) = path?;
    let id = Uuid::try_parse(&id).map_err(|_| Failed::bad("The id of an import is a UUID."))?;
    let known = console.control.regions().get(&region).await?;
    let Some(import) = console.control.reports().import(&region, id).await? else {
        return Err(Failed::absent(format!(
            "Region {region} has not reported an import {id}. It may be older than what control stores: `causeway \
             imports show {id} --region URL` asks the region."
        )));
    };
    let reported = regions::reports(&console).await?.remove(&region).map(|report| report.reported_at);
    let silent = regions::silent_since(&known, context.now);
    let address = known.registered.map(|registered| registered.address).unwrap_or_default();
    let summary = &import.summary;
    let main = html! {
        p.path { a href={ "/imports?region=" (query(&region)) } { "Imports of " (region) } }
        h1 { "Import " span.break { (id) } }
        p.lead { (state(&import)) " " @if !import.ended { (age(&context, reported)) } }
        @if let Some(since) = silent.filter(|_| !import.ended) {
            p.note.bad {
                "Region " (region) " is silent: it was last heard from " (when(&context, since)) ". What follows is what "
                "it reported before. Look whether its service runs, and at its log."
            }
        }
        @if !import.ended { div.how-far { (how_far(&import)) } }
        @if let Some(waiting) = summary.waiting.as_ref().filter(|_| !import.ended) {
            p.note.warn {
                strong { "It waits" }
                @if let Some(since) = summary.waiting_since { ", since " (when(&context, since)) }
                ": " (prose(&waiting.message)) " (" (waiting.reason) ")."
                @if waiting.reason != "IMPORT_PAUSED" { " It tries again by itself." }
            }
        }
        @if let Some(failure) = &summary.failure {
            p.note.bad { strong { "It failed" } ": " (prose(&failure.message)) " (" (failure.reason) ")" }
        }
        (facts(&[
            ("Region", html! { (region) }),
            ("Begun", html! { (at(import.created_at)) " (" (when(&context, import.created_at)) ")" }),
            ("Last change", html! { (at(import.updated_at)) }),
            ("Begun by", html! { @if summary.begun_by.is_empty() { "unknown" } @else { (summary.begun_by) } }),
            ("Size", html! { (format::bytes(import.size_bytes)) }),
            ("Organizations", html! { (format::number(import.organization_count)) }),
        ]))
        @if import.details.finding_counts.is_empty() {
            p.empty { "No findings." }
        } @else {
            @let rows: Vec<Vec<Markup>> = import.details.finding_counts.iter().map(|count| vec![
                html! { (format::words(&count.kind)) },
                severity(&count.severity),
                html! { (format::number(count.count)) },
            ]).collect();
            (table("Findings by kind", &[text("Kind"), text("Severity"), numeric("Findings")], &rows))
        }
        @if !import.details.findings.is_empty() {
            @let rows: Vec<Vec<Markup>> = import.details.findings.iter().map(finding).collect();
            (table("The first findings, the most serious first", &[text("Finding"), text("Record"), text("What and why")], &rows))
        }
        @if !import.details.models.is_empty() { (counts(&import.details.models)) }
        (what_to_do(&import, &address))
    };
    Ok(live(&context, &format!("Import {id}"), Section::Imports, main))
}
