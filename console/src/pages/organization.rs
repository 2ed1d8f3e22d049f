//! One organization: its slugs, what it was called before, and what was done about it.

use std::collections::HashMap;

use axum::extract::{Path, State, rejection::PathRejection};
use causeway_audit::store::Filter;
use causeway_control::{
    PageRequest,
    model::{
        lookup::{KnownOrganization, PastRename, SlugChange, SlugOrigin},
        rename::RenameState,
    },
};
use causeway_proto::relocation::v1::ErrorReason;
use maud::{Markup, html};

use super::{audit::entries_table, regions, release::released_by, slugs::reservations_table};
use crate::{
    Console,
    context::Context,
    failure::Failed,
    html::{
        Column, Destination, Section, Tone, badge, command, facts, prose_at, query, still, table, text, when,
    },
};

/// Of how many renames it is looked up who has given them up.
const GIVEN_UP: usize = 20;

/// How many entries of the audit log are shown.
const ENTRIES: u16 = 20;

fn status(status: i64) -> &'static str {
    match status {
        0 => "active",
        1 => "pending deletion",
        2 => "being deleted",
        HIDDEN => "hidden",
        _ => "unknown",
    }
}

const ORIGINS: [Column; 4] = [text("Slug"), text("Wanted"), text("Why"), text("Import")];

/// The status of an organization that an import has left hidden.
const HIDDEN: i64 = 3;

/// Where a slug comes from.
fn origin(region: &str, it: &SlugOrigin) -> Vec<Markup> {
    vec![
        html! { (it.slug) },
        html! { @if it.wanted_slug.is_empty() { "none" } @else { (it.wanted_slug) } },
        html! {
            @match &it.changed {
                None if it.wanted_slug.is_empty() => "made from the name",
                None => "as wanted",
                Some(SlugChange::Normalized) => "it was not a valid slug, and was made one",
                Some(SlugChange::ReservedWord) => "it is a reserved word",
                Some(SlugChange::Invalid) => "no valid slug can be made of it alone",
                Some(SlugChange::Taken(owner)) => {
                    strong { (owner.slug) } " is taken by organization "
                    a href={ "/organizations/" (owner.organization_id) } { (owner.organization_id) }
                    " of " (owner.region)
                },
                Some(SlugChange::TakenThen) => {
                    "it was taken, by an organization that has it no more or that control does not know"
                },
            }
        },
        html! {
            @match it.import_id {
                Some(id) => { a href={ "/imports/" (query(region)) "/" (id) } { span.break { (id) } } },
                None => "none that its region has reported",
            }
        },
    ]
}

const RENAMES: [Column; 5] = [text("From"), text("To"), text("Asked for"), text("Outcome"), text("Begun")];

fn rename(context: &Context, past: &PastRename, giver: Option<&String>) -> Vec<Markup> {
    let PastRename { rename, begun_at, .. } = past;
    vec![
        html! { (rename.previous_slug) },
        html! { (rename.slug) },
        html! {
            (rename.desired_slug)
            @match (rename.keep_alias, &rename.state) {
                (true, _) => { span.sub { "the old one stays an alias" } },
                (false, RenameState::Refused(_)) => {},
                (false, _) => { span.sub { "the old one is free for others" } },
            }
        },
        match &rename.state {
            RenameState::Pending => html! {
                (badge(Tone::Busy, "waits for its region")) " "
                a.button href={ "/stuck/" (query(&rename.region)) "/" (rename.operation_id) "/release" }
                    aria-label={ "Give up the rename to " (rename.slug) } { "Give it up…" }
            },
            RenameState::Confirmed => badge(Tone::Good, "done"),
            RenameState::Refused(refusal) if refusal.reason == ErrorReason::OperationReleased => html! {
                (badge(Tone::Plain, "given up"))
                @if let Some(who) = giver { span.sub { "by " (who) } }
            },
            RenameState::Refused(refusal) => html! {
                (badge(Tone::Bad, "refused")) span.sub { (prose_at(&Destination::of_control(&context.control_url), &refusal.message)) }
            },
        },
        when(context, *begun_at),
    ]
}

