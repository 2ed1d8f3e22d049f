//! What commands that act on an import have in common: they wait for its end, and may be interrupted.

use std::io::{IsTerminal as _, stdout};

use anyhow::Context as _;
use causeway_client::{CallError, Client, Service, Watch, WatchEvent};
use causeway_proto::{
    json::to_json,
    region::v1::{Import, ListFindingsRequest},
    relocation::v1::Finding,
};
use causeway_silo::env::Environment;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::{
    outcome::Outcome,
    signals::Signals,
    target::{RegionArgs, Target},
};
use crate::output::{
    self, Format,
    place::{CommandTarget, message},
    progress::{Progress, SECOND},
    report::{self, Findings, Shown},
    terminal::Width,
};

/// What is printed about an import.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Show all organizations and models, also those that are as in the file
    #[arg(long)]
    all: bool,
    /// Text for people, or the import as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    pub(super) output: Format,
}

impl ReportArgs {
    /// What a report for people shows, at the width that stdout has now.
    pub(super) fn shown(&self) -> Shown {
        Shown { all: self.all, width: Width::of_report() }
    }

    /// Whether a person has the report before their eyes, so that nothing of it has to be said again.
    pub(super) fn is_on_screen(&self) -> bool {
        self.output == Format::Text && stdout().is_terminal()
    }
}

/// How many findings of each kind the report shows.
const FINDINGS_PER_KIND: i32 = 5;

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
    let target = Target::open(Service::Region, &args.region, &args.data, false, env).await?;
    let outcome = tokio::select! {
        outcome = act(&target.client) => outcome,
        outcome = signals.next() => {
            let look = show_command(&args.place(), import_id);
            output::note(&format!("{interrupted}\n  {look}"));
            Ok(outcome)
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
    wanted: &ReportArgs,
    mut progress: Progress,
) -> anyhow::Result<Import> {
    let import = watch(region, args, import_id, first, &mut progress).await?;
    // The progress bar must not draw between the lines of the report.
    drop(progress);
    match wanted.output {
        Format::Json => output::json(&[to_json(&import, "causeway.region.v1.Import")?])?,
        Format::Text => {
            // The outcome of the import stays the same, whether its findings can be shown or not.
            let findings = first_findings(region, &import).await.unwrap_or_else(|error| {
                output::note(&format!("the findings cannot be shown: {}", message(&args.place(), &error)));
                Vec::new()
            });
            output::text(&report::render(
                &import,
                &Findings::First(findings),
                &args.place(),
                wanted.shown(),
            ))?;
        }
    }
    Ok(import)
}

/// The command that shows the current state of this import.
pub(super) fn show_command(place: &CommandTarget, import_id: Uuid) -> String {
    place.command(["imports", "show", &import_id.to_string()])
}

/// Watches the import until it has ended.
async fn watch(
    region: &Client,
    args: &RegionArgs,
    import_id: Uuid,
    first: Option<Import>,
    progress: &mut Progress,
) -> anyhow::Result<Import> {
    // One that has ended is shown when the region shows it: its outcome is printed once.
    if let Some(import) = first.filter(|import| !import.state().is_final()) {
        progress.changed(&import, Instant::now());
    }
    let mut watch = Watch::new(region.clone(), import_id.to_string());
    let mut seconds = interval(SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = false;
    loop {
        // A tick must not drop what is on its way: a region that takes longer than a second to answer would never be
        // heard.
        let event = {
            let mut next = std::pin::pin!(watch.next());
            loop {
                tokio::select! {
                    event = &mut next => break event,
                    _ = seconds.tick() => progress.tick(Instant::now()),
                }
            }
        };
        let event = event.with_context(|| {
            format!(
                "the import cannot be seen any more, but may go on; look again with\n  {}\n",
                show_command(&args.place(), import_id)
            )
        })?;
        match event {
            WatchEvent::Changed(import) => {
                if std::mem::take(&mut lost) {
                    progress.note("the region is there again");
                }
                progress.changed(&import, Instant::now());
                if import.state().is_final() {
                    return Ok(*import);
                }
            }
            WatchEvent::Lost(error) => {
                if !std::mem::replace(&mut lost, true) {
                    let why = message(&args.place(), &error);
                    progress.note(&format!("{why}; trying again, the import is not harmed by this"));
                }
            }
        }
    }
}

/// The first findings of each kind that the import has.
pub(super) async fn first_findings(region: &Client, import: &Import) -> Result<Vec<Finding>, CallError> {
    let mut first = Vec::new();
    for count in &import.finding_counts {
        let request = ListFindingsRequest {
            import_id: import.import_id.clone(),
            kind: count.kind,
            page_size: FINDINGS_PER_KIND,
            ..Default::default()
        };
        first.extend(
            region
                .ask(request, async |it, request| it.imports().list_findings(request).await)
                .await?
                .findings,
        );
    }
    Ok(first)
}
