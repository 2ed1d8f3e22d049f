//! The regions: whether they are alive, how far they are behind, and their versions.

use std::collections::HashMap;

use axum::extract::{Query, State, rejection::QueryRejection};
use causeway_control::{
    PageRequest,
    model::{
        region::{KnownRegion, Region, SILENT_AFTER},
        report::RegionReport,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::ROWS;
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{Column, Section, Tone, badge, live, numeric, pager, query, table, text, when},
};

/// The end of a certificate is shown from this time before it on.
const CERTIFICATE_SOON: TimeDelta = TimeDelta::days(14);

/// Since when a region is silent; `None` if it is not, or has never registered.
pub(crate) fn silent_since(region: &KnownRegion, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let heard = region.registered.as_ref()?;
    let heard = heard.last_contact_at.unwrap_or(heard.last_seen_at);
    (now.signed_duration_since(heard) > SILENT_AFTER).then_some(heard)
}

/// Whether a region needs attention.
pub(crate) fn needs_attention(region: &KnownRegion, now: DateTime<Utc>) -> bool {
    region.suspension.is_some() || silent_since(region, now).is_some() || region.has_id_conflicts
}

/// The last reports of regions, by name.
pub(crate) async fn reports(console: &Console) -> Result<HashMap<String, RegionReport>, Failed> {
    let reports = console.control.reports().regions().await?;
    Ok(reports.into_iter().map(|report| (report.region.clone(), report)).collect())
}

/// All regions, sorted by name.
pub(crate) async fn all(console: &Console) -> Result<Vec<KnownRegion>, Failed> {
    let mut request = PageRequest { limit: 1_000, after: None };
    let mut all = Vec::new();
    loop {
        let page = console.control.regions().list(&request).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(all),
        }
    }
}

/// The URLs of regions that have registered, by name.
pub(crate) async fn addresses(console: &Console) -> Result<HashMap<String, String>, Failed> {
    Ok(addresses_of(&all(console).await?))
}

/// The same of these regions.
pub(crate) fn addresses_of(regions: &[KnownRegion]) -> HashMap<String, String> {
    let registered = regions.iter().filter_map(|region| region.registered.as_ref());
    registered.map(|it| (it.name.clone(), it.address.clone())).collect()
}

fn state(context: &Context, region: &KnownRegion) -> Markup {
    let silent = silent_since(region, context.now);
    html! {
        @if region.registered.is_none() {
            (badge(Tone::Plain, "never registered"))
        } @else if let Some(since) = silent {
            (badge(Tone::Bad, "silent"))
            " last heard from " (when(context, since))
        } @else {
            (badge(Tone::Good, "alive"))
        }
        @if let Some(suspension) = &region.suspension {
            " " (badge(Tone::Warn, "suspended"))
            " " (when(context, suspension.suspended_at))
            @if let Some(text) = &suspension.text { ": " (text) }
        }
        @if region.has_id_conflicts {
            " " (badge(Tone::Warn, "id conflicts"))
        }
    }
}

/// How far a region is behind its feed.
fn lag(region: &KnownRegion, report: Option<&RegionReport>) -> Markup {
    let (Some(version), Some(report)) = (region.feed_version, report) else { return html! {} };
    match version.saturating_sub(report.feed_version) {
        ..=0 => html! { "none" },
        1 => html! { "1 change" },
        behind => html! { (format::number(behind)) " changes" },
    }
}

fn certificate(context: &Context, registered: &Region) -> Markup {
    let Some(end) = registered.certificate_end else { return html! {} };
    let left = end.signed_duration_since(context.now);
    html! {
        @if left <= TimeDelta::zero() { (badge(Tone::Bad, "certificate ended")) " " (when(context, end)) }
        @else if left < CERTIFICATE_SOON { (badge(Tone::Warn, "certificate ends")) " " (when(context, end)) }
    }
}

const COLUMNS: [Column; 6] = [
    text("Region"),
    text("State"),
    numeric("Behind its feed"),
    text("Version"),
    text("Last report"),
    text("Address"),
];

/// A table of regions.
pub(crate) fn regions_table(
    context: &Context,
    regions: &[KnownRegion],
    reports: &HashMap<String, RegionReport>,
) -> Markup {
    let rows: Vec<Vec<Markup>> = regions
        .iter()
        .map(|region| {
            let report = reports.get(&region.name);
            vec![
                html! { a href={ "/imports?region=" (query(&region.name)) } { (region.name) } },
                html! {
                    (state(context, region))
                    @if let Some(registered) = &region.registered { " " (certificate(context, registered)) }
                },
                lag(region, report),
                html! { @if let Some(report) = report { (report.version) } @else { "unknown" } },
                html! { @if let Some(report) = report { (when(context, report.reported_at)) } @else { "none" } },
                html! { @if let Some(registered) = &region.registered { span.break { (registered.address) } } },
            ]
        })
        .collect();
    table("Regions", &COLUMNS, &rows)
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
    let request = PageRequest { limit: ROWS, after: Some(asked.after).filter(|after| !after.is_empty()) };
    let page = console.control.regions().list(&request).await?;
    let reports = reports(&console).await?;
    let next = page.next.map(|next| format!("/regions?after={}", query(&next)));
    let main = html! {
        h1 { "Regions" }
        p.lead {
            "A region that runs reads its feed all the time, and reports its imports every few seconds. Control cannot call a "
            "region: what is here is what the region has reported."
        }
        @if page.items.is_empty() {
            p.empty { "No region has been added or has registered. Start one with " code { "causeway region" } "." }
        } @else {
            (regions_table(&context, &page.items, &reports))
        }
        (pager("/regions", request.after.is_none(), next.as_deref()))
    };
    Ok(live(&context, "Regions", Section::Regions, main))
}
