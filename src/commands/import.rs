//! `causeway import organizations`.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use causeway_client::{Backoff, Client, UploadError};
use causeway_proto::{
    region::v1::{Import, ImportHeader, ImportOrganizationsResponse, ImportState, OrganizationFilter},
    relocation::v1::{ErrorReason, FindingCount, ImportFlags, Scope, Severity},
};
use causeway_relocation::meant;
use causeway_silo::env::Environment;
use clap::Subcommand;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::{
    findings_file, keys,
    outcome::Outcome,
    outgoing::Outgoing,
    signals::Signals,
    target::{RegionArgs, Target},
    watching::{ReportArgs, Without, show_command, watch_and_report},
};
use crate::output::{self, place::Origin, progress::Progress, report};

/// How many times an upload is tried before the command gives up.
const UPLOAD_ATTEMPTS: i64 = 5;
const UPLOAD_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(4) };
/// How often to show the progress of an upload.
const UPLOAD_TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Import the organizations of an export with everything that belongs to them, and wait until that is done
    Organizations(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The export: a JSON file, or an encrypted one. An encrypted one needs a region with the private key, or
    /// --decrypt-with
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private RSA key that the export was encrypted for: a PEM file, without a passphrase. The command
    /// authenticates the export, then sends it encrypted for the region's own key. Only a region without a key gets it
    /// decrypted
    #[arg(long, value_name = "PEM")]
    pub(super) decrypt_with: Option<PathBuf>,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    /// Import only these organizations: their slugs in the export, separated by commas
    #[arg(long, value_name = "SLUGS", value_parser = slug_filter)]
    pub(super) filter_org_slugs: Option<OrganizationFilter>,
    /// Merge an imported user into the existing user with the same username; otherwise the imported username gets a
    /// suffix
    #[arg(long)]
    merge_users: bool,
    /// Leave the organizations hidden at the end, until somebody approves them
    #[arg(long)]
    hide_organizations: bool,
    /// Write nothing, and show what would happen: every slug, every record that would be dropped, every name that would
    /// be changed. Exit code 0 if all would arrive, 11 if there are warnings, 10 if the import would fail
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The id of this import. The same id with the same file is the same import: it is started if it is new, and joined
    /// if it exists [default: a new id]
    #[arg(long, value_name = "UUID")]
    pub(super) import_id: Option<Uuid>,
    /// Write all findings to this file when the import has ended, one per line as proto3 JSON. Replaces an existing
    /// file
    #[arg(long, value_name = "FILE")]
    findings_file: Option<PathBuf>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Refuses a filter without slugs: it would import nothing, which is never intended. Probably a shell
/// variable was empty.
fn slug_filter(text: &str) -> Result<OrganizationFilter, &'static str> {
    let slugs: Vec<String> =
        text.split(',').map(str::trim).filter(|slug| !slug.is_empty()).map(str::to_owned).collect();
    if slugs.is_empty() {
        return Err("it names no slug; without the option, all organizations are imported");
    }
    Ok(OrganizationFilter { slugs })
}

impl Args {
    /// The command that imports the file with the same options, or with `dry_run` only checks it.
    pub(super) fn command(&self, dry_run: bool, import_id: Option<Uuid>) -> String {
        let filter = self.filter_org_slugs.as_ref().map(|filter| filter.slugs.join(","));
        self.command_with(filter, dry_run, import_id)
    }

    /// The command that imports the file once more after `import` has failed. If its filter matches nothing, it has the
    /// slugs that were probably meant, and without any a word to replace.
    fn again(&self, import: &Import) -> String {
        let failure = import.failure.as_ref();
        let filter = failure.filter(|it| it.reason() == ErrorReason::FilterMatchesNothing).map(|failure| {
            let meant = meant::read(&failure.message);
            if meant.is_empty() { "SLUGS".to_owned() } else { meant.join(",") }
        });
        match filter {
            Some(_) => self.command_with(filter, self.dry_run, None),
            None => self.command(self.dry_run, None),
        }
    }

