//! `causeway imports resume`.

use anyhow::Context as _;
use causeway_client::{Client, Service};
use causeway_proto::region::v1::{
    GetImportRequest, Import, ImportState, ResumeImportRequest, UnpauseImportsRequest,
};
use causeway_silo::env::Environment;
use uuid::Uuid;

use super::{
    outcome::Outcome,
    pause,
    target::{RegionArgs, Target},
    watching::{ReportArgs, run_interruptible, watch_and_report},
};
use crate::output::{self, progress::Progress, report};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Args {
    /// The import's id
    #[arg(value_name = "ID", group = "which")]
    import_id: Option<Uuid>,
    /// All imports that are paused, without waiting for their end. Failed ones stay failed
    #[arg(long, group = "which")]
    all_paused: bool,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    #[command(flatten)]
    report: ReportArgs,
}

pub(super) async fn run(args: &Args, env: Environment) -> anyhow::Result<Outcome> {
    let Some(import_id) = args.import_id else {
        let target =
            Target::open(Service::Region, &args.region.region, &args.region.data, false, env).await?;
        return target.ask(async |region| pause::unpause_all(region, args.report.output).await).await;
    };
    let interrupted = "interrupted; look at the import with";
    run_interruptible(&args.region, import_id, env, interrupted, async |region| {
        resume(region, args, import_id).await
    })
    .await
}

async fn resume(region: &Client, args: &Args, import_id: Uuid) -> anyhow::Result<Outcome> {
    let before = get(region, import_id).await?;
    let import = match before.pause {
        Some(_) => {
            let request =
                region.unary(UnpauseImportsRequest { import_id: import_id.to_string(), all: false });
            region.answer(region.imports().unpause_imports(request)).await?;
            Some(get(region, import_id).await?)
        }
        None => {
            let request = region.unary(ResumeImportRequest { import_id: import_id.to_string() });
            region.answer(region.imports().resume_import(request)).await?.import
        }
    };
    let progress = Progress::new(args.region.place());
    let import = watch_and_report(region, &args.region, import_id, import, &args.report, progress).await?;
    let ended_well = match import.state() {
        ImportState::Succeeded => true,
        // What a pause has interrupted.
        ImportState::Planned => import.dry_run,
        ImportState::Reverted => before.state() == ImportState::Reverting,
        _ => false,
    };
    if ended_well {
        return Ok(Outcome::Done);
    }
    output::note(&report::failure(&import, &args.region.place(), None));
    Ok(Outcome::Failed)
}

async fn get(region: &Client, import_id: Uuid) -> anyhow::Result<Import> {
    let request = region.unary(GetImportRequest { import_id: import_id.to_string() });
    let answer = region.answer(region.imports().get_import(request)).await?;
    answer.import.context("the region's answer has no import")
}
