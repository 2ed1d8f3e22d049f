//! What commands that act on an import have in common: they wait for its end, and may be interrupted.

use std::{
    cell::Cell,
    io::{IsTerminal as _, stdout},
};

use anyhow::Context as _;
use causeway_client::{CallError, Client, Service, Watch, WatchEvent};
use causeway_proto::{
    json::to_json,
    region::v1::{Import, ImportState, ListFindingsRequest},
    relocation::v1::{ErrorReason, Finding},
};
use causeway_silo::env::Environment;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::{
    import_id::ImportId,
    outcome::Outcome,
    signals::Signals,
    target::{RegionArgs, Target},
};
use crate::output::{
    self, Advised, Format,
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
    /// What a report for people shows, at the width that stdout has now. Without a terminal, each row of a table is one
    /// line.
    pub(super) fn shown(&self) -> Shown {
        Shown { all: self.all, width: Width::of_report(), table_width: Width::of_list() }
    }

    /// Whether a person has the report before their eyes, so that nothing of it has to be said again.
    pub(super) fn is_on_screen(&self) -> bool {
        self.output == Format::Text && stdout().is_terminal()
    }
}

/// How many findings of each kind the report shows.
const FINDINGS_PER_KIND: i32 = 5;

/// What an import does without the command that acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    /// The command has asked for nothing yet.
    NotAsked,
    /// The command has not seen the import yet.
    Unknown,
    /// The import goes on in its region.
    GoesOn,
    /// The import is paused, and stays so.
    StaysPaused,
}

impl Without {
    fn of(import: &Import) -> Self {
        match import.state() {
            _ if import.pause.is_some() => Self::StaysPaused,
            ImportState::Succeeded | ImportState::Failed | ImportState::Planned | ImportState::Reverted => {
                Self::Unknown
            }
            _ => Self::GoesOn,
        }
    }

    /// The message for somebody who interrupts the command.
    pub(super) fn told(self, place: &CommandTarget, import_id: &str) -> String {
        let look = show_command(place, import_id);
        match self {
            Self::NotAsked => "nothing was done".to_owned(),
            Self::Unknown => format!("interrupted; look at the import with\n  {look}"),
            // The region has ended with the command.
            Self::GoesOn if place.is_embedded() => {
                format!(
                    "interrupted; the import is kept, and goes on with the next command on this data. Look at it with\n  {look}"
                )
            }
            Self::GoesOn => format!("interrupted; the import goes on. Look at it with\n  {look}"),
            Self::StaysPaused => {
                let resume = place.command(["imports", "resume", import_id]);
                format!("interrupted; the import stays paused. Continue it with\n  {resume}")
            }
        }
    }
}

/// Asks a region to do something with an import. On a signal, says what the import does without the command, which
/// `without` has.
pub(super) async fn run_interruptible(
    args: &RegionArgs,
    import_id: &ImportId,
    env: Environment,
    without: &Cell<Without>,
    act: impl AsyncFnOnce(&Client, Uuid) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let target = Target::open(Service::Region, &args.region, &args.data, false, env).await?;
    let acted = async {
        let import_id = import_id.resolve(&target.client).await?;
        act(&target.client, import_id).await
    };
    let outcome = tokio::select! {
        outcome = acted => outcome,
        outcome = signals.next() => {
            output::note(&without.get().told(&args.place(), &import_id.to_string()));
            Ok(outcome)
        }
    };
    target.close().await;
    outcome
}

/// Watches an import until it has ended and reports on it. `without` learns what it does if nobody watches it.
pub(super) async fn watch_and_report(
    region: &Client,
    args: &RegionArgs,
    import_id: Uuid,
    first: Option<Import>,
    wanted: &ReportArgs,
    without: &Cell<Without>,
    mut progress: Progress,
) -> anyhow::Result<Import> {
    let import = watch(region, args, import_id, first, without, &mut progress).await?;
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
pub(super) fn show_command(place: &CommandTarget, import_id: &str) -> String {
    place.command(["imports", "show", import_id])
}

/// Watches the import until it has ended.
async fn watch(
    region: &Client,
    args: &RegionArgs,
    import_id: Uuid,
    first: Option<Import>,
    without: &Cell<Without>,
    progress: &mut Progress,
) -> anyhow::Result<Import> {
    if let Some(import) = &first {
        without.set(Without::of(import));
    }
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
        let event = event.map_err(|call| {
            let advice = match call.reason() {
                // It says itself what to do.
                Some(ErrorReason::ImportNotFound) => String::new(),
                _ => format!(
                    "; the import cannot be seen any more, but may go on. Look again with\n  {}",
                    show_command(&args.place(), &import_id.to_string())
                ),
            };
            Advised { call, advice }
        })?;
        match event {
            WatchEvent::Changed(import) => {
                if std::mem::take(&mut lost) {
                    progress.note("the region is there again");
                }
                without.set(Without::of(&import));
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

#[cfg(test)]
mod tests {
    use causeway_proto::region::v1::Pause;

    use super::*;

    #[test]
    fn who_interrupts_a_command_hears_what_goes_on_without_it() {
        let place = CommandTarget::Region("http://eu:1".to_owned());
        let told = |without: Without| without.told(&place, "3b1f");
        assert_eq!(told(Without::NotAsked), "nothing was done");
        let unseen = told(Without::Unknown);
        assert!(!unseen.contains("goes on") && unseen.contains("\n  causeway imports show 3b1f"), "{unseen}");
        let import = Import::default();
        let running = told(Without::of(&import));
        assert!(running.starts_with("interrupted; the import goes on."), "{running}");
        let paused = told(Without::of(&Import { pause: Some(Pause::default()), ..import }));
        assert_eq!(
            paused,
            "interrupted; the import stays paused. Continue it with\n  causeway imports resume 3b1f --region http://eu:1"
        );
    }
}