pub(crate) async fn show(
    State(console): State<Console>,
    context: Context,
    path: Result<Path<String>, PathRejection>,
) -> Result<Markup, Failed> {
    let Path(id) = path?;
    let id: i64 = id
        .parse()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| Failed::bad("The id of an organization is a number from 1."))?;
    let known = console.control.slug_reservations().known(id).await?;
    if known.is_empty() {
        return Err(Failed::absent(format!("Control has no slug of an organization {id}.")));
    }
    let KnownOrganization { reservations, origins, renames, entry } = known;
    let filter = Filter { object: Some(format!("organization/{id}")), ..Filter::default() };
    let request = PageRequest { limit: ENTRIES, after: None };
    let entries = console.control.audit().entries(&filter, &request).await?.items;
    let mut givers = HashMap::new();
    for rename in renames.iter().map(|past| &past.rename).take(GIVEN_UP) {
        if matches!(&rename.state, RenameState::Refused(refusal) if refusal.reason == ErrorReason::OperationReleased)
            && let Some(who) = released_by(&console, rename.operation_id).await?
        {
            givers.insert(rename.operation_id, who);
        }
    }
    let addresses = regions::addresses(&console).await?;
    let is_gone = reservations.is_empty() && entry.is_none();
    let primary = reservations.iter().find(|it| it.kind.name() == "primary");
    let region = reservations.first().map_or("none", |it| it.region.as_str());
    let main = html! {
        p.path { a href="/slugs" { "Slugs" } }
        h1 {
            @if let Some(primary) = primary { (primary.slug) } @else { "Organization " (id) }
        }
        @if is_gone {
            p.note {
                strong { "It is gone." } " Control has no slug of organization " (id) ", and no region reports it. What "
                "control still has of it:"
            }
        } @else { (facts(&[
            ("Organization", html! { (id) }),
            ("Region", html! { (region) }),
            ("Name", html! { @if let Some(entry) = &entry { (entry.name) } @else { "not reported by its region" } }),
            ("Status", html! { @if let Some(entry) = &entry { (status(entry.status)) } @else { "unknown" } }),
        ])) }
        @if !reservations.is_empty() { (reservations_table(&context, "Its slugs", &reservations)) }
        @if !origins.is_empty() {
            @let rows: Vec<Vec<Markup>> = origins.iter().map(|it| origin(region, it)).collect();
            (table("Where its slugs come from", &ORIGINS, &rows))
        }
        @if renames.is_empty() {
            p.empty { "It has not been renamed." }
        } @else {
            @let rows: Vec<Vec<Markup>> = renames
                .iter()
                .map(|past| rename(&context, past, givers.get(&past.rename.operation_id)))
                .collect();
            (table("Its renames, the newest first", &RENAMES, &rows))
        }
        @if !entries.is_empty() { (entries_table("What was done about it", &entries)) }
        @if !is_gone {
            h2 { "What can be done" }
            @if primary.is_none() {
                p {
                    "Its slug is not confirmed yet: the import that has reserved it confirms or releases it. If its region does "
                    "neither for 10 minutes, it is under " a href="/stuck" { "Stuck" } ", where it can be released."
                }
            }
            dl.commands {
                @if let Some(entry) = entry.as_ref().filter(|entry| entry.status == HIDDEN) {
                    @let of = addresses.get(&entry.region).map_or("URL", String::as_str);
                    dt { "Make it visible; while its import goes on, this is refused" }
                    dd {
                        (command(["causeway", "organizations", "approve", &id.to_string(), "--region", of]))
                    }
                }
                @if primary.is_some() {
                    dt { "Give it another slug: write it in place of " code { "NEW-SLUG" } }
                    dd {
                        (command(["causeway", "slugs", "rename", &id.to_string(), "NEW-SLUG", "--exact", "--keep-alias",
                            "--control", &context.control_url]))
                        p.sub {
                            code { "--exact" } " refuses a slug that is taken, reserved or not valid; without it, the organization "
                            "gets a similar one. " code { "--keep-alias" } " lets the old slug still lead to it; without it, others "
                            "may take that."
                        }
                    }
                }
            }
        }
    };
    Ok(still(&context, "Organization", Section::Slugs, &main))
}
