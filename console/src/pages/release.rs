//! Releases an operation: first a page that says what will happen, then the action.

use axum::{
    Form,
    extract::{
        Path, State,
        rejection::{FormRejection, PathRejection},
    },
    response::Redirect,
};
use causeway_audit::{Call, Subject, about, store::Filter};
use causeway_control::{
    PageRequest,
    model::{
        operation::{OperationSummary, Progress},
        rename::{Rename, RenameState},
    },
};
use causeway_proto::relocation::v1::ErrorReason;
use maud::{Markup, html};
use serde::Deserialize;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{
    regions::silent_since,
    stuck::{goes_on, import_link, import_of},
};
use crate::{
    Console,
    confirmed::check,
    context::Context,
    failure::Failed,
    format,
    html::{Destination, Section, command, facts, prose_at, query, still, when},
    token,
};

/// How many entries of the audit log are looked through for the release of an operation, which is among the last.
const ENTRIES: u16 = 20;

/// The path of the action, which its token is for.
fn path_of(region: &str, operation_id: Uuid) -> String {
    format!("/stuck/{}/{operation_id}/release", query(region))
}

fn operation_id(text: &str) -> Result<Uuid, Failed> {
    Uuid::try_parse(text).map_err(|_| Failed::bad("The id of an operation is a UUID."))
}

/// The rename of an operation, if it is one. An operation of another region may have the same id.
async fn rename_of(console: &Console, operation: &OperationSummary) -> Result<Option<Rename>, Failed> {
    match console.control.renames().get(operation.operation_id).await {
        Ok(rename) => Ok(Some(rename).filter(|rename| rename.region == operation.region)),
        Err(error) => match Status::from(error) {
            status if status.code() == Code::NotFound => Ok(None),
            status => Err(status.into()),
        },
    }
}

/// What the release will do.
fn consequences(operation: &OperationSummary, rename: Option<&Rename>) -> Markup {
    html! {
        ul {
            @if let Some(Rename { slug, previous_slug, organization_id, .. }) = rename {
                li {
                    "The rename of organization " (organization_id) " from " strong { (previous_slug) } " to "
                    strong { (slug) } " is given up. The organization keeps " strong { (previous_slug) } "."
                }
                li { "If its region has done the rename already, it takes it back when it hears of the release." }
                li { strong { (slug) } " is free for others at once." }
            } @else {
                li {
                    @if operation.organization_count == 1 { "The slug" }
                    @else { (format::number(operation.organization_count)) " slugs" }
                    " that region " (operation.region) " has reserved "
                    @if operation.organization_count == 1 { "is" } @else { "are" }
                    " free for others at once."
                }
                li {
                    "If an import of the region still works on them, it notices that and asks for its slugs again. It may get "
                    "others."
                }
            }
            li { "This cannot be undone. The audit log has who did it." }
        }
    }
}

/// Who has released an operation, as the audit log of control has it; `None` if it has nothing about that, or does not say
/// who.
pub(super) async fn released_by(console: &Console, operation_id: Uuid) -> Result<Option<String>, Failed> {
    let filter = Filter { object: Some(format!("operation/{operation_id}")), ..Filter::default() };
    let request = PageRequest { limit: ENTRIES, after: None };
    let entries = console.control.audit().entries(&filter, &request).await?.items;
    let released = entries.into_iter().find(|entry| entry.outcome == "OK" && is_release(&entry.call));
    Ok(released.map(|entry| entry.who).filter(|who| !who.is_empty()))
}

/// Whether a call of the audit log is a release, by the console or by the command.
fn is_release(call: &str) -> bool {
    matches!(
        call.rsplit('/').next(),
        Some(
            "release-operation"
                | "ReleaseOrganizationSlugReservations"
                | "ReleaseOrganizationSlugReservation"
        )
    )
}

/// What became of an operation that is over, as a heading and a text; `None` if it can be released. `by` is who has
/// released it.
fn outcome(
    context: &Context,
    operation: &OperationSummary,
    rename: Option<&Rename>,
    by: Option<&str>,
) -> Option<(&'static str, Markup)> {
    let released = operation.released_count;
    let by = html! { @if let Some(who) = by { " by " (who) } };
    let to = Destination::of_control(&context.control_url);
    Some(match rename.map(|rename| &rename.state) {
        Some(RenameState::Pending) => return None,
        Some(RenameState::Confirmed) => (
            "Done by its region",
            html! { p.note.warn { "This rename is over: its region has done it. There is nothing to give up." } },
        ),
        Some(RenameState::Refused(refusal)) if refusal.reason == ErrorReason::OperationReleased => (
            "Given up",
            html! { p.note.good role="status" { "This rename was given up" (by) ": " (prose_at(&to, &refusal.message)) "." } },
        ),
        Some(RenameState::Refused(refusal)) => (
            "Refused by its region",
            html! { p.note.warn { "This rename is over: " (prose_at(&to, &refusal.message)) "." } },
        ),
        None => match operation.progress {
            Progress::Reserving | Progress::Reserved | Progress::Releasing => return None,
            Progress::Confirming | Progress::Confirmed => (
                "Confirmed",
                html! { p.note.warn { "This operation is confirmed: there is nothing to release." } },
            ),
            Progress::Released => (
                "Released",
                html! {
                    p.note.good role="status" {
                        "This operation is released" (by) ": "
                        @if released == 1 { "1 slug was freed." }
                        @else { (format::number(released)) " slugs were freed." }
                    }
                },
            ),
        },
    })
}

