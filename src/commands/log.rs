//! The log, on stderr.

use std::io;

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Cli;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    /// The log on stderr as text, or as one JSON object a line
    #[arg(long, global = true, value_enum, default_value = "text", env = "CAUSEWAY_LOG_FORMAT")]
    log_format: Format,
    /// Which lines the log has: a level, or some with the parts that they are for, e.g. debug or warn,causeway=debug
    /// [default: info for a server, warn for anything else]
    #[arg(long, global = true, value_name = "FILTER", value_parser = filter, env = "CAUSEWAY_LOG")]
    log_filter: Option<String>,
}

fn filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(text).map(|_| text.to_owned())
}

/// Starts the log: of a server its doings, of any other command only warnings, for its output is the message.
pub(crate) fn start(cli: &Cli) -> anyhow::Result<()> {
    let default = if cli.command.is_server() { "info" } else { "warn" };
    let filter = cli.log.log_filter.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(filter).context("that is no filter for the log")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match cli.log.log_format {
        Format::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        Format::Json => builder.json().init(),
    }
    Ok(())
}
