//! `causeway imports`.

use std::{cell::Cell, path::PathBuf};

use anyhow::Context as _;
use causeway_client::{CallError, Client, Service, collect_pages};
use causeway_proto::{
    json::to_json,
    limits::MAX_KEYS_PAGE,
    region::v1::{
        GetImportRequest, GetImportResponse, ImportState, ListFindingsRequest, ListFindingsResponse,
        ListImportsRequest, ListImportsResponse, ListMappedKeysRequest,
    },
    time::from_proto,
};
use causeway_silo::env::Environment;
use chrono::{DateTime, Utc};
use clap::{
    Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use uuid::Uuid;

use super::{
    PAGE_SIZE, findings_file,
    import::outcome as outcome_of,
    import_id::ImportId,
    moment::{Moment, moment},
    outcome::Outcome,
    pause, resume, revert,
    target::{RegionArgs, Target},
    watching::{ReportArgs, Without, first_findings, run_interruptible, watch_and_report},
};
use crate::output::{
    self, Format, Reader, lists,
    place::CommandTarget,
    progress::Progress,
    report::{self, Findings},
    terminal::Width,
};

/// Keys per page: the most that the region allows.
const KEYS_PAGE_SIZE: i32 = MAX_KEYS_PAGE as i32;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the imports of a region, the newest first
    List(List),
    /// Show one import as it is now: organizations, records by model, findings
    Show(Show),
    /// Watch an import until it has ended, and show the report. Exit code 1 if it fails, 10 and 11 as those of a dry run
    Watch(Watch),
    /// List the new primary key of each old one, by model in the order of writing
    Keys(Keys),
    /// Pause imports: they keep what they have written, and no process works on them until they are resumed
    Pause(pause::Args),
    /// Resume an import that is paused, or that has failed once the cause is gone, and wait until it has ended. Exit
    /// codes as those of watch, and 0 if a revert that was paused is complete
    Resume(resume::Args),
    /// Revert an import: delete what it inserted, in the region and in control, and free its slugs. Asks first
    Revert(revert::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only imports in one of these states, separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state())]
    pub(super) state: Vec<ImportState>,
    /// Only imports begun since then: a time such as 2026-11-30 or 2026-11-30T08:00:00Z, or how long ago, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// At most so many imports, the newest ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
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
    pub(super) import_id: ImportId,
    /// Show all findings, not only the first of each kind; as JSON, they are a second message
    #[arg(long)]
    findings: bool,
    /// Write all findings to this file, one per line as proto3 JSON. Replaces an existing file
    #[arg(long, value_name = "FILE")]
    findings_file: Option<PathBuf>,
    #[command(flatten)]
    region: RegionArgs,
    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// The import's id
    #[arg(value_name = "ID")]
    import_id: ImportId,
    #[command(flatten)]
    region: RegionArgs,
    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    /// The import's id
    #[arg(value_name = "ID")]
    import_id: ImportId,
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
            | Self::Watch(Watch { region, .. })
            | Self::Keys(Keys { region, .. })
            | Self::Pause(pause::Args { region, .. })
            | Self::Resume(resume::Args { region, .. })
            | Self::Revert(revert::Args { region, .. }) => region.place(),
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let open = async |args: &RegionArgs, env| {
        Target::open(Service::Region, &args.region, &args.data, false, env).await
    };
    match &command {
        Command::List(args) => {
            let since = args.since.map(|since| since.time(env.now())).transpose()?;
            open(&args.region, env).await?.ask(async |region| list(region, args, since).await).await
        }
        Command::Watch(args) => {
            let without = Cell::new(Without::Unknown);
            run_interruptible(&args.region, &args.import_id, env, &without, async |region, import_id| {
                watch(region, args, import_id, &without).await
            })
            .await
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

/// The names of states, as they are shown.
fn state() -> impl TypedValueParser<Value = ImportState> {
    PossibleValuesParser::new(ImportState::ALL.map(ImportState::short_name))
        .try_map(|name| ImportState::from_short_name(&name).ok_or("there is no such state"))
}

/// Lists page by page, the newest first, and stops at the first import that began too early.
async fn list(region: &Client, args: &List, since: Option<DateTime<Utc>>) -> anyhow::Result<Outcome> {
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut all = ListImportsResponse::default();
    let mut page_token = String::new();
    'pages: loop {
        let request = ListImportsRequest { page_size: PAGE_SIZE, page_token };
        let page = region.ask(request, async |it, request| it.imports().list_imports(request).await).await?;
        for import in page.imports {
            let begun = import.create_time.as_ref().and_then(from_proto);
            if since.is_some_and(|since| begun.is_some_and(|begun| begun < since))
                || all.imports.len() >= limit
            {
                break 'pages;
            }
            if args.state.is_empty() || args.state.contains(&import.state()) {
                all.imports.push(import);
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match args.output {
        Format::Json => output::json(&[to_json(&all, "causeway.region.v1.ListImportsResponse")?])?,
        Format::Text => output::text(&lists::imports(&all, Width::of_list()))?,
    }
    // Without a certificate there are no importers.
    if all.imports.is_empty() && !args.region.data.tls.words().is_empty() {
        output::note("there is no such import, or none of yours: an importer sees only its own");
    }
    Ok(Outcome::Done)
}

async fn watch(
    region: &Client,
    args: &Watch,
    import_id: Uuid,
    without: &Cell<Without>,
) -> anyhow::Result<Outcome> {
    let place = args.region.place();
    let progress = Progress::new(place.clone());
    let import =
        watch_and_report(region, &args.region, import_id, None, &args.report, without, progress).await?;
    let outcome = outcome_of(&import);
    if matches!(outcome, Outcome::Failed | Outcome::WouldFail) {
        output::note(&report::failure(&import, &place, None, args.report.is_on_screen()));
    }
    Ok(outcome)
}

async fn show(region: &Client, args: &Show) -> anyhow::Result<Outcome> {
    if let Some(file) = &args.findings_file {
        findings_file::check(file)?;
    }
    let import_id = args.import_id.resolve(region).await?.to_string();
    let request = GetImportRequest { import_id: import_id.clone() };
    let answer: GetImportResponse =
        region.ask(request, async |it, request| it.imports().get_import(request).await).await?;
    let all = match args.findings {
        true => Some(all_findings(region, &import_id).await?),
        false => None,
    };
    match (args.report.output, all) {
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
            output::text(&report::render(&import, &findings, &args.region.place(), args.report.shown()))?;
        }
    }
    match &args.findings_file {
        Some(file) => findings_file::save(region, &import_id, file).await,
        None => Ok(Outcome::Done),
    }
}

/// Prints page by page, because an import may have millions of keys.
async fn keys(region: &Client, args: &Keys) -> anyhow::Result<Outcome> {
    let import_id = args.import_id.resolve(region).await?.to_string();
    let mut page_token = String::new();
    loop {
        let request = ListMappedKeysRequest {
            import_id: import_id.clone(),
            model: args.model.clone().unwrap_or_default(),
            page_size: KEYS_PAGE_SIZE,
            page_token,
        };
        let page =
            region.ask(request, async |it, request| it.imports().list_mapped_keys(request).await).await?;
        let reader = match args.output {
            Format::Json => {
                output::json_page(&[to_json(&page, "causeway.region.v1.ListMappedKeysResponse")?])?
            }
            Format::Text => output::text_page(&lists::keys(&page, Width::of_list()))?,
        };
        page_token = page.next_page_token;
        if page_token.is_empty() || reader == Reader::Gone {
            return Ok(Outcome::Done);
        }
    }
}

async fn all_findings(region: &Client, import_id: &str) -> Result<ListFindingsResponse, CallError> {
    collect_pages(async |page_token| {
        let request = ListFindingsRequest {
            import_id: import_id.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        region.ask(request, async |it, request| it.imports().list_findings(request).await).await
    })
    .await
}
