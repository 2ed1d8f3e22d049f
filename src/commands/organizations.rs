//! `causeway organizations`.

use anyhow::{Context as _, bail};
use causeway_client::{Client, Service, collect_pages};
use causeway_proto::{
    control::v1 as control, json::to_json, region::v1 as region, relocation::v1::ErrorReason,
};
use causeway_silo::env::Environment;
use clap::Subcommand;

use super::{
    PAGE_SIZE,
    import_id::ImportId,
    outcome::Outcome,
    target::{DataArgs, RegionArgs, Target, either_place, service_url},
};
use crate::output::{self, Format, lists, numbers::counted, place::CommandTarget, terminal::Width};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the visible organizations of a region, or with --control those of all regions as they reported them
    List(List),
    /// Show one visible organization of a region
    Show(Show),
    /// Make organizations visible that an import has left hidden (--hide-organizations): those named, all or none, or all of an import
    Approve(Approve),
}

/// The id of an organization as somebody has typed it, who may have typed a slug.
fn organization_id(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        format!("an id is a number; `causeway slugs resolve {text} --control URL` prints that of a slug")
    })
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Approve {
    /// The organizations, by their ids in the region
    #[arg(value_name = "ORGANIZATION_ID", group = "which", num_args = 1..=1_000, value_parser = organization_id)]
    pub(super) organizations: Vec<i64>,
    /// All hidden organizations of this import
    #[arg(long, value_name = "UUID", group = "which")]
    pub(super) import: Option<ImportId>,
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("by").required(true))]
pub(super) struct Show {
    /// The organization, by its id in the region
    #[arg(value_name = "ORGANIZATION_ID", group = "by", value_parser = organization_id)]
    organization: Option<i64>,
    /// The organization, by its slug in upper or lower case. An old slug that still leads to it counts too
    #[arg(long, value_name = "SLUG", group = "by")]
    slug: Option<String>,
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The region to ask; without it and --control, the embedded one. Of several, separated by commas, the first that
    /// can be reached
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',',
        conflicts_with_all = ["data_dir", "control"], env = "CAUSEWAY_REGION")]
    region: Vec<String>,
    /// The control to ask, for the organizations of all regions; several as for --region
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',', conflicts_with = "data_dir",
        env = "CAUSEWAY_CONTROL")]
    control: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

impl Command {
    /// Where suggested commands go.
    pub(super) fn place(&self) -> CommandTarget {
        match self {
            Self::List(List { region, control, data, .. }) => either_place(control, region, data),
            Self::Show(Show { region, .. }) | Self::Approve(Approve { region, .. }) => region.place(),
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let open = async |args: &RegionArgs, env| {
        Target::open(Service::Region, &args.region, &args.data, false, env).await
    };
    let args = match command {
        Command::List(args) => args,
        Command::Show(args) => {
            return open(&args.region, env).await?.ask(async |region| show(region, &args).await).await;
        }
        Command::Approve(args) => {
            return open(&args.region, env).await?.ask(async |region| approve(region, &args).await).await;
        }
    };
    let (kind, urls) = match args.control.as_slice() {
        [] => (Service::Region, args.region.as_slice()),
        urls => (Service::Control, urls),
    };
    let target = Target::open(kind, urls, &args.data, false, env).await?;
    target
        .ask(async |client| match kind {
            Service::Control => list_of_control(client, args.output).await,
            Service::Region => list_of_region(client, args.output).await,
        })
        .await
}

async fn show(region: &Client, args: &Show) -> anyhow::Result<Outcome> {
    use region::get_organization_request::By;
    let (by, alias) = match (args.organization, &args.slug) {
        (Some(id), _) => (By::Id(id), None),
        (None, Some(slug)) => {
            let request = region::ResolveSlugRequest { slug: slug.clone() };
            let found = match region
                .ask(request, async |it, request| it.organizations().resolve_slug(request).await)
                .await
            {
                Ok(found) => found,
                Err(error) if error.reason() == Some(ErrorReason::SlugNotFound) => {
                    let place = args.region.place();
                    output::failed(&error.into(), Some(&place));
                    // A region knows its own slugs only.
                    let advice =
                        "another region may have it: `causeway slugs list` shows the slugs of all regions";
                    output::note(&place.complete(advice, &[]));
                    return Ok(Outcome::Failed);
                }
                Err(error) => return Err(error.into()),
            };
            let alias = (found.slug != found.canonical_slug).then_some(found.slug);
            (By::Id(found.organization_id), alias)
        }
        (None, None) => bail!("give the id of an organization, or --slug"),
    };
    let request = region::GetOrganizationRequest { by: Some(by) };
    let answer =
        region.ask(request, async |it, request| it.organizations().get_organization(request).await).await?;
    match args.output {
        Format::Json => output::json(&[to_json(&answer, "causeway.region.v1.GetOrganizationResponse")?])?,
        Format::Text => {
            let organization = answer.organization.context("the region's answer has no organization")?;
            output::text(&lists::organization(&organization, Width::of_report()))?;
        }
    }
    if let Some(alias) = alias {
        output::note(&format!("{alias} is an old slug that still leads to it"));
    }
    Ok(Outcome::Done)
}

async fn approve(region: &Client, args: &Approve) -> anyhow::Result<Outcome> {
    let import_id = match &args.import {
        Some(id) => id.resolve(region).await?.to_string(),
        None => String::new(),
    };
    let request =
        region::ApproveOrganizationsRequest { organization_ids: args.organizations.clone(), import_id };
    let answer = region
        .ask(request, async |it, request| it.organizations().approve_organizations(request).await)
        .await?;
    match args.output {
        Format::Json => {
            output::json(&[to_json(&answer, "causeway.region.v1.ApproveOrganizationsResponse")?])?
        }
        Format::Text => output::text(&match answer.approved {
            0 => "nothing changed: all of them were visible already\n".to_owned(),
            1 => "1 organization is visible now\n".to_owned(),
            approved => format!("{} are visible now\n", counted(approved, "organization")),
        })?,
    }
    Ok(Outcome::Done)
}

async fn list_of_control(client: &Client, format: Format) -> anyhow::Result<Outcome> {
    let all: control::ListOrganizationsResponse = collect_pages(async |page_token| {
        let request =
            control::ListOrganizationsRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
        client.ask(request, async |it, request| it.directory().list_organizations(request).await).await
    })
    .await?;
    match format {
        Format::Json => output::json(&[to_json(&all, "causeway.control.v1.ListOrganizationsResponse")?])?,
        Format::Text => output::text(&lists::directory(&all, Width::of_list()))?,
    }
    Ok(Outcome::Done)
}

async fn list_of_region(client: &Client, format: Format) -> anyhow::Result<Outcome> {
    let all: region::ListOrganizationsResponse = collect_pages(async |page_token| {
        let request = region::ListOrganizationsRequest { page_size: PAGE_SIZE, page_token };
        client.ask(request, async |it, request| it.organizations().list_organizations(request).await).await
    })
    .await?;
    match format {
        Format::Json => output::json(&[to_json(&all, "causeway.region.v1.ListOrganizationsResponse")?])?,
        Format::Text => output::text(&lists::organizations(&all, Width::of_list()))?,
    }
    Ok(Outcome::Done)
}
