//! One import: how far it is or how it ended, its counts and its findings, and what can be done about it.

use axum::extract::{Path, State, rejection::PathRejection};
use causeway_control::model::{
    instruction::{Instruction, InstructionKind},
    report::{ReportedCounts, ReportedFinding, ReportedImport},
};
use maud::{Markup, html};
use uuid::Uuid;

use super::{
    imports::{age, how_far, is_paused, state},
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

const COUNTS: [Count; 10] = [
    ("Inserted", |counts| counts.inserted),
    ("Added", |counts| counts.added),
    ("Existing", |counts| counts.existing),
    ("Changed", |counts| counts.changed),
    ("Dropped", |counts| counts.dropped),
    ("Filtered", |counts| counts.filtered),
    ("Other scope", |counts| counts.out_of_scope),
    ("Passed over", |counts| counts.passed_over),
    ("Deleted", |counts| counts.deleted),
    ("Kept", |counts| counts.kept),
];

/// The counts as a dry run has them: what would be.
const WOULD: [(&str, &str); 5] = [
    ("Inserted", "Would be inserted"),
    ("Added", "Would be added"),
    ("Existing", "Exist already"),
    ("Changed", "Would be changed"),
    ("Dropped", "Would be dropped"),
];

/// Whether nobody needs to look at a model: all its records are there as new rows, as in the file, or a revert has deleted
/// all its rows.
fn is_plain(counts: &ReportedCounts, is_gone: bool) -> bool {
    match is_gone {
        true => {
            let rows = counts.inserted + counts.added;
            rows > 0 && counts.deleted == rows && counts.kept == 0
        }
        false => {
            counts.seen > 0
                && counts.added == 0
                && counts.inserted == counts.seen
                && counts.changed == 0
                && counts.deleted + counts.kept == 0
        }
    }
}

/// A table of counts by model, without columns that are empty. A zero says nothing, so its cell is empty.
fn counts_table(
    caption: &str,
    models: &[&ReportedCounts],
    total: &[ReportedCounts],
    dry_run: bool,
) -> Markup {
    let used: Vec<&Count> =
        COUNTS.iter().filter(|(_, of)| models.iter().any(|counts| of(counts) != 0)).collect();
    let name = |name: &'static str| {
        let would = WOULD.iter().find(|(of, _)| dry_run && *of == name);
        would.map_or(name, |(_, would)| would)
    };
    let columns: Vec<Column> = [text("Model"), numeric("In the file")]
        .into_iter()
        .chain(used.iter().map(|(of, _)| numeric(name(of))))
        .collect();
    let cell = |number: i64| html! { @if number != 0 { (format::number(number)) } };
    let row = |name: Markup, of_all: &dyn Fn(fn(&ReportedCounts) -> i64) -> i64| {
        let mut row = vec![name, cell(of_all(|counts| counts.seen))];
        row.extend(used.iter().map(|(_, of)| cell(of_all(*of))));
        row
    };
    let mut rows: Vec<Vec<Markup>> =
        models.iter().map(|counts| row(html! { (counts.model) }, &|of| of(counts))).collect();
    if !total.is_empty() {
        rows.push(row(html! { strong { "All" } }, &|of| {
            total.iter().fold(0_i64, |sum, counts| sum.saturating_add(of(counts)))
        }));
    }
    table(caption, &columns, &rows)
}

/// The counts by model: those that are not as in the file, and folded those that are. Of a reverted import, those that
/// were deleted are folded.
fn counts(import: &ReportedImport) -> Markup {
    let (models, dry_run, is_gone) = (&import.details.models, import.dry_run, import.state == "REVERTED");
    let (plain, other): (Vec<_>, Vec<_>) = models.iter().partition(|counts| is_plain(counts, is_gone));
    let records = plain.iter().fold(0_i64, |sum, counts| sum.saturating_add(counts.seen));
    html! {
        @if !other.is_empty() { (counts_table("Records by model", &other, models, dry_run)) }
        @if !plain.is_empty() {
            details {
                summary {
                    (format::number(records)) @if records == 1 { " record" } @else { " records" }
                    " of " (plain.len()) @if !other.is_empty() { " other" }
                    @if plain.len() == 1 { " model" } @else { " models" }
                    @if is_gone { " whose rows were deleted" }
                    @else if dry_run { " would be as in the file" }
                    @else { " as in the file" }
                }
                (counts_table(if other.is_empty() { "Records by model" } else { "The other models" }, &plain, &[], dry_run))
            }
        }
    }
}

