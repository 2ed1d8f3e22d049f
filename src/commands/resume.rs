//! `causeway imports resume`.

use std::cell::Cell;

use anyhow::Context as _;
use causeway_client::{Client, Service};
use causeway_proto::region::v1::{
    GetImportRequest, Import, ImportState, ResumeImportRequest, UnpauseImportsRequest,
};
use causeway_silo::env::Environment;
use uuid::Uuid;

use super::{
    import::outcome as outcome_of,
    import_id::ImportId,
    outcome::Outcome,
    pause,
    target::{RegionArgs, Target},
    watching::{ReportArgs, Without, run_interruptible, watch_and_report},
};
use crate::output::{self, progress::Progress, report};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Args {
    /// The import's id
    #[arg(value_name = "ID", group = "which")]
    import_id: Option<ImportId>,
    /// All imports that are paused, without waiting for their end. Failed ones stay failed
    #[arg(long, group = "which", conflicts_with = "all")]
    all_paused: bool,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    #[command(flatten)]
    report: ReportArgs,
}

pub(super) async fn run(args: &Args, env: Environment) -> anyhow::Result<Outcome> {
    let Some(import_id) = &args.import_id else {
        let target =
            Target::open(Service::Region, &args.region.region, &args.region.data, false, env).await?;
        return target.ask(async |region| pause::unpause_all(region, args.report.output).await).await;
    };
    let without = Cell::new(Without::NotAsked);
    run_interruptible(&args.region, import_id, env, &without, async |region, import_id| {
        resume(region, args, import_id, &without).await
    })
    .await
}

async fn resume(
    region: &Client,
    args: &Args,
    import_id: Uuid,
    without: &Cell<Without>,
) -> anyhow::Result<Outcome> {
    let before = get(region, import_id).await?;
    without.set(Without::Unknown);
    let import = match before.pause {
        Some(_) => {
            let request = UnpauseImportsRequest { import_id: import_id.to_string(), all: false };
            region.ask(request, async |it, request| it.imports().unpause_imports(request).await).await?;
            Some(get(region, import_id).await?)
        }
        None => {
            let request = ResumeImportRequest { import_id: import_id.to_string() };
            region.ask(request, async |it, request| it.imports().resume_import(request).await).await?.import
        }
    };
    let progress = Progress::new(args.region.place());
    let wanted = &args.report;
    let import = watch_and_report(region, &args.region, import_id, import, wanted, without, progress).await?;
    let outcome = outcome(before.state(), &import);
    if matches!(outcome, Outcome::Failed | Outcome::WouldFail) {
        output::note(&report::failure(&import, &args.region.place(), None, args.report.is_on_screen()));
    }
    Ok(outcome)
}

/// How an import that was continued in a state has ended.
fn outcome(before: ImportState, import: &Import) -> Outcome {
    match import.state() {
        // What a pause has interrupted.
        ImportState::Reverted if before == ImportState::Reverting => Outcome::Done,
        _ => outcome_of(import),
    }
}

async fn get(region: &Client, import_id: Uuid) -> anyhow::Result<Import> {
    let request = GetImportRequest { import_id: import_id.to_string() };
    let answer = region.ask(request, async |it, request| it.imports().get_import(request).await).await?;
    answer.import.context("the region's answer has no import")
}

#[cfg(test)]
mod tests {
    use causeway_proto::relocation::v1::{FindingCount, Severity};

    use super::*;

    #[test]
    fn an_import_that_was_continued_ends_with_the_exit_code_of_watch() {
        let ended = |before, state: ImportState, dry_run, findings: i64| {
            let warnings =
                FindingCount { severity: Severity::Warning.into(), count: findings, ..Default::default() };
            let import =
                Import { state: state.into(), dry_run, finding_counts: vec![warnings], ..Default::default() };
            outcome(before, &import)
        };
        let planning = ImportState::Planning;
        assert_eq!(ended(planning, ImportState::Planned, true, 0), Outcome::Done);
        assert_eq!(ended(planning, ImportState::Planned, true, 1), Outcome::Warnings);
        assert_eq!(ended(planning, ImportState::Failed, true, 0), Outcome::WouldFail);
        assert_eq!(ended(planning, ImportState::Succeeded, false, 1), Outcome::Done);
        assert_eq!(ended(planning, ImportState::Failed, false, 0), Outcome::Failed);
        // Somebody else has reverted it meanwhile, or its revert was paused and is complete now.
        assert_eq!(ended(planning, ImportState::Reverted, false, 0), Outcome::Failed);
        assert_eq!(ended(ImportState::Reverting, ImportState::Reverted, false, 0), Outcome::Done);
    }
}
