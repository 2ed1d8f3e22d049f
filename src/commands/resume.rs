//! `causeway imports resume`.

use anyhow::Context as _;
use causeway::client::{Kind, Peer, unary};
use causeway_proto::{
    json::to_json,
    region::v1::{Import, ImportState, ResumeImportRequest},
};
use causeway_relocation::ambient::Ambient;
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

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The import's id
    #[arg(value_name = "ID")]
    import_id: Uuid,
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the import as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(args: &Args, ambient: Ambient) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let url = args.region.region.as_deref();
    let target = Target::open(Kind::Region, url, &args.region.data, false, ambient).await?;
    let outcome = tokio::select! {
        outcome = resume(&target.peer, args) => outcome,
        () = signals.next() => {
            let look = import::look_again(&args.region, args.import_id);
            output::note(&format!("interrupted; look at the import with\n  {look}"));
            Ok(Outcome::Failed)
        }
    };
    target.close().await;
    outcome
}

async fn resume(region: &Peer, args: &Args) -> anyhow::Result<Outcome> {
    let request = unary(ResumeImportRequest { import_id: args.import_id.to_string() });
    let answer = region.answer(region.imports().resume_import(request)).await?;
    let progress = Progress::new();
    let import =
        to_its_end(region, &args.region, args.import_id, answer.import, args.output, progress).await?;
    if import.state() == ImportState::Succeeded {
        return Ok(Outcome::Done);
    }
    output::note(&report::failure(&import));
    Ok(Outcome::Failed)
}

/// Watches an import until it has ended and reports on it.
pub(super) async fn to_its_end(
    region: &Peer,
    args: &RegionArgs,
    import_id: Uuid,
    first: Option<Import>,
    format: Format,
    mut progress: Progress,
) -> anyhow::Result<Import> {
    let import = import::watch(region, args, import_id, first, &mut progress).await?;
    // Nothing may be drawn between the lines of the report.
    drop(progress);
    match format {
        Format::Json => output::json(&[to_json(&import, "causeway.region.v1.Import")?])?,
        Format::Text => {
            // The import has ended as it has, whether its findings can be shown or not.
            let findings = imports::first_findings(region, &import).await.unwrap_or_else(|error| {
                output::note(&format!("the findings cannot be shown: {error}"));
                Vec::new()
            });
            output::text(&report::render(&import, &Findings::First(findings)))?;
        }
    }
    Ok(import)
}
