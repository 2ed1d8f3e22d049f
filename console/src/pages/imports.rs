//! The imports of all regions, the newest first.

use std::collections::HashMap;

use axum::extract::{Query, State, rejection::QueryRejection};
use causeway_control::{
    PageRequest,
    model::report::{
        ImportFilter, ImportPosition, RegionReport, ReportedImport, ReportedProgress, ReportedThrottle,
    },
};
use causeway_proto::{failure::reason_name, relocation::v1::ErrorReason};
use causeway_proto::{region::v1::ThrottleKind, throttle::held};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::{ROWS, regions};
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{
        Column, Destination, Section, Tone, badge, live, numeric, pager, progress, prose_at, query, table,
        text, when,
    },
};

/// A region reports every 5 seconds or so. What is older than this is marked.
const OLD_AFTER: TimeDelta = TimeDelta::seconds(40);

/// What a visitor may ask for besides states: imports that have not ended, and dry runs that failed.
const IN_PROGRESS: &str = "IN_PROGRESS";
const FAILED_DRY_RUN: &str = "FAILED_DRY_RUN";
/// The state in which a visitor gets imports that are no dry runs.
const FAILED: &str = "FAILED";

/// The states that the form offers.
const STATES: [&str; 10] = [
    "PLANNING",
    "CHECKING",
    "WRITING",
    "RESOLVING_SLUGS",
    "FINISHING",
    "SUCCEEDED",
    "PLANNED",
    "FAILED",
    "REVERTING",
    "REVERTED",
];

/// Whether an import is paused.
pub(super) fn is_paused(import: &ReportedImport) -> bool {
    let paused = reason_name(ErrorReason::ImportPaused);
    !import.ended && import.summary.waiting.as_ref().is_some_and(|waiting| waiting.reason == paused)
}

/// The state of an import, in a colour.
pub(crate) fn state(import: &ReportedImport) -> Markup {
    let tone = match import.state.as_str() {
        "SUCCEEDED" | "PLANNED" => Tone::Good,
        "FAILED" => Tone::Bad,
        "REVERTED" => Tone::Plain,
        _ if import.summary.waiting.is_some() => Tone::Warn,
        _ if import.ended => Tone::Plain,
        _ => Tone::Busy,
    };
    html! {
        (badge(tone, &format::words(&import.state)))
        @if import.dry_run { " " (badge(Tone::Plain, "dry run")) }
        @if import.summary.waiting.is_some() && !import.ended { " " (badge(Tone::Warn, if is_paused(import) { "paused" } else { "waits" })) }
    }
}

/// How far an import is in its state, and how fast.
pub(crate) fn how_far(import: &ReportedImport) -> Markup {
    let Some(now) = import.summary.progress.as_ref().filter(|_| !import.ended) else {
        return html! {};
    };
    let ReportedProgress { model, records_done, records_total, bytes_done, rate, throttled } = now;
    let by_bytes = *bytes_done > 0 && *records_total == 0;
    let counted = if import.state == "REVERTING" { " rows" } else { " records" };
    html! {
        @if by_bytes {
            (progress(*bytes_done, import.size_bytes, "Read of the file"))
            span.sub { (format::bytes(*bytes_done)) " of " (format::bytes(import.size_bytes)) }
        } @else if *records_total > 0 {
            (progress(*records_done, *records_total, "Records"))
            span.sub {
                (format::number(*records_done)) " of " (format::number(*records_total)) (counted)
                @if !model.is_empty() { ", " (model) }
            }
        } @else if *records_done > 0 {
            span.sub { (format::number(*records_done)) (counted) }
        }
        @if *rate > 0 {
            span.sub {
                @if by_bytes { (format::bytes(*rate)) } @else { (format::number(*rate)) (counted) }
                " a second"
                @if let Some(left) = left(now, import.size_bytes) { ", about " (left) " left in this step" }
            }
        }
        @if let Some(throttled) = throttled { span.sub { (held_back(throttled)) } }
    }
}

