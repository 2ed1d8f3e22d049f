//! The log, on stderr.

use std::io;

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Cli;

/// Which lines the log has, where the default is not right, e.g. `debug` or `warn,causeway=debug`.
const FILTER: &str = "CAUSEWAY_LOG";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    /// The log on stderr as text, or as one JSON object a line; the variable CAUSEWAY_LOG says what is in it, e.g.
    /// `debug`
    #[arg(long, global = true, value_enum, default_value = "text", env = "CAUSEWAY_LOG_FORMAT")]
    log_format: Format,
}

/// Starts the log: of a server its doings, of any other command only warnings, for its output is the message.
pub(crate) fn start(cli: &Cli) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(filter).with_context(|| format!("{FILTER} is not a filter for the log"))?
        }
        _ if cli.command.is_server() => EnvFilter::new("info"),
        _ => EnvFilter::new("warn"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match cli.log.log_format {
        Format::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        Format::Json => builder.json().init(),
    }
    Ok(())
}