/// That nothing of an import is left but the rows that something else needs, and who asked for that.
fn gone(import: &ReportedImport, last: Option<&Instruction>) -> Markup {
    let sum = |of: fn(&ReportedCounts) -> i64| {
        import.details.models.iter().fold(0_i64, |sum, counts| sum.saturating_add(of(counts)))
    };
    let (deleted, kept) = (sum(|counts| counts.deleted), sum(|counts| counts.kept));
    let asked = last.filter(|last| {
        last.asked.kind == InstructionKind::Revert
            && last.answer.as_ref().is_some_and(|answer| answer.refusal.is_none())
    });
    html! {
        p.note {
            strong { "It is gone" } ": reverted " (at(import.updated_at))
            @if let Some(last) = asked { ", as " (instruct::asker(last)) " asked" }
            ". " @if deleted == 1 { "1 row was deleted" } @else { (format::number(deleted)) " rows were deleted" }
            @if kept == 1 { ", and 1 stays, because something else needs it" }
            @else if kept > 1 { ", and " (format::number(kept)) " stay, because something else needs them" }
            "."
        }
    }
}

/// Whether a kind of findings still says something: most describe rows that a revert has deleted.
fn still_holds(import: &ReportedImport, kind: &str) -> bool {
    import.state != "REVERTED" || kind == "ROW_KEPT"
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
    // A region that has not said where it is: whoever pastes the command fills that in.
    let address = if address.is_empty() { "URL" } else { address };
    let of = |kind: InstructionKind| command(["causeway", "imports", kind.name(), &id, "--region", address]);
    let to = |kind: InstructionKind| instruct::path_of(region, import.import_id, kind);
    let all = command(["causeway", "imports", "show", &id, "--all", "--findings", "--region", address]);
    let (resume, revert) = (InstructionKind::Resume, InstructionKind::Revert);
    let inserted =
        import.details.models.iter().fold(0_i64, |sum, counts| sum.saturating_add(counts.inserted));
    html! {
        h2 { "What can be done" }
        p {
            "A button asks first, and then has the region do it. A command goes to the region itself"
            @if address.starts_with("https://") {
                "; add " code { "--tls-ca" } ", " code { "--tls-cert" } " and " code { "--tls-key" }
            }
            "."
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
            @if !import.ended && !is_paused(import) {
                dt { "Pause it: it keeps what it has written, and nobody works on it until it is resumed" }
                dd { (command(["causeway", "imports", "pause", &id, "--region", address])) }
            }
            @if instruct::is_offered(import, revert) {
                dt {
                    @if import.state == "FAILED" && inserted == 0 {
                        "Dismiss it, so that it no longer counts as failed: it has inserted nothing, and frees its slugs"
                    } @else { "Undo it: delete what it inserted in the region and at control, and free its slugs" }
                }
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
    let is_gone = import.state == "REVERTED";
    let organizations = match import.dry_run {
        true => "Would be imported",
        false if is_gone => "Organizations it had",
        false => "Organizations",
    };
    let kinds: Vec<_> =
        import.details.finding_counts.iter().filter(|count| still_holds(&import, &count.kind)).collect();
    let findings: Vec<_> =
        import.details.findings.iter().filter(|finding| still_holds(&import, &finding.kind)).collect();
    let main = html! {
        p.path { a href={ "/imports?region=" (query(&region)) } { "Imports of " (region) } }
        h1 { "Import " span.break { (id) } }
        p.lead { (state(&import)) " " @if !import.ended { (age(&context, reported)) } }
        @if is_gone { (gone(&import, last.as_ref())) }
        @if let Some(last) = last.as_ref().filter(|_| !is_gone) {
            (instruct::outcome(&context, &known, last, import.ended))
        }
        @if import.dry_run && import.state == "PLANNED" { p.note.good { strong { "Nothing was written." } } }
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
            p.note.bad { strong { @if is_gone { "It had failed" } @else { "It failed" } } ": " (prose_at(&to, &failure.message)) " (" (failure.reason) ")" }
        }
        (facts(&[
            ("Region", html! { (region) }),
            ("Begun", html! { (at(import.created_at)) " (" (when(&context, import.created_at)) ")" }),
            ("Last change", html! { (at(import.updated_at)) }),
            ("Begun by", html! { @if summary.begun_by.is_empty() { "unknown" } @else { (summary.begun_by) } }),
            ("Size", html! { (format::bytes(import.size_bytes)) }),
            (organizations, html! { (format::number(import.organization_count)) }),
        ]))
        @if !is_gone { (what_to_do(&import, &known.name, &address)) }
        @if kinds.is_empty() {
            p.empty { "No findings" @if is_gone { " about what is left" } "." }
        } @else {
            @let rows: Vec<Vec<Markup>> = kinds.iter().map(|count| vec![
                html! { (format::words(&count.kind)) },
                severity(&count.severity),
                html! { (format::number(count.count)) },
            ]).collect();
            (table("Findings by kind", &[text("Kind"), text("Severity"), numeric("Findings")], &rows))
        }
        @if !findings.is_empty() {
            @let rows: Vec<Vec<Markup>> = findings.into_iter().map(|it| finding(&to, it)).collect();
            (table("The first findings, the most serious first", &[text("Finding"), text("Record"), text("What and why")], &rows))
        }
        @if !import.details.models.is_empty() { (counts(&import)) }
    };
    Ok(live(&context, &format!("Import {id}"), Section::Imports, main))
}
