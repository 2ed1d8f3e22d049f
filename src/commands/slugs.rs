//! `causeway slugs`.

use std::collections::HashSet;

use causeway::client::{Kind, Peer, collect_pages, unary};
use causeway_proto::{
    control::v1::{
        BatchResolveSlugsRequest, BatchResolveSlugsResponse, ListSlugReservationsRequest,
        ListSlugReservationsResponse,
    },
    json::to_json,
};
use causeway_relocation::ambient::Ambient;
use clap::Subcommand;

use super::{
    Outcome,
    target::{ControlArgs, Target},
};
use crate::output::{self, Format, lists};

/// The most slugs that one call takes.
const SLUGS_A_CALL: usize = 1_000;
/// The largest page.
const PAGE_SIZE: i32 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say which organization and region a slug belongs to. Exit code 1 if one of the slugs belongs to nobody
    Resolve(Resolve),
    /// List the slugs that are reserved
    List(List),
}

#[derive(Debug, clap::Args)]
pub(super) struct Resolve {
    /// The slugs, without regard to case
    #[arg(required = true, value_name = "SLUG")]
    pub(super) slugs: Vec<String>,
    #[command(flatten)]
    control: ControlArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only those of this region
    #[arg(long, value_name = "NAME")]
    pub(super) for_region: Option<String>,
    #[command(flatten)]
    control: ControlArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(command: Command, ambient: Ambient) -> anyhow::Result<Outcome> {
    let args = match &command {
        Command::Resolve(resolve) => &resolve.control,
        Command::List(list) => &list.control,
    };
    let target = Target::open(Kind::Control, args.control.as_deref(), &args.data, false, ambient).await?;
    target
        .ask(async |control| match &command {
            Command::Resolve(args) => resolve(control, args).await,
            Command::List(args) => list(control, args).await,
        })
        .await
}

async fn resolve(control: &Peer, args: &Resolve) -> anyhow::Result<Outcome> {
    let mut answer = BatchResolveSlugsResponse::default();
    for slugs in args.slugs.chunks(SLUGS_A_CALL) {
        let request = unary(BatchResolveSlugsRequest { slugs: slugs.to_vec() });
        let page = control.answer(control.directory().batch_resolve_slugs(request)).await?;
        answer.organizations.extend(page.organizations);
    }
    match args.output {
        Format::Json => output::json(&[to_json(&answer, "causeway.control.v1.BatchResolveSlugsResponse")?])?,
        Format::Text => output::text(&lists::resolved(&answer))?,
    }
    let unknown = unknown(&args.slugs, &answer);
    for slug in &unknown {
        output::note(&format!("no organization has the slug {slug:?}"));
    }
    Ok(if unknown.is_empty() { Outcome::Done } else { Outcome::Failed })
}

/// Those of `slugs` that are not in the answer, as they were asked for.
fn unknown<'a>(slugs: &'a [String], answer: &BatchResolveSlugsResponse) -> Vec<&'a str> {
    let known: HashSet<String> =
        answer.organizations.iter().map(|organization| organization.slug.to_lowercase()).collect();
    slugs.iter().map(String::as_str).filter(|slug| !known.contains(&slug.to_lowercase())).collect()
}

async fn list(control: &Peer, args: &List) -> anyhow::Result<Outcome> {
    let all: ListSlugReservationsResponse = collect_pages(async |page_token| {
        let request = unary(ListSlugReservationsRequest {
            region: args.for_region.clone().unwrap_or_default(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        });
        control.answer(control.reservations().list_slug_reservations(request)).await
    })
    .await?;
    match args.output {
        Format::Json => output::json(&[to_json(&all, "causeway.control.v1.ListSlugReservationsResponse")?])?,
        Format::Text => output::text(&lists::reservations(&all))?,
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::ResolvedOrganization;

    use super::*;

    #[test]
    fn a_slug_is_unknown_without_regard_to_case() {
        let asked = ["ACME".to_owned(), "nobody".to_owned()];
        let answer = BatchResolveSlugsResponse {
            organizations: vec![ResolvedOrganization { slug: "acme".to_owned(), ..Default::default() }],
        };
        assert_eq!(unknown(&asked, &answer), ["nobody"]);
    }
}
