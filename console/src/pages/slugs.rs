//! Search for slugs: who has them, in which region.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Redirect, Response},
};
use causeway_control::{
    PageRequest,
    model::reservation::{Reservation, ReservationType},
    slug::rules,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::ROWS;
use crate::{
    Console,
    context::Context,
    failure::Failed,
    html::{Column, Section, Tone, badge, pager, query, still, table, text, when},
};

/// The longest text to search for, in bytes.
const MAX_SEARCH: usize = 255;

/// What a reservation is for, in a colour.
pub(crate) fn kind(kind: ReservationType) -> Markup {
    match kind {
        ReservationType::Primary => badge(Tone::Good, "slug"),
        ReservationType::TemporaryRenameAlias => badge(Tone::Warn, "reserved, not confirmed"),
        ReservationType::VanityAlias => badge(Tone::Plain, "alias"),
    }
}

const COLUMNS: [Column; 5] =
    [text("Slug"), text("Kind"), text("Organization"), text("Region"), text("Reserved")];

/// A table of reservations.
pub(crate) fn reservations_table(context: &Context, caption: &str, reservations: &[Reservation]) -> Markup {
    let rows: Vec<Vec<Markup>> = reservations
        .iter()
        .map(|it| {
            vec![
                html! { (it.slug) },
                kind(it.kind),
                html! { a href={ "/organizations/" (it.organization_id) } { (it.organization_id) } },
                html! { (it.region) },
                when(context, it.created_at),
            ]
        })
        .collect();
    table(caption, &COLUMNS, &rows)
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    after: String,
}

pub(crate) async fn show(
    State(console): State<Console>,
    context: Context,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Failed> {
    let Query(asked) = asked?;
    let search = asked.q.trim();
    if search.len() > MAX_SEARCH || asked.after.len() > MAX_SEARCH {
        return Err(Failed::bad(format!("A search has at most {MAX_SEARCH} bytes.")));
    }
    // Digits may be the beginning of a slug, too.
    if let Ok(id) = search.parse::<i64>()
        && id > 0
        && !console.control.slug_reservations().known(id).await?.is_empty()
    {
        return Ok(Redirect::to(&format!("/organizations/{id}")).into_response());
    }
    let request = PageRequest { limit: ROWS, after: Some(asked.after).filter(|after| !after.is_empty()) };
    let page = console.control.slug_reservations().search(search, &request).await?;
    let link = |after: &str| format!("/slugs?q={}{after}", query(search));
    let next = page.next.map(|next| link(&format!("&after={}", query(&next))));
    let main = html! {
        h1 { "Slugs" }
        form.filter action="/slugs" method="get" role="search" aria-label="Slugs" {
            label {
                "Beginning of a slug, or id of an organization "
                input #q type="search" name="q" value=(search) maxlength=(MAX_SEARCH) autocomplete="off";
            }
            button type="submit" { "Search" }
        }
        @if rules::is_reserved(&search.to_ascii_lowercase()) {
            p.note.warn {
                "“" (search) "” is a reserved word: no organization can have it as its slug, and an import or a rename makes a "
                "similar one."
            }
        }
        @if page.items.is_empty() {
            p.empty {
                "No slug begins with “" (search) "”. Slugs have lower case letters, digits and hyphens. A slug that no "
                "organization has is free, unless it is a reserved word."
            }
        } @else {
            (reservations_table(&context, "Slugs in alphabetical order", &page.items))
        }
        (pager(&link(""), request.after.is_none(), next.as_deref()))
    };
    Ok(still(&context, "Slugs", Section::Slugs, &main).into_response())
}
