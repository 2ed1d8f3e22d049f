//! `causeway imports pause`.

use causeway_client::Client;
use causeway_proto::{
    json::to_json,
    region::v1::{PauseImportsRequest, PauseImportsResponse, UnpauseImportsRequest, UnpauseImportsResponse},
};

use super::{import_id::ImportId, outcome::Outcome, target::RegionArgs};
use crate::output::{self, Format};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Args {
    /// The import's id
    #[arg(value_name = "ID", group = "which")]
    import_id: Option<ImportId>,
    /// All imports that have not ended by now. One that is begun later is not paused
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn pause(region: &Client, args: &Args) -> anyhow::Result<Outcome> {
    let import_id = match &args.import_id {
        Some(id) => id.resolve(region).await?.to_string(),
        None => String::new(),
    };
    let request = PauseImportsRequest { import_id, all: args.all };
    let answer: PauseImportsResponse =
        region.ask(request, async |it, request| it.imports().pause_imports(request).await).await?;
    if args.output == Format::Json {
        output::json(&[to_json(&answer, "causeway.region.v1.PauseImportsResponse")?])?;
        return Ok(Outcome::Done);
    }
    let resume = |id: &String| args.region.place().command(["imports", "resume", id]);
    let mut text = String::new();
    for id in &answer.paused_import_ids {
        text.push_str(&format!("import {id} is paused; continue it with\n  {}\n", resume(id)));
    }
    for id in &answer.already_paused_import_ids {
        text.push_str(&format!("import {id} was paused before; continue it with\n  {}\n", resume(id)));
    }
    if text.is_empty() {
        text.push_str("no import is under way\n");
    }
    output::text(&text)?;
    Ok(Outcome::Done)
}

/// Ends the pause of all imports that are paused. Does not wait for their end.
pub(super) async fn unpause_all(region: &Client, format: Format) -> anyhow::Result<Outcome> {
    let request = UnpauseImportsRequest { import_id: String::new(), all: true };
    let answer: UnpauseImportsResponse =
        region.ask(request, async |it, request| it.imports().unpause_imports(request).await).await?;
    if format == Format::Json {
        output::json(&[to_json(&answer, "causeway.region.v1.UnpauseImportsResponse")?])?;
        return Ok(Outcome::Done);
    }
    let mut text: String =
        answer.unpaused_import_ids.iter().map(|id| format!("import {id} continues\n")).collect();
    if text.is_empty() {
        text.push_str("no import is paused\n");
    }
    output::text(&text)?;
    Ok(Outcome::Done)
}
