//! Resumes or reverts an import of a region: first a page that says what will happen, then an instruction that the region
//! takes with its next report. The page of the import shows what has become of it.

use axum::{
    Form,
    extract::{
        Path, State,
        rejection::{FormRejection, PathRejection},
    },
    http::StatusCode,
    response::Redirect,
};
use causeway_audit::{Call, Subject, about};
use causeway_control::{
    instructions::Asked,
    model::{
        instruction::{HANDED_OUT_FOR, Instruction, InstructionKind, NewInstruction},
        region::KnownRegion,
        report::ReportedImport,
    },
};
use causeway_proto::{failure::reason_name, relocation::v1::ErrorReason};
use maud::{Markup, html};
use serde::Deserialize;
use tonic::Status;
use uuid::Uuid;

use super::{
    imports::{is_paused, state},
    regions::silent_since,
    release::suspended,
};
use crate::{
    Console,
    confirmed::check,
    context::Context,
    failure::Failed,
    format,
    html::{Destination, Section, at, command, facts, prose_at, query, still, when},
    token,
};

/// What is done, as a part of a path and as a command has it.
fn verb(kind: InstructionKind) -> &'static str {
    kind.name()
}

/// The page of an import.
fn path_of_import(region: &str, id: Uuid) -> String {
    format!("/imports/{}/{id}", query(region))
}

/// The page that asks.
pub(super) fn path_of(region: &str, id: Uuid, kind: InstructionKind) -> String {
    format!("{}/{}", path_of_import(region, id), verb(kind))
}

/// What the token of a form is for: the instruction that the form asks for.
fn action(region: &str, id: Uuid, kind: InstructionKind, instruction: Uuid) -> String {
    format!("{}?instruction={instruction}", path_of(region, id, kind))
}

/// Whether the file of a failed import is there for a resume. One that breaks a rule would break it the next time too, so
/// its region has not kept it.
pub(super) fn is_kept(import: &ReportedImport) -> bool {
    let gone = [ErrorReason::ExportInvalid, ErrorReason::FilterMatchesNothing].map(reason_name);
    import.summary.failure.as_ref().is_none_or(|failure| !gone.contains(&failure.reason.as_str()))
}

/// Why there is nothing to do of that kind; `None` if there is. The region decides, by the state that it finds when it carries it out.
fn obstacle(import: &ReportedImport, kind: InstructionKind) -> Option<&'static str> {
    match (kind, import.state.as_str()) {
        (InstructionKind::Resume, _) if is_paused(import) => None,
        (InstructionKind::Resume, "FAILED") if import.dry_run => {
            Some("A dry run is not resumed: begin it again, under a new id.")
        }
        (InstructionKind::Resume, "FAILED") if !is_kept(import) => Some(
            "It failed for what stands in the file or the filter, and would fail again. Correct that, and import it again.",
        ),
        (InstructionKind::Resume, "FAILED") => None,
        (InstructionKind::Resume, _) => {
            Some("It is neither paused nor has it failed: there is nothing to resume.")
        }
        (InstructionKind::Revert, _) if import.dry_run => {
            Some("A dry run has written nothing: there is nothing to revert.")
        }
        (InstructionKind::Revert, "REVERTED") => {
            Some("It is reverted: there is nothing left of it to revert.")
        }
        (InstructionKind::Revert, "REVERTING") if !is_paused(import) => Some("It is being reverted already."),
        (InstructionKind::Revert, "REVERTING") => Some("Its revert is paused: resume it instead."),
        (InstructionKind::Revert, _) => None,
    }
}

/// Whether the page of an import offers to do this.
pub(super) fn is_offered(import: &ReportedImport, kind: InstructionKind) -> bool {
    obstacle(import, kind).is_none()
}

/// Who has asked for an instruction.
pub(super) fn asker(instruction: &Instruction) -> &str {
    match instruction.asked.asked_by.as_str() {
        "" => "somebody",
        who => who,
    }
}

