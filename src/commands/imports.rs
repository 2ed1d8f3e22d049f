//! `causeway imports`.

use std::path::PathBuf;

use anyhow::Context as _;
use causeway_client::{CallError, Client, Service, collect_pages};
use causeway_proto::{
    json::to_json,
    limits::{MAX_KEYS_PAGE, MAX_PAGE},
    region::v1::{
        GetImportRequest, GetImportResponse, ListFindingsRequest, ListFindingsResponse, ListImportsRequest,
        ListImportsResponse, ListMappedKeysRequest,
    },
};
use causeway_silo::env::Environment;
use clap::Subcommand;
use uuid::Uuid;

use super::{
    findings_file,
    outcome::Outcome,
    pause, resume, revert,
    target::{RegionArgs, Target},
    watching::first_findings,
};
use crate::output::{
    self, Format, lists,
    place::CommandTarget,
    report::{self, Findings},
};

/// Entries per page: the most that the region allows.
const PAGE_SIZE: i32 = MAX_PAGE as i32;
/// Keys per page: the most that the region allows.
const KEYS_PAGE_SIZE: i32 = MAX_KEYS_PAGE as i32;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the imports of a region, the newest first
    List(List),
    /// Show one import as it is now: organizations, records by model, findings
    Show(Show),
    /// List the new primary key of each old one, by model in the order of writing
    Keys(Keys),
    /// Pause imports: they keep what they have written, and no process works on them until they are resumed
    Pause(pause::Args),
    /// Resume an import that is paused, or that has failed once the cause is gone, and wait until it has ended
    Resume(resume::Args),
    /// Revert an import: delete what it inserted, in the region and in control, and free its slugs. Asks first
    Revert(revert::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The import's id
    #[arg(value_name = "ID")]
    pub(super) import_id: Uuid,
    /// Show all findings, not only the first of each kind; as JSON, they are a second message
    #[arg(long)]
    findings: bool,
    /// Write all findings to this file, one per line as proto3 JSON. Replaces an existing file
    #[arg(long, value_name = "FILE")]
    findings_file: Option<PathBuf>,
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    /// The import's id
    #[arg(value_name = "ID")]
    import_id: Uuid,
    /// List only the keys of this model, e.g. sentry.organization
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or each page of the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

impl Command {
    /// Where suggested commands go.
    pub(super) fn place(&self) -> CommandTarget {
        match self {
            Self::List(List { region, .. })
            | Self::Show(Show { region, .. })
            | Self::Keys(Keys { region, .. })
            | Self::Pause(pause::Args { region, .. })
            | Self::Resume(resume::Args { region, .. })
            | Self::Revert(revert::Args { region, .. }) => region.place(),
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let open = async |args: &RegionArgs, env| {
        Target::open(Service::Region, args.region.as_deref(), &args.data, false, env).await
    };
    match &command {
        Command::List(args) => {
            open(&args.region, env).await?.ask(async |region| list(region, args).await).await
        }
        Command::Show(args) => {
            open(&args.region, env).await?.ask(async |region| show(region, args).await).await
        }
        Command::Keys(args) => {
            open(&args.region, env).await?.ask(async |region| keys(region, args).await).await
        }
        Command::Pause(args) => {
            open(&args.region, env).await?.ask(async |region| pause::pause(region, args).await).await
        }
        Command::Resume(args) => resume::run(args, env).await,
        Command::Revert(args) => revert::run(args, env).await,
    }
}

async fn list(region: &Client, args: &List) -> anyhow::Result<Outcome> {
    let all: ListImportsResponse = collect_pages(async |page_token| {
        let request = region.unary(ListImportsRequest { page_size: PAGE_SIZE, page_token });
        region.answer(region.imports().list_imports(request)).await
    })
    .await?;
    match args.output {
        Format::Json => output::json(&[to_json(&all, "causeway.region.v1.ListImportsResponse")?])?,
        Format::Text => output::text(&lists::imports(&all))?,
    }
    Ok(Outcome::Done)
}

async fn show(region: &Client, args: &Show) -> anyhow::Result<Outcome> {
    if let Some(file) = &args.findings_file {
        findings_file::check(file)?;
    }
    let import_id = args.import_id.to_string();
    let request = region.unary(GetImportRequest { import_id: import_id.clone() });
    let answer: GetImportResponse = region.answer(region.imports().get_import(request)).await?;
    let all = match args.findings {
        true => Some(all_findings(region, &import_id).await?),
        false => None,
    };
    match (args.output, all) {
        (Format::Json, None) => output::json(&[to_json(&answer, "causeway.region.v1.GetImportResponse")?])?,
        (Format::Json, Some(all)) => output::json(&[
            to_json(&answer, "causeway.region.v1.GetImportResponse")?,
            to_json(&all, "causeway.region.v1.ListFindingsResponse")?,
        ])?,
        (Format::Text, all) => {
            let import = answer.import.context("the region's answer has no import")?;
            let findings = match all {
                Some(all) => Findings::All(all.findings),
                None => Findings::First(first_findings(region, &import).await?),
            };
            output::text(&report::render(&import, &findings, &args.region.place()))?;
        }
    }
    match &args.findings_file {
        Some(file) => findings_file::save(region, &import_id, file).await,
        None => Ok(Outcome::Done),
    }
}

/// Prints page by page, because an import may have millions of keys.
async fn keys(region: &Client, args: &Keys) -> anyhow::Result<Outcome> {
    let mut page_token = String::new();
    loop {
        let request = region.unary(ListMappedKeysRequest {
            import_id: args.import_id.to_string(),
            model: args.model.clone().unwrap_or_default(),
            page_size: KEYS_PAGE_SIZE,
            page_token,
        });
        let page = region.answer(region.imports().list_mapped_keys(request)).await?;
        match args.output {
            Format::Json => output::json(&[to_json(&page, "causeway.region.v1.ListMappedKeysResponse")?])?,
            Format::Text => output::text(&lists::keys(&page))?,
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Outcome::Done);
        }
    }
}

async fn all_findings(region: &Client, import_id: &str) -> Result<ListFindingsResponse, CallError> {
    collect_pages(async |page_token| {
        let request = region.unary(ListFindingsRequest {
            import_id: import_id.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        });
        region.answer(region.imports().list_findings(request)).await
    })
    .await
}
