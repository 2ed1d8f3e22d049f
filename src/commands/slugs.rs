//! `causeway slugs`.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;
use causeway_client::{CallError, Client, Service, collect_pages};
use causeway_proto::{
    control::v1::{
        BatchResolveSlugsRequest, BatchResolveSlugsResponse, GetSlugRenameRequest,
        ListSlugReservationsRequest, ListSlugReservationsResponse,
        ReleaseOrganizationSlugReservationsRequest, ReleaseSlugAliasRequest, RenameState, ReservationType,
        ResolveSlugRequest, SlugReservation, UpdateOrganizationSlugRequest, UpdateOrganizationSlugResponse,
    },
    json::to_json,
    limits::MAX_NAMES_PER_CALL,
    relocation::v1::ErrorReason,
    time,
};
use causeway_silo::env::Environment;
use clap::Subcommand;
use uuid::Uuid;

use super::{
    PAGE_SIZE,
    outcome::Outcome,
    target::{ControlArgs, Target},
};
use crate::output::{self, Format, lists, place::CommandTarget, terminal::Width};

/// What stands for the new slug in a command of the console.
const PLACEHOLDER: &str = "NEW-SLUG";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show which organization and region each slug belongs to. Exit code 1 if one of the slugs belongs to none
    Resolve(Resolve),
    /// List the reserved slugs
    List(List),
    /// Give an organization another slug. Exit code 1 if its region has not done it within --wait, 11 if the
    /// organization got another slug than the requested one
    Rename(Rename),
    /// Free an old slug that still leads to its organization
    ReleaseAlias(ReleaseAlias),
    /// Give up a rename that its region has not done, or free the slugs that an import has reserved and will not
    /// confirm. Slugs that organizations already have stay as they are
    ReleaseOperation(ReleaseOperation),
}

