//! Releases an operation: first a page that says what will happen, then the action.

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
    context::Context,
    failure::Failed,
    format,
    html::{Section, command, facts, query, still, when},
    token,
};

/// The path of the action, which its token is for.
fn path_of(region: &str, operation_id: Uuid) -> String {
    format!("/stuck/{}/{operation_id}/release", query(region))
}

fn operation_id(text: &str) -> Result<Uuid, Failed> {
    Uuid::try_parse(text).map_err(|_| Failed::bad("The id of an operation is a UUID."))
}

/// The rename of an operation, if it is one.
async fn rename_of(console: &Console, operation_id: Uuid) -> Result<Option<Rename>, Failed> {
    match console.control.renames().get(operation_id).await {
        Ok(rename) => Ok(Some(rename)),
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

pub(crate) async fn ask(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Markup, Failed> {
    let Path((region, id)) = path?;
    let id = operation_id(&id)?;
    let operation = console.control.slug_reservations().operation(&region, id).await?;
    let rename = rename_of(&console, id).await?;
    let is_over = match &rename {
        Some(rename) => rename.state != RenameState::Pending,
        None => !matches!(operation.progress, Progress::Reserving | Progress::Reserved | Progress::Releasing),
    };
    let action = path_of(&region, id);
    let token = token::make(&console.control, &action, &context.who, context.now);
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
        @if is_over {
            p.note.warn {
                @if rename.is_some() { "This rename is over: there is nothing to give up." }
                @else { "This operation is confirmed or released: there is nothing to release." }
            }
        } @else {
            h2 { "What will happen" }
            (consequences(&operation, rename.as_ref()))
            form.action method="post" action=(action) {
                input type="hidden" name="token" value=(token);
                button.danger type="submit" { @if rename.is_some() { "Give up the rename" } @else { "Release" } }
                a.button href="/stuck" { "Do nothing" }
            }
            p { "The same as a command: "
                (command(["causeway", "slugs", "release-operation", &id.to_string(), "--control", &context.control_url]))
            }
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
    let released = act(&console, &context, &region, id, form).await;
    released.map(|count| Redirect::to(&format!("/stuck?released={count}")))
}

async fn act(
    console: &Console,
    context: &Context,
    region: &str,
    id: Uuid,
    form: Result<Form<Confirmed>, FormRejection>,
) -> Result<i64, Failed> {
    about(Subject::operation(id));
    let confirmed = form.map(|Form(confirmed)| confirmed).map_err(Failed::from);
    let is_confirmed = confirmed.as_ref().is_ok_and(|confirmed| {
        let action = path_of(region, id);
        token::is_valid(&console.control, &action, &context.who, &confirmed.token, context.now)
    });
    if !is_confirmed {
        let failed = match confirmed {
            Err(failed) => failed,
            Ok(_) => Failed::new(
                StatusCode::FORBIDDEN,
                "Nothing was done",
                "The page that asked is too old, or is not one of this console. Open it again, and confirm there."
                    .to_owned(),
            ),
        };
        console.control.audit().failed(&Call::current(), &failed.recorded());
        return Err(failed);
    }
    match console.control.slug_reservations().release_stuck(region, id).await {
        Ok(count) => Ok(count),
        Err(error) => {
            let status = Status::from(error);
            console.control.audit().failed(&Call::current(), &status);
            Err(status.into())
        }
    }
}
