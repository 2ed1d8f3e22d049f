//! What needs attention, and what is in progress.

use axum::extract::State;
use causeway_control::{PageRequest, model::report::ImportFilter};
use maud::{Markup, html};

use super::{
    ROWS,
    imports::imports_table,
    regions::{self, addresses_of, needs_attention, regions_table},
};
use crate::{
    Console,
    context::Context,
    failure::Failed,
    format,
    html::{Section, live},
};

/// How many imports and stuck operations are looked at.
const LOOKED_AT: u16 = 100;
/// How many imports are shown.
const SHOWN: u16 = 20;

/// A number with a link to its page. `names` are what one is called, and what others are.
fn tile(href: &str, names: (&str, &str), count: usize, more: bool, bad: bool) -> Markup {
    html! {
        li {
            a.tile.alert[bad && count > 0] href=(href) {
                span.figure {
                    (format::number(i64::try_from(count).unwrap_or(i64::MAX))) @if more { "+" }
                }
                span { @if count == 1 && !more { (names.0) } @else { (names.1) } }
            }
        }
    }
}

pub(crate) async fn show(State(console): State<Console>, context: Context) -> Result<Markup, Failed> {
    let (control, look) = (&console.control, PageRequest { limit: LOOKED_AT, after: None });
    let all = regions::all(&console).await?;
    let reports = regions::reports(&console).await?;
    let running = ImportFilter { in_progress: true, ..ImportFilter::default() };
    // A dry run that fails has done what it is for.
    let failed =
        ImportFilter { state: Some("FAILED".to_owned()), dry_run: Some(false), ..ImportFilter::default() };
    let count = PageRequest { limit: LOOKED_AT, after: None };
    let running = control.reports().imports(&running, &count).await?;
    let failed = control.reports().imports(&failed, &count).await?;
    let shown = PageRequest { limit: SHOWN, after: None };
    let newest = control.reports().imports(&ImportFilter::default(), &shown).await?;
    let stuck = control.slug_reservations().stuck(&look).await?;
    let differing = control.reports().differing().await?;
    let mut attention: Vec<_> =
        all.iter().filter(|region| needs_attention(region, context.now)).cloned().collect();
    let attention_count = attention.len();
    attention.truncate(usize::from(ROWS));
    let main = html! {
        h1 { "Overview" }
        ul.tiles {
            (tile("/regions", ("region", "regions"), all.len(), false, false))
            (tile("/regions", ("region that needs attention", "regions that need attention"), attention_count, false, true))
            (tile("/imports?state=IN_PROGRESS", ("import in progress", "imports in progress"), running.items.len(), running.next.is_some(), false))
            (tile("/imports?state=FAILED", ("failed import", "failed imports"), failed.items.len(), failed.next.is_some(), true))
            (tile("/stuck", ("stuck operation", "stuck operations"), stuck.items.len(), stuck.next.is_some(), true))
            (tile("/differences", ("region that differs", "regions that differ"), usize::try_from(differing).unwrap_or(usize::MAX), false, true))
        }
        @if !attention.is_empty() {
            h2 { "Regions that need attention" }
            (regions_table(&context, &attention, &reports))
            @if attention_count > attention.len() {
                p { "The first " (attention.len()) " are shown. " a href="/regions" { "All regions" } }
            }
        }
        h2 { "Imports" }
        @if newest.items.is_empty() {
            p.empty {
                "No region has reported an import. Begin one: "
                code { "causeway import organizations FILE --region URL" }
            }
        } @else {
            (imports_table(&context, "The newest imports", &newest.items, &reports, &addresses_of(&all)))
            p { a href="/imports" { "All imports" } }
        }
    };
    Ok(live(&context, "Overview", Section::Overview, main))
}
