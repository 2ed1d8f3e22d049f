//! `causeway regions`.

use causeway_client::{CallError, Client, Service, collect_pages};
use causeway_proto::{
    control::v1::{
        AddRegionRequest, GetRegionRequest, ListRegionsRequest, ListRegionsResponse, RemoveRegionRequest,
        ResumeRegionRequest, SuspendRegionRequest, TakeOverRegionRequest,
    },
    json::to_json,
};
use causeway_silo::env::Environment;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use uuid::Uuid;

use super::{
    PAGE_SIZE,
    outcome::Outcome,
    target::{ControlArgs, Target},
};
use crate::output::{self, Format, lists, regions, terminal::Width};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let a region register. Needed if control registers only regions that were added (--accept-regions)
    Add(Named),
    /// Remove a region that was added and has never registered, such as one whose name was misspelled
    Remove(Named),
    /// Refuse all that a region writes, until it is resumed. Its slugs still resolve, and its imports wait
    Suspend(Suspend),
    /// End the suspension of a region. Its imports continue by themselves
    Resume(Named),
    /// List the regions, with their last contact, the version of their feed, the end of their certificates, and ids
    /// that other regions have as well
    List(List),
    /// Let another database take over the name of a region, because its old database is lost
    TakeOver(TakeOver),
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The name of the region
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Suspend {
    /// The name of the region
    #[arg(value_name = "NAME")]
    name: String,
    /// Why, for those whose calls are refused; at most 500 bytes
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct TakeOver {
    /// The name of the region
    #[arg(value_name = "NAME")]
    name: String,
    /// The instance id of the database that may take the name [default: the first that registers]
    #[arg(long, value_name = "UUID")]
    instance: Option<Uuid>,
    #[command(flatten)]
    control: ControlArgs,
}

impl Command {
    /// The control that the command asks.
    pub(super) fn control(&self) -> &ControlArgs {
        match self {
            Self::Add(named) | Self::Remove(named) | Self::Resume(named) => &named.control,
            Self::Suspend(suspend) => &suspend.control,
            Self::List(list) => &list.control,
            Self::TakeOver(take_over) => &take_over.control,
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let args = command.control();
    let now = env.now();
    let target = Target::open(Service::Control, &args.control, &args.data, false, env).await?;
    target
        .ask(async |control| match &command {
            Command::Add(args) => add(control, args).await,
            Command::Remove(args) => remove(control, args).await,
            Command::Suspend(args) => suspend(control, args).await,
            Command::Resume(args) => resume(control, args).await,
            Command::List(args) => list(control, args, now).await,
            Command::TakeOver(args) => take_over(control, args).await,
        })
        .await
}

async fn add(control: &Client, args: &Named) -> anyhow::Result<Outcome> {
    let request = AddRegionRequest { name: args.name.clone() };
    let answer = control.ask(request, async |it, request| it.regions().add_region(request).await).await?;
    let name = &args.name;
    output::note(&if answer.existed {
        format!("region {name} was there already; nothing has changed")
    } else {
        format!("region {name} is added; one that was refused registers by itself")
    });
    Ok(Outcome::Done)
}

async fn remove(control: &Client, args: &Named) -> anyhow::Result<Outcome> {
    let request = RemoveRegionRequest { name: args.name.clone() };
    let answer = control.ask(request, async |it, request| it.regions().remove_region(request).await).await?;
    let name = &args.name;
    output::note(&if answer.removed {
        format!("region {name} is removed")
    } else {
        format!("no region is called {name}; nothing has changed")
    });
    Ok(Outcome::Done)
}

async fn suspend(control: &Client, args: &Suspend) -> anyhow::Result<Outcome> {
    let request = SuspendRegionRequest { name: args.name.clone(), text: args.reason.clone() };
    let answer = control.ask(request, async |it, request| it.regions().suspend_region(request).await).await?;
    let name = &args.name;
    let resume = args.control.place().command(["regions", "resume", name]);
    output::note(&if answer.was_suspended {
        format!("region {name} was suspended already; nothing has changed. To resume it: `{resume}`")
    } else {
        format!(
            "region {name} is suspended: control refuses all that it writes, and its imports wait. To resume it: `{resume}`"
        )
    });
    Ok(Outcome::Done)
}

async fn resume(control: &Client, args: &Named) -> anyhow::Result<Outcome> {
    let request = ResumeRegionRequest { name: args.name.clone() };
    let answer = control.ask(request, async |it, request| it.regions().resume_region(request).await).await?;
    let name = &args.name;
    output::note(&if answer.was_suspended {
        format!("region {name} is resumed; what waits for that continues by itself")
    } else {
        format!("region {name} was not suspended; nothing has changed")
    });
    Ok(Outcome::Done)
}

/// All regions that control knows.
pub(super) async fn all(control: &Client) -> Result<ListRegionsResponse, CallError> {
    collect_pages(async |page_token| {
        let request = ListRegionsRequest { page_size: PAGE_SIZE, page_token };
        control.ask(request, async |it, request| it.regions().list_regions(request).await).await
    })
    .await
}

async fn list(control: &Client, args: &List, now: DateTime<Utc>) -> anyhow::Result<Outcome> {
    let all = all(control).await?;
    match args.output {
        Format::Json => output::json(&[to_json(&all, "causeway.control.v1.ListRegionsResponse")?])?,
        Format::Text => output::text(&lists::regions(&all, now, Width::of_list()))?,
    }
    for note in regions::notes(&all, &args.control.place(), now) {
        output::note(&note);
    }
    for region in all.regions.iter().filter(|region| region.has_id_conflicts) {
        let request = GetRegionRequest { name: region.name.clone() };
        match control.ask(request, async |it, request| it.regions().get_region(request).await).await {
            Ok(known) => {
                for note in regions::conflict_notes(&region.name, &known.id_conflicts) {
                    output::note(&note);
                }
            }
            // The list has been printed by now.
            Err(error) => output::note(&format!(
                "whether ids of region {} belong to other regions as well cannot be shown: {error}",
                region.name
            )),
        }
    }
    Ok(Outcome::Done)
}

async fn take_over(control: &Client, args: &TakeOver) -> anyhow::Result<Outcome> {
    let instance_id = args.instance.map(|id| id.to_string()).unwrap_or_default();
    let request = TakeOverRegionRequest { name: args.name.clone(), instance_id };
    control.ask(request, async |it, request| it.regions().take_over_region(request).await).await?;
    let place = args.control.place();
    // The address of the region that has registered last is that of the lost database.
    let shows = if place.is_embedded() {
        format!("`{}` shows it", place.command(["reconcile", "--check"]))
    } else {
        let list = place.command(["regions", "list"]);
        format!(
            "a comparison at the region shows it, at the address that `{list}` shows once it has registered"
        )
    };
    output::note(&format!(
        "the next database that registers as {name} has the name; a region that was refused tries again by itself. What \
         control holds for organizations of the database before stays until it is freed: {shows}",
        name = args.name
    ));
    Ok(Outcome::Done)
}