#[derive(Debug, clap::Args)]
pub(super) struct ReleaseOperation {
    /// The id of the operation, as `slugs list` shows it
    #[arg(value_name = "UUID")]
    operation: Uuid,
    /// The region of the operation; without it, all regions are searched
    #[arg(long, value_name = "NAME")]
    for_region: Option<String>,
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    /// The organization: its id, or a slug of it
    #[arg(value_name = "ORGANIZATION")]
    pub(super) organization: String,
    /// The new slug
    #[arg(value_name = "SLUG", value_parser = new_slug)]
    pub(super) slug: String,
    /// Refuse if the organization cannot have exactly this slug, rather than give it a similar one
    #[arg(long)]
    pub(super) exact: bool,
    /// Keep the old slug, so that it still leads to the organization
    #[arg(long)]
    pub(super) keep_alias: bool,
    /// The region of the organization; only needed if two regions have an organization with this id
    #[arg(long, value_name = "NAME")]
    for_region: Option<String>,
    /// An id for this rename; the same id asks again for the same rename [default: a new id]
    #[arg(long, value_name = "UUID")]
    operation_id: Option<Uuid>,
    /// How many seconds to wait for the region
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = clap::value_parser!(u32).range(0..=60))]
    wait: u32,
    #[command(flatten)]
    control: ControlArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReleaseAlias {
    /// The old slug to free
    #[arg(value_name = "SLUG")]
    slug: String,
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resolve {
    /// The slugs to resolve, without regard to case
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
    /// List only the slugs of this region
    #[arg(long, value_name = "NAME")]
    pub(super) for_region: Option<String>,
    #[command(flatten)]
    control: ControlArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// Refuses the word that stands for the slug in the command that the console shows: control would make a slug of it.
fn new_slug(text: &str) -> Result<String, &'static str> {
    match text {
        PLACEHOLDER => Err("write the slug that the organization is to have in its place"),
        slug => Ok(slug.to_owned()),
    }
}

impl Command {
    /// Where suggested commands go.
    pub(super) fn place(&self) -> CommandTarget {
        match self {
            Self::Resolve(Resolve { control, .. })
            | Self::List(List { control, .. })
            | Self::Rename(Rename { control, .. })
            | Self::ReleaseAlias(ReleaseAlias { control, .. })
            | Self::ReleaseOperation(ReleaseOperation { control, .. }) => control.place(),
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let args = match &command {
        Command::Resolve(resolve) => &resolve.control,
        Command::List(list) => &list.control,
        Command::Rename(rename) => &rename.control,
        Command::ReleaseAlias(release) => &release.control,
        Command::ReleaseOperation(release) => &release.control,
    };
    let fresh = env.uuid();
    let target = Target::open(Service::Control, &args.control, &args.data, false, env).await?;
    target
        .ask(async |control| match &command {
            Command::Resolve(args) => resolve(control, args).await,
            Command::List(args) => list(control, args).await,
            Command::Rename(args) => rename(control, args, fresh).await,
            Command::ReleaseAlias(args) => release_alias(control, args).await,
            Command::ReleaseOperation(args) => release_operation(control, args).await,
        })
        .await
}

async fn resolve(control: &Client, args: &Resolve) -> anyhow::Result<Outcome> {
    let mut answer = BatchResolveSlugsResponse::default();
    for slugs in args.slugs.chunks(MAX_NAMES_PER_CALL) {
        let request = BatchResolveSlugsRequest { slugs: slugs.to_vec() };
        let page = control
            .ask(request, async |it, request| it.directory().batch_resolve_slugs(request).await)
            .await?;
        answer.organizations.extend(page.organizations);
    }
    match args.output {
        Format::Json => output::json(&[to_json(&answer, "causeway.control.v1.BatchResolveSlugsResponse")?])?,
        // A line of headings alone says nothing.
        Format::Text if answer.organizations.is_empty() => {}
        Format::Text => output::text(&lists::resolved(&answer, Width::of_list()))?,
    }
    let unknown = unknown(&args.slugs, &answer);
    for slug in &unknown {
        output::note(&format!("no organization has the slug {slug:?}"));
    }
    Ok(if unknown.is_empty() { Outcome::Done } else { Outcome::Failed })
}

/// The `slugs` that are not in the answer, as the caller spelled them.
fn unknown<'a>(slugs: &'a [String], answer: &BatchResolveSlugsResponse) -> Vec<&'a str> {
    let known: HashSet<String> =
        answer.organizations.iter().map(|organization| organization.slug.to_lowercase()).collect();
    slugs.iter().map(String::as_str).filter(|slug| !known.contains(&slug.to_lowercase())).collect()
}

async fn list(control: &Client, args: &List) -> anyhow::Result<Outcome> {
    let all: ListSlugReservationsResponse = collect_pages(async |page_token| {
        let request = ListSlugReservationsRequest {
            region: args.for_region.clone().unwrap_or_default(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        control
            .ask(request, async |it, request| it.reservations().list_slug_reservations(request).await)
            .await
    })
    .await?;
    match args.output {
        Format::Json => output::json(&[to_json(&all, "causeway.control.v1.ListSlugReservationsResponse")?])?,
        Format::Text => output::text(&lists::reservations(&all, Width::of_list()))?,
    }
    Ok(Outcome::Done)
}

/// The id of an organization that is given by its id or a slug. A slug has at least one letter, so it is
/// never mistaken for an id.
async fn organization_id(control: &Client, organization: &str) -> anyhow::Result<i64> {
    if let Ok(id) = organization.parse() {
        return Ok(id);
    }
    let request = ResolveSlugRequest { slug: organization.to_owned() };
    let answer = control.ask(request, async |it, request| it.directory().resolve_slug(request).await).await?;
    let organization = answer.organization.context("control's answer has no organization")?;
    Ok(organization.organization_id)
}

/// The organization of a rename. With an operation id, it is found by that id first: once the rename is done, the
/// organization does not have its old slug any more.
async fn renamed_organization_id(control: &Client, args: &Rename) -> anyhow::Result<i64> {
    if let Some(operation_id) = args.operation_id
        && args.organization.parse::<i64>().is_err()
    {
        let request = GetSlugRenameRequest { operation_id: operation_id.to_string() };
        match control.ask(request, async |it, request| it.reservations().get_slug_rename(request).await).await
        {
            Ok(rename) => {
                let is_meant = |slug: &str| slug.eq_ignore_ascii_case(&args.organization);
                if is_meant(&rename.previous_slug) || is_meant(&rename.slug) {
                    return Ok(rename.organization_id);
                }
            }
            Err(error) if error.reason() == Some(ErrorReason::OperationNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    organization_id(control, &args.organization).await
}

async fn rename(control: &Client, args: &Rename, fresh: Uuid) -> anyhow::Result<Outcome> {
    let operation_id = args.operation_id.unwrap_or(fresh);
    let request = UpdateOrganizationSlugRequest {
        organization_id: renamed_organization_id(control, args).await?,
        desired_slug: args.slug.clone(),
        require_exact: args.exact,
        operation_id: operation_id.to_string(),
        keep_alias: args.keep_alias,
        region: args.for_region.clone().unwrap_or_default(),
        wait: Some(time::seconds(args.wait)),
    };
    let limit = control.timeouts().call + Duration::from_secs(args.wait.into());
    let renaming = control.ask_within(limit, request, async |it, request| {
        it.reservations().update_organization_slug(request).await
    });
    let answer = match renaming.await {
        Ok(answer) => answer,
        Err(error) => {
            let other = error.detail("operation_id");
            let other = other.filter(|_| error.reason() == Some(ErrorReason::RenameInFlight));
            let Some(operation) = other else { return Err(error.into()) };
            // What went wrong comes first, and then what to do about it.
            let place = args.control.place();
            output::failed(&error.into(), Some(&place));
            output::note(&format!(
                "its region does the other rename when it is back; this gives it up:\n  {}",
                place.command(["slugs", "release-operation", &operation])
            ));
            return Ok(Outcome::Failed);
        }
    };
    let pending = answer.state() == RenameState::Pending;
    let is_other = answer.slug != args.slug;
    match args.output {
        Format::Json => {
            output::json(&[to_json(&answer, "causeway.control.v1.UpdateOrganizationSlugResponse")?])?;
        }
        Format::Text => {
            let UpdateOrganizationSlugResponse { organization_id, region, slug, previous_slug, .. } = &answer;
            let becomes = if pending { "will be" } else { "is now" };
            output::text(&format!(
                "organization {organization_id} of {region}, {previous_slug}, {becomes} {slug}\n"
            ))?;
        }
    }
    if is_other {
        let becomes = if pending { "will have" } else { "has" };
        output::note(&format!(
            "the organization {becomes} another slug than {:?}, which is taken, reserved or no valid slug; --exact refuses \
             such a rename",
            args.slug
        ));
    }
    if !args.keep_alias && answer.previous_slug != answer.slug {
        let becomes = match pending {
            true => "will not lead to it any more once the rename is done, and others may take it then",
            false => "does not lead to it any more, and others may take it",
        };
        output::note(&format!("{} {becomes}; --keep-alias keeps the old slug", answer.previous_slug));
    }
    if pending {
        let (again, release) = (again(args, &answer, operation_id), release(args, &answer, operation_id));
        output::note(&format!(
            "region {} has not done it yet and does it when it is back. How far it is:\n  {again}\nor give it up:\n  \
             {release}",
            answer.region
        ));
        return Ok(Outcome::Failed);
    }
    Ok(if is_other { Outcome::OtherSlug } else { Outcome::Done })
}

/// The command that asks again for a rename. It names the organization by its id, because the old slug does not find it
/// once the rename is done.
fn again(args: &Rename, answer: &UpdateOrganizationSlugResponse, operation_id: Uuid) -> String {
    let (organization, operation) = (answer.organization_id.to_string(), operation_id.to_string());
    let mut words = vec!["slugs", "rename", organization.as_str(), args.slug.as_str()];
    if args.exact {
        words.push("--exact");
    }
    if args.keep_alias {
        words.push("--keep-alias");
    }
    if let Some(region) = &args.for_region {
        words.extend(["--for-region", region]);
    }
    words.extend(["--operation-id", &operation]);
    args.control.place().command(words)
}

/// The command that gives up a rename.
fn release(args: &Rename, answer: &UpdateOrganizationSlugResponse, operation_id: Uuid) -> String {
    let operation = operation_id.to_string();
    let words = ["slugs", "release-operation", &operation, "--for-region", &answer.region];
    args.control.place().command(words)
}

/// The first temporary reservation of an operation, if it has one.
async fn temporary(control: &Client, args: &ReleaseOperation) -> Result<Option<SlugReservation>, CallError> {
    let operation = args.operation.to_string();
    let mut page_token = String::new();
    loop {
        let request = ListSlugReservationsRequest {
            region: args.for_region.clone().unwrap_or_default(),
            r#type: ReservationType::TemporaryRenameAlias.into(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = control
            .ask(request, async |it, request| it.reservations().list_slug_reservations(request).await)
            .await?;
        let found = page.reservations.into_iter().find(|reservation| reservation.operation_id == operation);
        if found.is_some() || page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

async fn release_operation(control: &Client, args: &ReleaseOperation) -> anyhow::Result<Outcome> {
    let operation = args.operation;
    // What is confirmed belongs to organizations. The region may confirm it right after this.
    let Some(found) = temporary(control, args).await? else {
        output::note(&format!(
            "operation {operation} has no temporary reservation: it is unknown, done, or was released before; nothing was \
             changed"
        ));
        return Ok(Outcome::Failed);
    };
    let request = ReleaseOrganizationSlugReservationsRequest {
        region: found.region.clone(),
        operation_id: operation.to_string(),
        refusal: None,
        only_unconfirmed: true,
    };
    control
        .ask(request, async |it, request| {
            it.reservations().release_organization_slug_reservations(request).await
        })
        .await?;
    output::note(&format!(
        "operation {operation} of region {} is released; {} and all else that it had reserved is free",
        found.region, found.slug
    ));
    Ok(Outcome::Done)
}

async fn release_alias(control: &Client, args: &ReleaseAlias) -> anyhow::Result<Outcome> {
    let organization_id = organization_id(control, &args.slug).await?;
    let request = ReleaseSlugAliasRequest { organization_id, slug: args.slug.clone() };
    control.ask(request, async |it, request| it.reservations().release_slug_alias(request).await).await?;
    output::note(&format!("{} leads to organization {organization_id} no more", args.slug));
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
