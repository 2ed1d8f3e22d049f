//! One import: how far it is or how it ended, its counts and its findings, and what can be done about it.

use axum::extract::{Path, State, rejection::PathRejection};
use causeway_control::model::{
    instruction::InstructionKind,
    report::{ReportedCounts, ReportedFinding, ReportedImport},
};
use maud::{Markup, html};
use uuid::Uuid;

use super::{
    imports::{age, how_far, state},
    instruct, regions,
};
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{
        Column, Destination, Section, Tone, at, badge, command, facts, live, numeric, prose_at, query, table,
        text, when,
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

fn finding(to: &Destination, finding: &ReportedFinding) -> Vec<Markup> {
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
            (prose_at(to, &finding.reason))
            @if !finding.remedy.is_empty() { span.sub { (prose_at(to, &finding.remedy)) } }
        },
    ]
}

/// What an operator can do about an import: through control where the region takes that, and by commands.
fn what_to_do(import: &ReportedImport, region: &str, address: &str) -> Markup {
    let id = import.import_id.to_string();
    let of = |kind: InstructionKind| command(["causeway", "imports", kind.name(), &id, "--region", address]);
    let to = |kind: InstructionKind| instruct::path_of(region, import.import_id, kind);
    let all = command(["causeway", "imports", "show", &id, "--all", "--findings", "--region", address]);
    let (resume, revert) = (InstructionKind::Resume, InstructionKind::Revert);
    html! {
        h2 { "What can be done" }
        p {
            "A button asks first, and then has the region do it. A command goes to the region itself; with TLS, add "
            code { "--tls-ca" } ", " code { "--tls-cert" } " and " code { "--tls-key" } "."
        }
        dl.commands {
            dt { "See it all: each organization with its new slug, each model, and every finding" }
            dd { (all) }
            @if import.state == "FAILED" && !instruct::is_kept(import) {
                dt { "Correct the file, or the slugs of the filter, and import it again" }
                dd { (command(["causeway", "import", "organizations", "FILE", "--region", address])) }
            }
            @if instruct::is_offered(import, resume) {
                dt {
                    @if import.state == "FAILED" { "Go on where it failed, once the cause is gone" }
                    @else { "End the pause, and go on where it was" }
                }
                dd { a.button href=(to(resume)) { "Resume…" } " " (of(resume)) }
            }
            @if instruct::is_offered(import, revert) {
                dt { "Undo it: delete what it inserted in both silos, and free its slugs" }
                dd { a.button href=(to(revert)) { "Revert…" } " " (of(revert)) }
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
    let import = instruct::reported(&console, &region, id).await?;
    let reported = regions::reports(&console).await?.remove(&region).map(|report| report.reported_at);
    let silent = regions::silent_since(&known, context.now);
    let address = known.registered.as_ref().map(|registered| registered.address.clone()).unwrap_or_default();
    let to = Destination::of_region(&context, Some(&address));
    let last = console.control.instructions().of_import(&region, id).await?.into_iter().next();
    let summary = &import.summary;
    let main = html! {
        p.path { a href={ "/imports?region=" (query(&region)) } { "Imports of " (region) } }
        h1 { "Import " span.break { (id) } }
        p.lead { (state(&import)) " " @if !import.ended { (age(&context, reported)) } }
        @if let Some(last) = &last { (instruct::outcome(&context, &known, last)) }
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
                ": " (prose_at(&to, &waiting.message)) " (" (waiting.reason) ")."
                @if waiting.reason != "IMPORT_PAUSED" { " It tries again by itself." }
            }
        }
        @if let Some(failure) = &summary.failure {
            p.note.bad { strong { "It failed" } ": " (prose_at(&to, &failure.message)) " (" (failure.reason) ")" }
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
            @let rows: Vec<Vec<Markup>> = import.details.findings.iter().map(|it| finding(&to, it)).collect();
            (table("The first findings, the most serious first", &[text("Finding"), text("Record"), text("What and why")], &rows))
        }
        @if !import.details.models.is_empty() { (counts(&import.details.models)) }
        (what_to_do(&import, &known.name, &address))
    };
    Ok(live(&context, &format!("Import {id}"), Section::Imports, main))
}
