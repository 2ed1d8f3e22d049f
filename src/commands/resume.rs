//! `causeway imports resume`.

use causeway_client::Client;
use causeway_proto::region::v1::{ImportState, ResumeImportRequest};
use causeway_silo::env::Environment;
use uuid::Uuid;

use super::{
    outcome::Outcome,
    target::RegionArgs,
    watching::{run_interruptible, watch_and_report},
};
use crate::output::{self, Format, progress::Progress, report};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The import's id
    #[arg(value_name = "ID")]
    import_id: Uuid,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    /// Text for people, or the import as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(args: &Args, env: Environment) -> anyhow::Result<Outcome> {
    let interrupted = "interrupted; look at the import with";
    run_interruptible(&args.region, args.import_id, env, interrupted, async |region| {
        resume(region, args).await
    })
    .await
}

async fn resume(region: &Client, args: &Args) -> anyhow::Result<Outcome> {
    let request = region.unary(ResumeImportRequest { import_id: args.import_id.to_string() });
    let answer = region.answer(region.imports().resume_import(request)).await?;
    let progress = Progress::new(args.region.place());
    let import =
        watch_and_report(region, &args.region, args.import_id, answer.import, args.output, progress).await?;
    if import.state() == ImportState::Succeeded {
        return Ok(Outcome::Done);
    }
    output::note(&report::failure(&import, &args.region.place(), None));
    Ok(Outcome::Failed)
}
