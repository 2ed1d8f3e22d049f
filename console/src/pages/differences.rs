//! How the regions differ from control, by their last comparisons.

use axum::extract::{Query, State, rejection::QueryRejection};
use causeway_control::{
    PageRequest,
    model::report::{Comparison, ReportedDifference},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::regions;
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{
        Column, Destination, Section, Tone, badge, command, live, pager, prose_at, query, table, text, when,
    },
};

/// How many regions a page has. Each may have 100 differences.
const REGIONS: u16 = 10;

const COLUMNS: [Column; 4] = [text("Difference"), text("Organization"), text("What"), text("What to do")];

fn difference(to: &Destination, it: &ReportedDifference) -> Vec<Markup> {
    vec![
        html! { (format::words(&it.kind)) @if it.repaired { " " (badge(Tone::Good, "repaired")) } },
        html! { a href={ "/organizations/" (it.organization_id) } { (it.organization_id) } },
        prose_at(to, &it.message),
        prose_at(to, &it.remedy),
    ]
}

fn comparison(context: &Context, it: &Comparison, address: Option<&str>) -> Markup {
    let left = it.difference_count.saturating_sub(it.repaired_count);
    let to = Destination::of_region(context, address);
    let rows: Vec<Vec<Markup>> = it.differences.iter().map(|it| difference(&to, it)).collect();
    let shown = i64::try_from(it.differences.len()).unwrap_or(i64::MAX);
    html! {
        section {
            h2 {
                (it.region) " "
                @if left > 0 { (badge(Tone::Warn, &format!("{} left", format::number(left)))) }
                @else { (badge(Tone::Good, "agrees")) }
            }
            p {
                "Compared " (when(context, it.compared_at)) ", by the clock of the region: "
                (format::number(it.compared)) " organizations, " (format::number(it.difference_count)) " differences, "
                (format::number(it.repaired_count)) " of them repaired"
                @if it.moving_count > 0 {
                    ", " (format::number(it.moving_count)) " organizations that changed all the time"
                }
                "."
            }
            @if !rows.is_empty() {
                (table(&format!("Differences of {}", it.region), &COLUMNS, &rows))
            }
            @if it.difference_count > shown {
                p { "The first " (format::number(shown)) " are shown. The command below shows all." }
            }
            @if let Some(address) = address {
                dl.commands {
                    dt { "Compare again, and change nothing" }
                    dd { (command(["causeway", "reconcile", "--check", "--region", address])) }
                    @if left > 0 {
                        dt { "Repair what can be repaired, also what loses something" }
                        dd { (command(["causeway", "reconcile", "--repair", "--region", address])) }
                    }
                }
            }
        }
    }
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
    let request = PageRequest { limit: REGIONS, after: Some(asked.after).filter(|after| !after.is_empty()) };
    let page = console.control.reports().comparisons(&request).await?;
    let next = page.next.map(|next| format!("/differences?after={}", query(&next)));
    let addresses = regions::addresses(&console).await?;
    let main = html! {
        h1 { "Differences" }
        p.lead {
            "Each region compares its organizations with control every hour, repairs what loses nothing, and leaves "
            "the rest to people."
        }
        @if page.items.is_empty() {
            p.empty { "No region has reported a comparison." }
        }
        @for it in &page.items {
            (comparison(&context, it, addresses.get(&it.region).map(String::as_str)))
        }
        (pager("/differences", request.after.is_none(), next.as_deref()))
    };
    Ok(live(&context, "Differences", Section::Differences, main))
}
