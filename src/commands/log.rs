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
    /// The format of the log on stderr: text, or one JSON object per line
    #[arg(long, global = true, value_enum, default_value = "text", env = "CAUSEWAY_LOG_FORMAT")]
    log_format: Format,
    /// What to log: a level, or levels for parts of the program, e.g. debug or warn,causeway=debug [default: info for a
    /// server, warn for any other command]
    #[arg(long, global = true, value_name = "FILTER", value_parser = filter, env = "CAUSEWAY_LOG")]
    log_filter: Option<String>,
}

fn filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(text).map(|_| text.to_owned())
}

/// Starts the log. By default a server logs what it does; any other command logs only warnings, because its output is
/// the result.
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