/// What holds an import back, as `causeway imports watch` says it.
fn held_back(throttled: &ReportedThrottle) -> String {
    let kind = ThrottleKind::from_str_name(&format!("THROTTLE_KIND_{}", throttled.kind));
    held(kind.unwrap_or_default(), throttled.limit, throttled.write_percent)
}

/// How long the current step takes at this rate. `None` if it is not known how much there is to do.
fn left(now: &ReportedProgress, size: i64) -> Option<String> {
    let rest = match now {
        now if now.records_total > 0 => now.records_total.checked_sub(now.records_done)?,
        now if now.bytes_done > 0 => size.checked_sub(now.bytes_done)?,
        _ => return None,
    };
    let seconds = rest.checked_div(now.rate)?;
    (seconds > 0).then(|| format::duration(TimeDelta::seconds(seconds.min(10_000_000))))
}

/// When a region reported what is shown of it, if that was long ago.
pub(crate) fn age(context: &Context, reported: Option<DateTime<Utc>>) -> Markup {
    match reported {
        Some(at) if context.now.signed_duration_since(at) > OLD_AFTER => html! {
            (badge(Tone::Warn, "old")) " reported " (when(context, at))
        },
        _ => html! {},
    }
}

const COLUMNS: [Column; 7] = [
    text("Import"),
    text("Region"),
    text("State"),
    text("Progress"),
    numeric("Organizations"),
    numeric("Size"),
    text("Begun"),
];

/// A table of imports, each with its region. `addresses` are those of regions, by name.
pub(crate) fn imports_table(
    context: &Context,
    caption: &str,
    imports: &[(String, ReportedImport)],
    reports: &HashMap<String, RegionReport>,
    addresses: &HashMap<String, String>,
) -> Markup {
    let rows: Vec<Vec<Markup>> = imports
        .iter()
        .map(|(region, import)| {
            let id = import.import_id.to_string();
            let short = id.split('-').next().unwrap_or_default();
            let reported = reports.get(region).map(|report| report.reported_at);
            let to = Destination::of_region(context, addresses.get(region).map(String::as_str));
            vec![
                html! { a href={ "/imports/" (query(region)) "/" (id) } title=(id) { (short) "…" } },
                html! { (region) },
                html! {
                    (state(import))
                    @if !import.ended { " " (age(context, reported)) }
                },
                html! {
                    (how_far(import))
                    @if let Some(waiting) = import.summary.waiting.as_ref().filter(|_| !import.ended) {
                        span.sub { "waits: " (prose_at(&to, &waiting.message)) }
                    }
                    @if let Some(failure) = &import.summary.failure {
                        span.sub { (prose_at(&to, &beginning(&failure.message))) }
                    }
                },
                html! { (format::number(import.organization_count)) },
                html! { (format::bytes(import.size_bytes)) },
                when(context, import.created_at),
            ]
        })
        .collect();
    table(caption, &COLUMNS, &rows)
}

/// The beginning of a message, for a row of a table. What is in backticks is whole or left out: half of a command would be of no use.
fn beginning(message: &str) -> String {
    const MOST: usize = 160;
    let Some((end, _)) = message.char_indices().nth(MOST) else { return message.to_owned() };
    let mut begin = message.get(..end).unwrap_or_default();
    let quoted = begin.matches('`').count() % 2 == 1;
    if let Some(open) = begin.rfind('`').filter(|_| quoted) {
        begin = begin.get(..open).unwrap_or_default();
    }
    format!("{}…", begin.trim_end())
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    region: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    after: String,
}

/// The place in the list that a link names: time in microseconds, region, id.
fn position(after: &str) -> Result<Option<ImportPosition>, Failed> {
    if after.is_empty() {
        return Ok(None);
    }
    let parsed = || {
        let mut parts = after.splitn(3, ' ');
        let created_at = DateTime::from_timestamp_micros(parts.next()?.parse().ok()?)?;
        let region = parts.next().filter(|region| causeway_silo::region_name::is_valid(region))?.to_owned();
        let import_id = Uuid::try_parse(parts.next()?).ok()?;
        Some(ImportPosition { created_at, region, import_id })
    };
    parsed()
        .map(Some)
        .ok_or_else(|| Failed::bad("The page of the list is not one that the console has linked."))
}