/// Where commands go that the region names.
fn destination_of(context: &Context, known: &KnownRegion) -> Destination {
    Destination::of_region(context, known.registered.as_ref().map(|it| it.address.as_str()))
}

/// What has become of an instruction. Once the import has ended, that an instruction was carried out is no news.
pub(super) fn outcome(
    context: &Context,
    known: &KnownRegion,
    instruction: &Instruction,
    has_ended: bool,
) -> Markup {
    let (who, verb, asked) =
        (asker(instruction), verb(instruction.asked.kind), when(context, instruction.asked_at));
    let region = &instruction.asked.region;
    let destination = destination_of(context, known);
    match &instruction.answer {
        None if instruction.waits(context.now) => html! {
            p.note.warn role="status" {
                strong { "Waits for the region" } ": " (who) " asked to " (verb) " this import " (asked) ". "
                @if silent_since(known, context.now).is_some() {
                    "Region " (region) " is silent: it takes this if it reports within " (format::duration(HANDED_OUT_FOR))
                    " of that."
                } @else {
                    "Region " (region) " takes this with its next report, within a few seconds."
                }
            }
        },
        None => html! {
            p.note.bad role="status" {
                strong { "No answer" } ": " (who) " asked to " (verb) " this import " (asked) ", and region " (region)
                " has not answered within " (format::duration(HANDED_OUT_FOR)) ". Control does not ask it any more. Look whether the "
                "region runs, is of a release that takes instructions, and, if it has several processes, whether the one "
                "with the file of the import runs. Then ask again, or use the command below."
            }
        },
        Some(answered) => match &answered.refusal {
            None => html! {
                p.note.good[!has_ended] role=[(!has_ended).then_some("status")] {
                    @match instruction.asked.kind {
                        InstructionKind::Resume => { strong { "Resumed" } },
                        InstructionKind::Revert => { strong { "Revert begun" } },
                    }
                    " by region " (region) " " (when(context, answered.at)) ": " (who) " asked for it " (asked) "."
                }
            },
            Some(refusal) => html! {
                p.note.bad role="status" {
                    strong { "Refused" } ": " (who) " asked to " (verb) " this import " (asked) ", and region " (region)
                    " refused " (when(context, answered.at)) ": " (prose_at(&destination, &refusal.message)) " (" (refusal.reason) ")"
                }
            },
        },
    }
}

/// The first slugs of an import, and how many more organizations there are.
fn named(import: &ReportedImport) -> Markup {
    let (slugs, count) = (&import.details.slugs, import.organization_count);
    let more = count.saturating_sub(i64::try_from(slugs.len()).unwrap_or(i64::MAX));
    html! {
        @for (index, slug) in slugs.iter().enumerate() {
            @if index > 0 { ", " }
            strong { (slug) }
        }
        @if !slugs.is_empty() && more > 0 { " and " (format::number(more)) " more" }
    }
}

