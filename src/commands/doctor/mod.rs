//! `causeway doctor`: checks servers by their configuration, and running services by their addresses. Changes nothing,
//! but for a file that it writes into the spool directory and deletes again.

mod certificates;
mod database;
mod imports;
mod servers;
mod services;
mod spool;

use anyhow::bail;
use causeway_silo::env::Environment;

use self::certificates::Certificates;
use super::{
    Cli,
    config::Server,
    outcome::Outcome,
    target::{ContextArgs, service_url},
    tls::ClientTlsArgs,
};
use crate::output::{
    self, Format,
    diagnosis::{About, Check, Report, Severity},
    terminal::Width,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    context: ContextArgs,
    /// Also ask the control at this URL: its regions, whether each answers, and reservations that are stuck. Of several,
    /// separated by commas, each
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',', env = "CAUSEWAY_CONTROL")]
    control: Vec<String>,
    /// Also ask the region at this URL: its imports, and whether it agrees with control. Of several, separated by commas,
    /// each
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',', env = "CAUSEWAY_REGION")]
    region: Vec<String>,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// Text for people, or a JSON array of findings
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    /// The server to check on this machine; without it, each server that the file has a table for
    #[command(subcommand)]
    pub(super) server: Option<Server>,
}

/// A server that the file has a table for, or why the file does not say how to start it.
#[derive(Debug)]
pub(crate) struct FileServer {
    /// The server, or the file if it cannot be read.
    pub(crate) name: String,
    /// The command that would start it.
    pub(crate) command: anyhow::Result<Cli>,
}

pub(super) async fn run(args: Args, servers: Vec<FileServer>, env: Environment) -> anyhow::Result<Outcome> {
    if servers.is_empty() && args.server.is_none() && args.control.is_empty() && args.region.is_empty() {
        bail!(
            "there is nothing to check: give --config FILE or the options of a server (`causeway doctor region --help`), \
             or --control URL, --region URL or --context NAME of running services"
        );
    }
    let mut report = Report::default();
    let mut tls = Certificates::new(&args.tls, &env);
    match &args.server {
        Some(Server::Control(server)) => servers::control(&mut report, "control", server, &env).await,
        Some(Server::Region(server)) => servers::region(&mut report, "", server, &tls, &env).await,
        None => {}
    }
    for FileServer { name, command } in servers {
        match command.map(|cli| cli.command) {
            Ok(super::Command::Control(server)) => {
                servers::control(&mut report, "control", &server, &env).await;
            }
            Ok(super::Command::Region(server)) => {
                servers::region(&mut report, "", &server, &tls, &env).await;
            }
            Ok(_) => bail!("{name} is not a server"),
            Err(error) => About::new(&mut report, name)
                .error_that_says_what_to_do(Check::Configuration, format!("{error:#}")),
        }
    }
    for url in &args.control {
        services::control(&mut report, url, &mut tls, &env).await;
    }
    for url in &args.region {
        services::region(&mut report, url, &mut tls, &env).await;
    }
    match args.output {
        Format::Json => output::json(&[report.json()?])?,
        Format::Text => output::text(&report.text(Width::of_list()))?,
    }
    Ok(match report.worst() {
        Severity::Ok => Outcome::Done,
        Severity::Warning => Outcome::Warnings,
        Severity::Error => Outcome::Faults,
    })
}