fn link(asked: &Asked, next: Option<&ImportPosition>) -> String {
    let after = next.map(|next| {
        let ImportPosition { created_at, region, import_id } = next;
        format!("&after={}", query(&format!("{} {region} {import_id}", created_at.timestamp_micros())))
    });
    let (region, state) = (query(&asked.region), query(&asked.state));
    format!("/imports?region={region}&state={state}{}", after.unwrap_or_default())
}

pub(crate) async fn show(
    State(console): State<Console>,
    context: Context,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Markup, Failed> {
    let Query(asked) = asked?;
    let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let (state, dry_run) = match asked.state.as_str() {
        "" | IN_PROGRESS => (None, None),
        FAILED => (Some(FAILED), Some(false)),
        FAILED_DRY_RUN => (Some(FAILED), Some(true)),
        state => (Some(state), None),
    };
    let filter = ImportFilter {
        region: named(&asked.region),
        state: state.map(str::to_owned),
        in_progress: asked.state == IN_PROGRESS,
        dry_run,
    };
    let request = PageRequest { limit: ROWS, after: position(&asked.after)? };
    let page = console.control.reports().imports(&filter, &request).await?;
    let reports = regions::reports(&console).await?;
    let addresses = regions::addresses(&console).await?;
    let next = page.next.as_ref().map(|next| link(&asked, Some(next)));
    let is_known = ["", IN_PROGRESS, FAILED_DRY_RUN].contains(&asked.state.as_str())
        || STATES.contains(&asked.state.as_str());
    let list = html! {
        @if page.items.is_empty() {
            p.empty {
                @if is_known { "No region has reported such an import." }
                @else {
                    "No region has reported an import in the state “" (asked.state) "”, and this release knows no such state."
                }
            }
        } @else {
            (imports_table(&context, "Imports, the newest first", &page.items, &reports, &addresses))
        }
        (pager(&link(&asked, None), request.after.is_none(), next.as_deref()))
    };
    let main = html! {
        h1 { "Imports" }
        p.lead {
            "Of each region, the last 1,000 imports as the region reported them, seconds ago while it runs. Imports that "
            "ended more than 30 days ago are shown by " code { "causeway imports list --region URL" } "."
        }
        form.filter action="/imports" method="get" role="search" aria-label="Imports" {
            label { "Region " input type="text" name="region" value=(asked.region) maxlength="32" autocomplete="off"; }
            label {
                "State "
                select name="state" {
                    option value="" selected[asked.state.is_empty()] { "all" }
                    option value=(IN_PROGRESS) selected[asked.state == IN_PROGRESS] { "in progress" }
                    option value=(FAILED_DRY_RUN) selected[asked.state == FAILED_DRY_RUN] { "failed dry run" }
                    @if !is_known { option value=(asked.state) selected { (asked.state) } }
                    @for state in STATES {
                        option value=(state) selected[asked.state == state] { (format::words(state)) }
                    }
                }
            }
            button type="submit" { "Show" }
        }
        (list)
    };
    Ok(live(&context, "Imports", Section::Imports, main))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_message_has_no_half_of_a_command() {
        let before = "x".repeat(150);
        assert_eq!(beginning(&format!("{before} `causeway imports list` says more")), format!("{before}…"));
        let whole = format!("`slug` {}", "y".repeat(200));
        assert_eq!(beginning(&whole), format!("`slug` {}…", "y".repeat(153)));
        assert_eq!(beginning(&before), before);
    }

    #[test]
    fn the_time_that_is_left_is_no_guess_from_something_else() {
        let left_of = |records_done, records_total, bytes_done| {
            let now =
                ReportedProgress { records_done, records_total, bytes_done, rate: 10, ..Default::default() };
            left(&now, 2_000)
        };
        assert_eq!(left_of(100, 300, 0).as_deref(), Some("20 s"));
        assert_eq!(left_of(5, 0, 1_000).as_deref(), Some("1 min 40 s"));
        // A revert of a region that does not say how many rows there are.
        assert_eq!(left_of(100, 0, 0), None);
    }
}
