//! What commands that act on an import have in common: they wait for its end, and may be interrupted.

use anyhow::Context as _;
use causeway_client::{Client, Service};
use causeway_proto::{json::to_json, region::v1::Import};
use causeway_silo::env::Environment;
use uuid::Uuid;

use super::{
    Outcome, import, imports,
    signals::Signals,
    target::{RegionArgs, Target},
};
use crate::output::{
    self, Format,
    progress::Progress,
    report::{self, Findings},
};

/// Asks a region to do something with an import. On a signal, prints `interrupted` and the command that shows the
/// import.
pub(super) async fn run_interruptible(
    args: &RegionArgs,
    import_id: Uuid,
    env: Environment,
    interrupted: &str,
    act: impl AsyncFnOnce(&Client) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let target = Target::open(Service::Region, args.region.as_deref(), &args.data, false, env).await?;
    let outcome = tokio::select! {
        outcome = act(&target.client) => outcome,
        () = signals.next() => {
            let look = import::show_command(&args.place(), import_id);
            output::note(&format!("{interrupted}\n  {look}"));
            Ok(Outcome::Failed)
        }
    };
    target.close().await;
    outcome
}

/// Watches an import until it has ended and reports on it.
pub(super) async fn watch_and_report(
    region: &Client,
    args: &RegionArgs,
    import_id: Uuid,
    first: Option<Import>,
    format: Format,
    mut progress: Progress,
) -> anyhow::Result<Import> {
    let import = import::watch(region, args, import_id, first, &mut progress).await?;
    // The progress bar must not draw between the lines of the report.
    drop(progress);
    match format {
        Format::Json => output::json(&[to_json(&import, "causeway.region.v1.Import")?])?,
        Format::Text => {
            // The outcome of the import stands, whether its findings can be shown or not.
            let findings = imports::first_findings(region, &import).await.unwrap_or_else(|error| {
                output::note(&format!("the findings cannot be shown: {}", args.place().told(&error)));
                Vec::new()
            });
            output::text(&report::render(&import, &Findings::First(findings), &args.place()))?;
        }
    }
    Ok(import)
}