    fn command_with(&self, filter: Option<String>, dry_run: bool, import_id: Option<Uuid>) -> String {
        let mut words =
            vec!["import".to_owned(), "organizations".to_owned(), self.file.display().to_string()];
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.to_owned(), value]);
            }
        };
        add("--decrypt-with", self.decrypt_with.as_ref().map(|key| key.display().to_string()));
        add("--filter-org-slugs", filter);
        add("--import-id", import_id.map(|id| id.to_string()));
        for (name, is_set) in [
            ("--merge-users", self.merge_users),
            ("--hide-organizations", self.hide_organizations),
            ("--dry-run", dry_run),
        ] {
            if is_set {
                words.push(name.to_owned());
            }
        }
        self.region.place().command(words.iter().map(String::as_str))
    }

    /// The local data directory that the import goes into; `None` if it goes to a region at a URL.
    fn local(&self) -> Option<String> {
        if !self.region.region.is_empty() {
            return None;
        }
        let dir = &self.region.data.data_dir;
        Some(std::path::absolute(dir).as_ref().unwrap_or(dir).display().to_string())
    }

    /// The last note of an import into local data, for somebody who expected a region to have it. One that was
    /// interrupted may have gone nowhere, and has a note of its own.
    pub(super) fn went_into(&self, outcome: Outcome) -> Option<String> {
        if matches!(outcome, Outcome::Interrupted | Outcome::Terminated) {
            return None;
        }
        let went = if self.dry_run { "this was checked against" } else { "this went into" };
        self.local().map(|dir| {
            format!(
                "{went} the local data directory {dir}, because no --region was given; --region URL imports into a region \
                 that runs"
            )
        })
    }
}

pub(super) async fn run(args: Args, origin: Origin, env: Environment) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let import_id = args.import_id.unwrap_or_else(|| env.uuid());
    let what = if args.dry_run { "dry run" } else { "import" };
    let into = if args.dry_run { "checked against" } else { "into" };
    let place = origin.of(&args.region.place());
    output::note(&format!("{what} {import_id} of {}, {into} {place}", args.file.display()));
    if let Some(file) = &args.findings_file {
        findings_file::check(file)?;
    }

    let prepare = async {
        let key = args.decrypt_with.as_deref().map(keys::private).transpose()?;
        let file = Outgoing::read(&args.file, key.as_ref(), &env).await?;
        let target = Target::open_region(&args.region, true, key, env.clone()).await?;
        match file.for_region(&target.client, &env).await {
            Ok(file) => Ok((file, target)),
            Err(error) => {
                target.close().await;
                Err(error.context(not_imported(&args.file)))
            }
        }
    };
    let (file, target) = tokio::select! {
        prepared = prepare => prepared?,
        outcome = signals.next() => {
            output::note("interrupted; nothing was begun");
            return Ok(outcome);
        }
    };

    // Once the region has the whole file, the import goes on without this command.
    let without = Cell::new(Without::NotAsked);
    let outcome = tokio::select! {
        outcome = import(&target.client, &args, &file, import_id, &env, &without) => outcome,
        outcome = signals.next() => {
            output::note(&interrupted_note(&args, import_id, without.get()));
            Ok(outcome)
        }
    };
    tokio::select! {
        () = target.close() => {}
        _ = signals.next() => output::note("stopped at once"),
    }
    if let Some(note) = outcome.as_ref().ok().and_then(|outcome| args.went_into(*outcome)) {
        output::note(&note);
    }
    outcome
}

/// The note for somebody who interrupts the command.
fn interrupted_note(args: &Args, import_id: Uuid, without: Without) -> String {
    let again = args.command(args.dry_run, Some(import_id));
    let (place, id) = (args.region.place(), import_id.to_string());
    match without {
        Without::NotAsked => {
            return format!(
                "interrupted before the region had taken the file; unless it got all of it, nothing was begun. Sending \
                 it again is safe:\n  {again}"
            );
        }
        Without::StaysPaused => return without.told(&place, &id),
        Without::Unknown | Without::GoesOn => {}
    }
    let look = show_command(&place, &id);
    match (args.region.region.is_empty(), &args.decrypt_with) {
        (false, _) => format!("interrupted; the import goes on in the region. Look at it with\n  {look}"),
        (true, Some(_)) => {
            format!("interrupted; the import is kept, encrypted. See it to its end with\n  {again}")
        }
        (true, None) => format!(
            "interrupted; the import is kept and goes on with the next command on this data. Look at it with\n  \
             {look}\nor see it to its end with\n  {again}"
        ),
    }
}

