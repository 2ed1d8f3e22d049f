//! Releases an operation: first a page that says what will happen, then the action.

use axum::{
    Form,
    extract::{
        Path, State,
        rejection::{FormRejection, PathRejection},
    },
    response::Redirect,
};
use causeway_audit::{Call, Subject, about};
use causeway_control::model::{
    operation::{OperationSummary, Progress},
    rename::{Rename, RenameState},
};
use maud::{Markup, html};
use serde::Deserialize;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    Console,
    confirmed::check,
    context::Context,
    failure::Failed,
    format,
    html::{Destination, Section, command, facts, prose_at, query, still, when},
    token,
};

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

/// What became of an operation that is over; `None` if it can be released.
fn outcome(context: &Context, operation: &OperationSummary, rename: Option<&Rename>) -> Option<Markup> {
    let released = operation.released_count;
    Some(match rename.map(|rename| &rename.state) {
        Some(RenameState::Pending) => return None,
        Some(RenameState::Confirmed) => html! {
            p.note.warn { "This rename is over: its region has done it. There is nothing to give up." }
        },
        Some(RenameState::Refused(refusal)) => html! {
            p.note.good role="status" { "This rename is over: " (prose_at(&Destination::of_control(&context.control_url), &refusal.message)) "." }
        },
        None => match operation.progress {
            Progress::Reserving | Progress::Reserved | Progress::Releasing => return None,
            Progress::Confirming | Progress::Confirmed => html! {
                p.note.warn { "This operation is confirmed: there is nothing to release." }
            },
            Progress::Released => html! {
                p.note.good role="status" {
                    "This operation is released: "
                    @if released == 1 { "1 slug was freed." }
                    @else { (format::number(released)) " slugs were freed." }
                }
            },
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
    let title = if rename.is_some() { "Give up a rename?" } else { "Release reserved slugs?" };
    let main = html! {
        p.path { a href="/stuck" { "Stuck" } }
        h1 { (title) }
        (facts(&[
            ("Operation", html! { span.break { (id) } }),
            ("Region", html! { (operation.region) }),
            ("Begun", when(&context, operation.created_at)),
            ("Slugs", html! { (format::number(operation.organization_count)) }),
        ]))
        @if let Some(outcome) = outcome(&context, &operation, rename) {
            (outcome)
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
