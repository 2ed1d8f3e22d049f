//! Reservations that are stuck: neither confirmed nor released for long.

use std::collections::HashMap;

use axum::extract::{Query, State, rejection::QueryRejection};
use causeway_audit::store::Filter;
use causeway_control::{
    PageRequest,
    model::{lookup::StuckOperation, report::ReportedImport},
    slug::lookup::STUCK_AFTER,
};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{ROWS, imports::state, regions::silent_since};
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

/// How many entries of the audit log about an operation are looked at.
const ENTRIES: u16 = 20;

/// The import that an operation belongs to, if its region has reported that. The calls of an import have its id as that of
/// their request, which the audit log keeps.
pub(crate) async fn import_of(
    console: &Console,
    region: &str,
    operation_id: Uuid,
) -> Result<Option<ReportedImport>, Failed> {
    let filter = Filter { object: Some(format!("operation/{operation_id}")), ..Filter::default() };
    // An operator may have tried to release it since.
    let request = PageRequest { limit: ENTRIES, after: None };
    for entry in console.control.audit().entries(&filter, &request).await?.items {
        if let Some(import) = console.control.reports().import(region, entry.request_id).await? {
            return Ok(Some(import));
        }
    }
    Ok(None)
}

/// A link to the page of an import, and its state.
pub(crate) fn import_link(region: &str, import: &ReportedImport) -> Markup {
    let id = import.import_id.to_string();
    html! {
        a href={ "/imports/" (query(region)) "/" (id) } title=(id) { (id.split('-').next().unwrap_or_default()) "…" }
        " " (state(import))
    }
}

/// What happens when a silent region is back.
pub(crate) fn goes_on(context: &Context, region: &str, since: DateTime<Utc>) -> Markup {
    html! {
        "Region " (region) " is silent: it was last heard from " (when(context, since)) ". This goes on by itself when it is "
        "back; release only if it will not come back."
    }
}

/// A stuck operation, with what is known of its import and its region.
struct Shown {
    operation: StuckOperation,
    import: Option<ReportedImport>,
    silent_since: Option<DateTime<Utc>>,
}

/// Looks up the imports and regions of operations.
async fn looked_up(
    console: &Console,
    context: &Context,
    operations: Vec<StuckOperation>,
) -> Result<Vec<Shown>, Failed> {
    let (mut shown, mut silent) = (Vec::new(), HashMap::new());
    for operation in operations {
        if !silent.contains_key(&operation.region) {
            let since = match console.control.regions().get(&operation.region).await {
                Ok(known) => silent_since(&known, context.now),
                Err(error) => match Status::from(error) {
                    // The reservation may be of a region that control does not know any more.
                    status if status.code() == Code::NotFound => None,
                    status => return Err(status.into()),
                },
            };
            silent.insert(operation.region.clone(), since);
        }
        let import = match operation.renamed_from {
            Some(_) => None,
            None => import_of(console, &operation.region, operation.operation_id).await?,
        };
        let silent_since = silent.get(&operation.region).copied().flatten();
        shown.push(Shown { operation, import, silent_since });
    }
    Ok(shown)
}

/// A table of stuck operations.
fn stuck_table(context: &Context, operations: &[Shown]) -> Markup {
    let rows: Vec<Vec<Markup>> = operations
        .iter()
        .map(|Shown { operation: it, import, silent_since }| {
            let id = it.operation_id.to_string();
            vec![
                html! { span.break { (id) } },
                html! { (it.region) },
                html! {
                    (what(it))
                    @if let Some(import) = import { span.sub { "import " (import_link(&it.region, import)) } }
                    @if let Some(since) = silent_since { span.sub { (goes_on(context, &it.region, *since)) } }
                },
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
    let is_empty = page.items.is_empty();
    let shown = looked_up(&console, &context, page.items).await?;
    let main = html! {
        h1 { "Stuck" }
        p.lead {
            "Imports and renames that reserved slugs more than " (format::duration(STUCK_AFTER)) " ago, and whose region has neither confirmed nor "
            "released them. A newer rename is on the page of its organization. An import that waits keeps its "
            "reservations: look at the "
            a href="/imports?state=IN_PROGRESS" { "imports in progress" } " first."
        }
        @if is_empty {
            p.empty { "Nothing is stuck." }
        } @else {
            (stuck_table(&context, &shown))
        }
        (pager("/stuck", request.after.is_none(), next.as_deref()))
    };
    Ok(still(&context, "Stuck", Section::Stuck, &main))
}