async fn import(
    region: &Client,
    args: &Args,
    file: &Outgoing,
    import_id: Uuid,
    env: &Environment,
    without: &Cell<Without>,
) -> anyhow::Result<Outcome> {
    let header = ImportHeader {
        import_id: import_id.to_string(),
        scope: Scope::Organization.into(),
        filter: args.filter_org_slugs.clone(),
        flags: Some(ImportFlags {
            merge_users: args.merge_users,
            hide_organizations: args.hide_organizations,
        }),
        dry_run: args.dry_run,
        ..Default::default()
    };
    let mut progress = Progress::new(args.region.place());
    let response =
        send(region, file, &header, env, &mut progress).await.with_context(|| not_imported(&args.file))?;
    without.set(Without::GoesOn);
    if response.joined {
        progress.note(match response.import.as_ref().map(Import::state) {
            Some(ImportState::Reverted | ImportState::Reverting) => {
                "this import has been reverted, and nothing is imported; to import the file again, give another --import-id \
                 or none"
            }
            _ => "the region has this import already; it is watched",
        });
    }
    let (first, wanted) = (response.import, &args.report);
    let import = watch_and_report(region, &args.region, import_id, first, wanted, without, progress).await?;
    let outcome = outcome(&import);
    match outcome {
        Outcome::Failed | Outcome::WouldFail => {
            let (again, told) = (args.again(&import), args.report.is_on_screen());
            output::note(&report::failure(&import, &args.region.place(), Some(&again), told));
        }
        _ if args.dry_run => {
            output::note(&format!("nothing was written. To import it:\n  {}", args.command(false, None)));
        }
        _ => {}
    }
    if let Some(warning) = report::nothing_imported(&import) {
        output::note(&warning);
    }
    if let Some(file) = &args.findings_file
        && findings_file::save(region, &import.import_id, file).await? != Outcome::Done
    {
        return Ok(Outcome::Failed);
    }
    Ok(outcome)
}

/// The outcome of the command for an import that has ended.
pub(super) fn outcome(import: &Import) -> Outcome {
    let warned = |count: &FindingCount| count.severity() != Severity::Info && count.count > 0;
    match import.state() {
        ImportState::Succeeded => Outcome::Done,
        ImportState::Planned if import.finding_counts.iter().any(warned) => Outcome::Warnings,
        ImportState::Planned => Outcome::Done,
        _ if import.dry_run => Outcome::WouldFail,
        _ => Outcome::Failed,
    }
}

fn not_imported(file: &Path) -> String {
    format!("{} was not imported", file.display())
}

/// Whether the same upload may succeed a little later.
fn may_pass(error: &UploadError) -> bool {
    // A URL or a certificate that is wrong does not mend itself.
    let of_tls = matches!(error, UploadError::Call(call) if call.is_of_tls());
    error.is_transient() && !of_tls
}

/// Sends the file, and repeats that if the connection breaks: the same id with the same content is always the same
/// import.
async fn send(
    region: &Client,
    file: &Outgoing,
    header: &ImportHeader,
    env: &Environment,
    progress: &mut Progress,
) -> Result<ImportOrganizationsResponse, UploadError> {
    let sent = Arc::new(AtomicU64::new(0));
    let mut attempt = 1;
    loop {
        let mut ticks = interval(UPLOAD_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut upload = std::pin::pin!(file.upload(region, header, &sent));
        let uploaded = loop {
            tokio::select! {
                uploaded = &mut upload => break uploaded,
                _ = ticks.tick() => {
                    progress.sending(sent.load(Ordering::Relaxed), file.size(), Instant::now());
                }
            }
        };
        match uploaded {
            Err(error) if may_pass(&error) && attempt < UPLOAD_ATTEMPTS => {
                progress.note(&format!("the upload broke off and starts again: {error}"));
                let pause = UPLOAD_BACKOFF.after(attempt, |bound| env.below(bound));
                sleep(pause.max(error.retry_delay().unwrap_or_default())).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}