/// What will happen.
fn consequences(import: &ReportedImport, kind: InstructionKind) -> Markup {
    let inserted =
        import.details.models.iter().fold(0_i64, |sum, counts| sum.saturating_add(counts.inserted));
    let count = import.organization_count;
    html! {
        ul {
            @match kind {
                InstructionKind::Resume => {
                    @if is_paused(import) {
                        li { "The pause ends, and the import goes on where it was: it is "
                            (format::words(&import.state)) "." }
                    } @else {
                        li { "The import goes on in the state in which it failed. What it has written stays." }
                        li { "If the cause of its failure is still there, it fails again, and nothing is lost." }
                    }
                },
                InstructionKind::Revert => {
                    @if import.state == "FAILED" && inserted == 0 && count == 0 {
                        li { "It has inserted nothing. The revert puts it aside: it is no longer counted as failed." }
                    } @else { li {
                        @match (count, import.state.as_str()) {
                            (0, _) => "All that it has written so far is given up.",
                            (1, "SUCCEEDED") => "Its organization disappears at once, for its members too",
                            (_, "SUCCEEDED") => {
                                "Its " (format::number(count)) " organizations disappear at once, for their members too"
                            },
                            (1, _) => "Its organization, of which nothing is visible, is given up",
                            _ => {
                                "Its " (format::number(count)) " organizations, of which nothing is visible, are given up"
                            },
                        }
                        @if count > 0 {
                            @if !import.details.slugs.is_empty() { ": " (named(import)) }
                            "."
                        }
                    } }
                    @if count > 0 { li { "Slugs that it has reserved are released: others may take them." } }
                    li {
                        @if inserted > 0 { (format::number(inserted)) " rows that it has" }
                        @else { "The rows that it has" }
                        " inserted in the region and at control are deleted, unless something else needs them."
                    }
                    @if is_paused(import) {
                        li { "It is paused, and the revert begins paused: resume it then to have the rows deleted." }
                    } @else if !import.ended {
                        li { "It is " (format::words(&import.state)) " now, and stops that at once." }
                    }
                    li {
                        "This cannot be undone. Only the file brings it back, imported under a new id; slugs may be "
                        "taken by then."
                    }
                },
            }
            li { "The audit logs of control and of the region have who asked for it." }
        }
    }
}

/// What the form would do, and the form.
fn question(region: &str, import: &ReportedImport, kind: InstructionKind, form: &Asking) -> Markup {
    let id = import.import_id;
    html! {
        h2 { "What will happen" }
        (consequences(import, kind))
        form.action method="post" action=(path_of(region, id, kind)) {
            input type="hidden" name="token" value=(form.token);
            input type="hidden" name="instruction" value=(form.instruction);
            @match kind {
                InstructionKind::Resume => { button type="submit" { "Resume the import" } },
                InstructionKind::Revert => { button.danger type="submit" { "Revert the import" } },
            }
            a.button href=(path_of_import(region, id)) { "Do nothing" }
        }
        p {
            "Control cannot call a region. Region " (region) " takes this with its next report, within a few seconds; the page of "
            "the import shows what has become of it. The same as a command, at the region:"
        }
        p { (command(["causeway", "imports", verb(kind), &id.to_string(), "--region", &form.address])) }
    }
}

/// What the form of a question has.
struct Asking {
    instruction: Uuid,
    token: String,
    /// The URL of the region, for a command to paste.
    address: String,
}

/// The parts of the path.
struct Place {
    region: String,
    id: Uuid,
    kind: InstructionKind,
}

fn place(path: Result<Path<(String, String, String)>, PathRejection>) -> Result<Place, Failed> {
    let Path((region, id, action)) = path?;
    let id = Uuid::try_parse(&id).map_err(|_| Failed::bad("The id of an import is a UUID."))?;
    let kind = InstructionKind::named(&action)
        .ok_or_else(|| Failed::absent("An import can be resumed and reverted here, and nothing else."))?;
    Ok(Place { region, id, kind })
}

/// The import as its region has reported it.
pub(super) async fn reported(console: &Console, region: &str, id: Uuid) -> Result<ReportedImport, Failed> {
    console.control.reports().import(region, id).await?.ok_or_else(|| {
        Failed::absent(format!(
            "Region {region} has not reported an import {id}. It may be older than what control stores: `causeway \
             imports show {id}` asks the region."
        ))
    })
}

