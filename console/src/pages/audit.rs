//! The audit log of control: who changed what.

use axum::extract::{Query, State, rejection::QueryRejection};
use causeway_audit::{Entry, store::Filter};
use causeway_control::PageRequest;
use chrono::DateTime;
use maud::{Markup, html};
use serde::Deserialize;

use super::ROWS;
use crate::{
    Console,
    context::Context,
    failure::Failed,
    html::{Column, Section, Tone, at, badge, command, pager, query, still, table, text},
};

/// The longest caller and object to search for, in bytes.
const MAX_WHO: usize = 512;
const MAX_OBJECT: usize = 128;

const COLUMNS: [Column; 5] = [text("Time"), text("Who"), text("What"), text("About"), text("Outcome")];

/// A table of entries.
pub(crate) fn entries_table(caption: &str, entries: &[Entry]) -> Markup {
    let rows: Vec<Vec<Markup>> = entries
        .iter()
        .map(|it| {
            let call = it.call.rsplit_once('/').map_or(it.call.as_str(), |(_, call)| call);
            vec![
                at(it.time),
                html! {
                    @if it.who.is_empty() { "without identity" } @else { span.break { (it.who) } }
                    @if !it.address.is_empty() { span.sub { "from " (it.address) } }
                },
                html! { span title=(it.call) { (call) } },
                html! {
                    span.break { (it.object) }
                    @if let Some(id) = it.operation_id.filter(|_| !it.object.starts_with("operation/")) {
                        span.sub.break { "operation " (id) }
                    }
                },
                html! {
                    @if it.outcome == "OK" { (badge(Tone::Good, "done")) }
                    @else { (badge(Tone::Bad, "failed")) span.sub { (it.outcome) " " (it.reason) } }
                    @if it.left_out > 0 { span.sub { (it.left_out) " more failed before, without an entry" } }
                },
            ]
        })
        .collect();
    table(caption, &COLUMNS, &rows)
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    object: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    after: String,
}

pub(crate) async fn show(
    State(console): State<Console>,
    context: Context,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Markup, Failed> {
    let Query(asked) = asked?;
    let (object, who) = (asked.object.trim(), asked.who.trim());
    if object.len() > MAX_OBJECT || who.len() > MAX_WHO {
        return Err(Failed::bad("What is searched for is longer than anything in the log."));
    }
    let after = if asked.after.is_empty() {
        None
    } else {
        let position = asked.after.split_once(' ').and_then(|(micros, id)| {
            Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, id.parse().ok()?))
        });
        let position = position
            .ok_or_else(|| Failed::bad("The page of the list is not one that the console has linked."))?;
        Some(position)
    };
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let filter = Filter { who: named(who), object: named(object), ..Filter::default() };
    let request = PageRequest { limit: ROWS, after };
    let page = console.control.audit().entries(&filter, &request).await?;
    let link = |after: &str| format!("/audit?object={}&who={}{after}", query(object), query(who));
    let next = page
        .next
        .map(|(time, id)| link(&format!("&after={}", query(&format!("{} {id}", time.timestamp_micros())))));
    let main = html! {
        h1 { "Audit" }
        p.lead { "Who changed what at control, the newest first. Each region has a log of its own." }
        form.filter action="/audit" method="get" role="search" aria-label="Audit log" {
            label {
                "About " input type="text" name="object" value=(object) placeholder="organization/7" maxlength=(MAX_OBJECT)
                    autocomplete="off";
            }
            label { "Who " input type="text" name="who" value=(who) placeholder="spiffe://NAME/operator/alice" maxlength=(MAX_WHO) autocomplete="off"; }
            button type="submit" { "Show" }
        }
        @if page.items.is_empty() {
            p.empty { "The log has no such entry. Both fields want the whole name, as the table has it." }
        } @else {
            (entries_table("Entries, the newest first", &page.items))
        }
        (pager(&link(""), request.after.is_none(), next.as_deref()))
        p { "Check that nobody has changed the log: "
            (command(["causeway", "audit", "verify", "--control", &context.control_url]))
        }
    };
    Ok(still(&context, "Audit", Section::Audit, &main))
}
