//! `causeway regions`.

use causeway_client::{Client, Service};
use causeway_proto::control::v1::TakeOverRegionRequest;
use causeway_silo::env::Environment;
use clap::Subcommand;
use uuid::Uuid;

use super::{
    Outcome,
    target::{ControlArgs, Target},
};
use crate::output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let another database take over the name of a region, because its old database is lost
    TakeOver(TakeOver),
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

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let Command::TakeOver(args) = &command;
    let control = &args.control;
    let target =
        Target::open(Service::Control, control.control.as_deref(), &control.data, false, env).await?;
    target.ask(async |control| take_over(control, args).await).await
}

async fn take_over(control: &Client, args: &TakeOver) -> anyhow::Result<Outcome> {
    let instance_id = args.instance.map(|id| id.to_string()).unwrap_or_default();
    let request = control.unary(TakeOverRegionRequest { name: args.name.clone(), instance_id });
    control.answer(control.regions().take_over_region(request)).await?;
    output::note(&format!(
        "the next database that registers as {name} has the name; a region that was refused tries again by itself. What \
         control holds for organizations of the database before stays until it is freed: causeway reconcile --check at \
         the region shows it",
        name = args.name
    ));
    Ok(Outcome::Done)
}
