//! `causeway reconcile`.

use causeway_client::{Client, Service};
use causeway_proto::{
    json::to_json,
    region::v1::{ReconcileMode, ReconcileRequest, ReconcileResponse},
};
use causeway_silo::env::Environment;

use super::{
    outcome::Outcome,
    target::{RegionArgs, Target},
};
use crate::output::{self, Format, lists, terminal::Width};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("mode").required(true))]
pub(super) struct Args {
    /// Show what differs, and change nothing
    #[arg(long, group = "mode")]
    pub(super) check: bool,
    /// Repair what can be repaired, and show what differed
    #[arg(long, group = "mode")]
    pub(super) repair: bool,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    let target = Target::open(Service::Region, &args.region.region, &args.region.data, false, env).await?;
    target.ask(async |region| reconcile(region, &args).await).await
}

async fn reconcile(region: &Client, args: &Args) -> anyhow::Result<Outcome> {
    let mode = if args.repair { ReconcileMode::Repair } else { ReconcileMode::Check };
    // No deadline, because the comparison takes as long as it takes. The stream ends with the summary.
    let request = ReconcileRequest { mode: mode.into() };
    let mut parts =
        region.open(request, async |it, request| it.reconciliation().reconcile(request).await).await?;
    let mut all = ReconcileResponse::default();
    while let Some(part) = parts.message().await.map_err(|status| region.failed(status))? {
        all.differences.extend(part.differences);
        all.summary = part.summary.or(all.summary);
        all.control_addresses.extend(part.control_addresses);
    }
    let Some(summary) = all.summary else {
        anyhow::bail!("the comparison ended early, without a summary; compare again");
    };
    match args.output {
        Format::Json => output::json(&[to_json(&all, "causeway.region.v1.ReconcileResponse")?])?,
        Format::Text => {
            output::text(&lists::differences(&all, &summary, &args.region.place(), Width::of_report()))?
        }
    }
    Ok(if summary.repaired < summary.differences { Outcome::Differences } else { Outcome::Done })
}
