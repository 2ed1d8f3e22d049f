//! The tree of subcommands, one file each.

mod audit;
mod certs;
mod completions;
mod config;
mod control;
mod decrypt;
pub(crate) mod doctor;
mod encrypt;
mod export;
mod findings_file;
mod health;
mod import;
mod import_id;
mod imports;
mod keys;
pub(crate) mod log;
mod man;
mod moment;
mod organizations;
mod outcome;
mod outgoing;
mod pause;
mod read_database;
mod reconcile;
mod region;
mod regions;
mod restored;
mod resume;
mod revert;
mod server;
mod signals;
mod slugs;
mod target;
#[cfg(test)]
mod tests;
mod throttle;
mod throttle_args;
mod tls;
mod traces;
mod version;
mod watching;

use causeway_proto::limits::MAX_PAGE;
use causeway_silo::env::Environment;
use clap::{CommandFactory as _, Parser, Subcommand};
use tracing::Instrument as _;

use crate::{
    output::{
        self,
        place::{CommandTarget, Origin},
        terminal::Color,
    },
    settings::effective::{self, Setting},
};

pub(crate) use outcome::Outcome;

/// Entries per page of a list: the most that the services allow.
const PAGE_SIZE: i32 = MAX_PAGE as i32;

/// Imports organizations from an export file into one region, with slugs that are unique across all regions.
#[derive(Debug, Parser)]
#[command(name = "causeway", version = version::SHORT, long_version = version::LONG)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: log::LogArgs,
    #[command(flatten)]
    traces: traces::TraceArgs,
    /// When to use colors: on a terminal unless NO_COLOR is set, always, or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        env = "CAUSEWAY_COLOR"
    )]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the control: the one service that owns what must be unique across all regions.
    Control(Box<control::Args>),
    /// Serve a region: it owns organizations and runs imports.
    Region(Box<region::Args>),
    /// Import an export.
    #[command(subcommand)]
    Import(import::Command),
    /// Look into an export without importing it.
    #[command(subcommand)]
    Export(export::Command),
    /// List and resolve the slugs of all regions, rename organizations, and free slugs that a rename or an import has
    /// left reserved.
    #[command(subcommand)]
    Slugs(slugs::Command),
    /// Manage the regions that control knows.
    #[command(subcommand)]
    Regions(regions::Command),
    /// List and show organizations, and make those visible that an import has left hidden.
    #[command(subcommand)]
    Organizations(organizations::Command),
    /// List, show, watch, pause, resume and revert the imports of a region.
    #[command(subcommand)]
    Imports(imports::Command),
    /// Show and set what holds the imports of a region back.
    #[command(subcommand)]
    Throttle(throttle::Command),
    /// Compare the organizations of a region with what control has stored for them. Exit code 10 if differences are
    /// left.
    Reconcile(reconcile::Args),
    /// Prepare a database of control that was put back from an older copy, before control serves it: nothing that it may
    /// have given out after the copy was made is given out twice, and every region and router reads all slugs again from the start
    Restored(restored::Args),
    /// List and check the audit log of a service: who changed what.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Ask a service whether it serves. Exit code 0 if it does, and 1 if not.
    Health(health::Args),
    /// Check the configuration of a server.
    #[command(subcommand)]
    Config(config::Command),
    /// Check what a server needs on this machine, and whether running services are well. Says what to do about each fault.
    /// Exit code 10 if something does not work, 11 if something should be looked at.
    Doctor(Box<doctor::Args>),
    /// Make certificates for development: a CA, and certificates of services and callers.
    #[command(subcommand)]
    Certs(certs::Command),
    /// Encrypt an export for the owner of a private key.
    Encrypt(encrypt::Args),
    /// Decrypt an encrypted export.
    Decrypt(decrypt::Args),
    /// Print what makes a shell complete the command.
    Completions(completions::Args),
    /// Write the manual pages.
    Man(man::Args),
}

