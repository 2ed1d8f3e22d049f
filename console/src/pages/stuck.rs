//! Reservations that are stuck: neither confirmed nor released for long.

use axum::extract::{Query, State, rejection::QueryRejection};
use causeway_control::{PageRequest, model::lookup::StuckOperation};
use chrono::DateTime;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::ROWS;
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{Column, Section, pager, query, still, table, text, when},
};

/// What a stuck operation is.
pub(crate) fn what(operation: &StuckOperation) -> Markup {
    let StuckOperation { slug, organization_id, renamed_from, count, .. } = operation;
    html! {
        @if let Some(from) = renamed_from {
            "rename of organization " a href={ "/organizations/" (organization_id) } { (organization_id) }
            " from " strong { (from) } " to " strong { (slug) }
        } @else {
            strong { (slug) }
            @if *count > 1 { " and " (format::number(count - 1)) " more" }
            " for organization " a href={ "/organizations/" (organization_id) } { (organization_id) }
            @if *count > 1 { " and others" }
        }
    }
}

const COLUMNS: [Column; 5] =
    [text("Operation"), text("Region"), text("What it has reserved"), text("Since"), text("Action")];

/// A table of stuck operations.
pub(crate) fn stuck_table(context: &Context, operations: &[StuckOperation]) -> Markup {
    let rows: Vec<Vec<Markup>> = operations
        .iter()
        .map(|it| {
            let id = it.operation_id.to_string();
            vec![
                html! { span.break { (id) } },
                html! { (it.region) },
                what(it),
                when(context, it.since),
                html! {
                    a.button href={ "/stuck/" (query(&it.region)) "/" (id) "/release" }
                        aria-label={ "Release operation " (id) } { "Release…" }
                },
            ]
        })
        .collect();
    table("Stuck operations, the oldest first", &COLUMNS, &rows)
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    after: String,
}

pub(crate) async fn show(
    State(console): State<Console>,
    context: Context,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Markup, Failed> {
    let Query(asked) = asked?;
    let after = match asked.after.split_once(' ') {
        None if asked.after.is_empty() => None,
        Some((micros, id)) => {
            let position =
                micros.parse().ok().and_then(DateTime::from_timestamp_micros).zip(Uuid::try_parse(id).ok());
            Some(
                position.ok_or_else(|| {
                    Failed::bad("The page of the list is not one that the console has linked.")
                })?,
            )
        }
        None => return Err(Failed::bad("The page of the list is not one that the console has linked.")),
    };
    let request = PageRequest { limit: ROWS, after };
    let page = console.control.slug_reservations().stuck(&request).await?;
    let next = page
        .next
        .map(|(since, id)| format!("/stuck?after={}", query(&format!("{} {id}", since.timestamp_micros()))));
    let main = html! {
        h1 { "Stuck" }
        p.lead {
            "Imports and renames that reserved slugs more than 10 minutes ago, and whose region has neither confirmed nor "
            "released them. A newer rename is on the page of its organization. An import that waits keeps its "
            "reservations: look at the "
            a href="/imports?state=IN_PROGRESS" { "imports in progress" } " first."
        }
        @if page.items.is_empty() {
            p.empty { "Nothing is stuck." }
        } @else {
            (stuck_table(&context, &page.items))
        }
        (pager("/stuck", request.after.is_none(), next.as_deref()))
    };
    Ok(still(&context, "Stuck", Section::Stuck, &main))
}