pub(crate) async fn ask(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Markup, Failed> {
    let Place { region, id, kind } = place(path)?;
    let known = console.control.regions().get(&region).await?;
    let import = reported(&console, &known.name, id).await?;
    let last = console.control.instructions().of_import(&known.name, id).await?.into_iter().next();
    let waiting = last.filter(|it| it.asked.kind == kind && it.waits(context.now));
    let instruction = console.env.uuid();
    let key = console.control.page_key();
    let form = Asking {
        instruction,
        token: token::make(key, &action(&region, id, kind, instruction), &context.who, context.now),
        address: known.registered.as_ref().map(|it| it.address.clone()).unwrap_or_default(),
    };
    let destination = destination_of(&context, &known);
    let title = match kind {
        InstructionKind::Resume => "Resume an import?",
        InstructionKind::Revert => "Revert an import?",
    };
    let main = html! {
        p.path { a href=(path_of_import(&region, id)) { "Import " (id) } }
        h1 { (title) }
        (facts(&[
            ("Import", html! { span.break { (id) } }),
            ("Region", html! { (known.name) }),
            ("State", state(&import)),
            ("Begun", html! { (at(import.created_at)) }),
            ("Size of the file", html! { (format::bytes(import.size_bytes)) }),
            ("Organizations", html! { (format::number(import.organization_count)) }),
        ]))
        @if let Some(waiting) = import.summary.waiting.as_ref().filter(|_| !import.ended) {
            p.note.warn { strong { "It waits" } ": " (prose_at(&destination, &waiting.message)) " (" (waiting.reason) ")" }
        }
        @if let Some(failure) = &import.summary.failure {
            p.note.bad { strong { "It failed" } ": " (prose_at(&destination, &failure.message)) " (" (failure.reason) ")" }
        }
        @if let Some(waiting) = waiting {
            (outcome(&context, &known, &waiting, import.ended))
        } @else if let Some(obstacle) = obstacle(&import, kind) {
            p.note.warn { (obstacle) }
        } @else if known.suspension.is_some() {
            (suspended(&context, &known.name))
        } @else {
            (question(&known.name, &import, kind, &form))
        }
    };
    Ok(still(&context, title, Section::Imports, &main))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Confirmed {
    #[serde(default)]
    token: String,
    #[serde(default)]
    instruction: String,
}

pub(crate) async fn instruct(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<(String, String, String)>, PathRejection>,
    form: Result<Form<Confirmed>, FormRejection>,
) -> Result<Redirect, Failed> {
    let place = place(path)?;
    about(Subject::import(place.id));
    act(&console, &context, &place, form).await?;
    // That page says what has become of the instruction.
    Ok(Redirect::to(&path_of_import(&place.region, place.id)))
}

async fn act(
    console: &Console,
    context: &Context,
    place: &Place,
    form: Result<Form<Confirmed>, FormRejection>,
) -> Result<(), Failed> {
    let Place { region, id, kind } = place;
    // The token is for one id, so each page that asks makes one instruction.
    let confirmed = check(console, form, |confirmed| {
        Uuid::try_parse(&confirmed.instruction).is_ok_and(|instruction| {
            let action = action(region, *id, *kind, instruction);
            token::is_valid(console.control.page_key(), &action, &context.who, &confirmed.token, context.now)
        })
    })?;
    let asked = ask_region(console, context, place, &confirmed.instruction).await;
    if let Err(failed) = &asked {
        console.control.audit().failed(&Call::current(), &failed.recorded());
    }
    asked
}

async fn ask_region(
    console: &Console,
    context: &Context,
    place: &Place,
    instruction: &str,
) -> Result<(), Failed> {
    let known = console.control.regions().get(&place.region).await?;
    reported(console, &known.name, place.id).await?;
    let new = NewInstruction {
        id: Uuid::try_parse(instruction).map_err(|_| Failed::bad("The id of an instruction is a UUID."))?,
        region: known.name,
        import_id: place.id,
        kind: place.kind,
        asked_by: context.who.clone(),
    };
    match console.control.instructions().ask(&new).await {
        Ok(Asked::Taken(_)) => Ok(()),
        Ok(Asked::TooMany) => Err(Failed::new(
            StatusCode::CONFLICT,
            "Nothing was done",
            format!(
                "Too many instructions wait for region {} already. Look whether it runs; each waits for {} at most.",
                new.region,
                format::duration(HANDED_OUT_FOR)
            ),
        )),
        Err(error) => Err(Status::from(error).into()),
    }
}