impl Cli {
    /// Where suggested commands go; `None` if the command asks no service.
    pub(crate) fn place(&self) -> Option<CommandTarget> {
        match &self.command {
            Command::Import(import::Command::Organizations(args)) => Some(args.region.place()),
            Command::Slugs(command) => Some(command.place()),
            Command::Regions(command) => Some(command.control().place()),
            Command::Organizations(command) => Some(command.place()),
            Command::Imports(command) => Some(command.place()),
            Command::Throttle(command) => Some(command.place()),
            Command::Reconcile(args) => Some(args.region.place()),
            Command::Audit(command) => Some(command.place()),
            Command::Control(_)
            | Command::Region(_)
            | Command::Health(_)
            | Command::Restored(_)
            | Command::Config(_)
            | Command::Doctor(_)
            | Command::Certs(_)
            | Command::Encrypt(_)
            | Command::Decrypt(_)
            | Command::Export(_)
            | Command::Completions(_)
            | Command::Man(_) => None,
        }
    }

    /// From now on, colors are used as the options say.
    pub(crate) fn apply_color(&self) {
        self.color.apply();
    }
}

impl Command {
    /// Whether the command serves until a signal stops it, rather than doing one thing.
    fn is_server(&self) -> bool {
        matches!(self, Self::Control(_) | Self::Region(_))
    }
}

/// Checks the settings of a server that clap cannot check: the database URL, and settings against each other.
///
/// # Errors
/// If the server could not be started with them.
pub(crate) fn check(cli: &Cli, reads_files: bool) -> anyhow::Result<()> {
    use config::{Command::Check, Server};
    match &cli.command {
        Command::Control(args) => args.check(reads_files),
        Command::Region(args) => args.check(reads_files),
        Command::Config(Check(args)) => match &args.server {
            Some(Server::Control(args)) => args.check(reads_files),
            Some(Server::Region(args)) => args.check(reads_files),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Runs the command. `servers` are those that the file of `causeway doctor` has, and `origin` is what said where the
/// command goes.
pub(crate) async fn run(
    cli: Cli,
    settings: &[Setting],
    servers: Vec<doctor::FileServer>,
    origin: Origin,
) -> anyhow::Result<Outcome> {
    let env = Environment::system();
    #[cfg(feature = "failpoints")]
    let env = crate::failpoints::armed(env)?;
    let is_check = matches!(cli.command, Command::Config(_));
    if cli.command.is_server() || is_check || matches!(cli.command, Command::Doctor(_)) {
        effective::warn_of_unknown_variables(&Cli::command());
    }
    if cli.command.is_server() || is_check {
        check(&cli, is_check)?;
    }
    if cli.command.is_server() {
        effective::log(settings);
    }
    // An import says it together with its id and its file.
    if let Some(place) = cli.place().filter(|_| !matches!(cli.command, Command::Import(_))) {
        let verb = if place.is_embedded() { "using" } else { "asking" };
        output::note(&format!("{verb} {}", origin.of(&place)));
    }
    let span = cli.command.span();
    let outcome = dispatch(cli.command, env, settings, servers, origin).instrument(span.clone()).await;
    traces::ended(&span, &outcome);
    outcome
}

async fn dispatch(
    command: Command,
    env: Environment,
    settings: &[Setting],
    servers: Vec<doctor::FileServer>,
    origin: Origin,
) -> anyhow::Result<Outcome> {
    match command {
        Command::Control(args) => control::run(*args, env).await,
        Command::Region(args) => region::run(*args, env).await,
        Command::Import(import::Command::Organizations(args)) => import::run(args, origin, env).await,
        Command::Slugs(command) => slugs::run(command, env).await,
        Command::Regions(command) => regions::run(command, env).await,
        Command::Organizations(command) => organizations::run(command, env).await,
        Command::Imports(command) => imports::run(command, env).await,
        Command::Throttle(command) => throttle::run(command, env).await,
        Command::Reconcile(args) => reconcile::run(args, env).await,
        Command::Restored(args) => restored::run(&args, env).await,
        Command::Audit(command) => audit::run(command, env).await,
        Command::Health(args) => health::run(args, env).await,
        Command::Config(config::Command::Check(_)) => config::run(settings),
        Command::Doctor(args) => doctor::run(*args, servers, env).await,
        Command::Certs(command) => certs::run(command, &env),
        Command::Encrypt(args) => encrypt::run(args, env).await,
        Command::Decrypt(args) => decrypt::run(args, env).await,
        Command::Export(command) => export::run(command, env).await,
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