/// What the form would do, and the form; or what must be done before.
fn question(context: &Context, operation: &OperationSummary, rename: Option<&Rename>, token: &str) -> Markup {
    let id = operation.operation_id.to_string();
    html! {
        h2 { "What will happen" }
        (consequences(operation, rename))
        form.action method="post" action=(path_of(&operation.region, operation.operation_id)) {
            input type="hidden" name="token" value=(token);
            button.danger type="submit" { @if rename.is_some() { "Give up the rename" } @else { "Release" } }
            a.button href="/stuck" { "Do nothing" }
        }
        p { "The same as a command: "
            (command(["causeway", "slugs", "release-operation", &id, "--control", &context.control_url]))
        }
    }
}

/// Control changes nothing for a region that is suspended.
pub(super) fn suspended(context: &Context, region: &str) -> Markup {
    html! {
        p.note.warn {
            "Region " (region) " is suspended, and control changes nothing for it. Resume it first, if the cause is "
            "gone, and load this page again:"
        }
        p { (command(["causeway", "regions", "resume", region, "--control", &context.control_url])) }
    }
}

pub(crate) async fn ask(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Markup, Failed> {
    let Path((region, id)) = path?;
    let id = operation_id(&id)?;
    let known = console.control.regions().get(&region).await?;
    let operation = console.control.slug_reservations().operation(&known.name, id).await?;
    let rename = rename_of(&console, &operation).await?;
    let rename = rename.as_ref();
    let token = token::make(console.control.page_key(), &path_of(&region, id), &context.who, context.now);
    let by = released_by(&console, id).await?;
    let over = outcome(&context, &operation, rename, by.as_deref());
    let title = match (&over, rename) {
        (Some((title, _)), _) => title,
        (None, Some(_)) => "Give up a rename?",
        (None, None) => "Release reserved slugs?",
    };
    let import = match (rename, &over) {
        (None, None) => import_of(&console, &known.name, id).await?,
        _ => None,
    };
    let silent = silent_since(&known, context.now);
    let main = html! {
        p.path { a href="/stuck" { "Stuck" } }
        h1 { (title) }
        (facts(&[
            ("Operation", html! { span.break { (id) } }),
            ("Region", html! { (operation.region) }),
            ("Begun", when(&context, operation.created_at)),
            ("Slugs", html! { (format::number(operation.organization_count)) }),
        ]))
        @if let Some(import) = &import {
            p { "It is of the import " (import_link(&known.name, import)) "." }
        }
        @if let Some(since) = silent.filter(|_| over.is_none()) { p { (goes_on(&context, &known.name, since)) } }
        @if let Some((_, text)) = over {
            (text)
        } @else if known.suspension.is_some() {
            (suspended(&context, &known.name))
        } @else {
            (question(&context, &operation, rename, &token))
        }
    };
    Ok(still(&context, title, Section::Stuck, &main))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Confirmed {
    #[serde(default)]
    token: String,
}

pub(crate) async fn release(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<(String, String)>, PathRejection>,
    form: Result<Form<Confirmed>, FormRejection>,
) -> Result<Redirect, Failed> {
    let Path((region, id)) = path?;
    let id = operation_id(&id)?;
    act(&console, &context, &region, id, form).await?;
    // That page says what has become of the operation.
    Ok(Redirect::to(&path_of(&region, id)))
}

async fn act(
    console: &Console,
    context: &Context,
    region: &str,
    id: Uuid,
    form: Result<Form<Confirmed>, FormRejection>,
) -> Result<(), Failed> {
    about(Subject::operation(id));
    check(console, form, |confirmed| {
        let action = path_of(region, id);
        token::is_valid(console.control.page_key(), &action, &context.who, &confirmed.token, context.now)
    })?;
    match console.control.slug_reservations().release_stuck(region, id).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let status = Status::from(error);
            console.control.audit().failed(&Call::current(), &status);
            Err(status.into())
        }
    }
}
