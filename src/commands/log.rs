//! The log, on stderr. Commands in its lines get the options to go to the service that they mean.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use anyhow::Context as _;
use causeway_traces::{NOT_IN_LOG, Traces};
use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::{Cli, traces};
use crate::output::{
    place::{COMMAND, CommandTarget},
    terminal::stderr_has_color,
};

/// Where the commands in lines of the log go: the service or command that this process is, and the addresses of control.
static PLACE: OnceLock<(CommandTarget, Vec<String>)> = OnceLock::new();

/// Says where the commands in lines of the log go. Only the first call counts.
pub(super) fn commands_go_to(place: CommandTarget, control: Vec<String>) {
    let _second = PLACE.set((place, control));
}

/// A line of the log with its commands completed, if there are some. A line of JSON stays one.
fn completed(line: &str, place: &CommandTarget, control: &[String], format: Format) -> Option<String> {
    let completed = line.contains(COMMAND).then(|| place.complete(line, control))?;
    match format {
        Format::Text => Some(completed),
        // A directory may have a name that JSON would write in another way.
        Format::Json => {
            let special = |text: &str| text.matches(['"', '\\']).count();
            (special(&completed) == special(line)).then_some(completed)
        }
    }
}

/// Writes lines of the log to stderr.
#[derive(Debug, Clone, Copy)]
struct Lines(Format);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    /// Each event is written at once.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let line = PLACE
            .get()
            .and_then(|(place, control)| completed(str::from_utf8(bytes).ok()?, place, control, self.0));
        io::stderr().write_all(line.as_ref().map_or(bytes, |line| line.as_bytes()))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

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

/// Starts the log, and the traces if there is a collector for them. By default a server logs what it does; any other
/// command logs only warnings, because its output is the result.
pub(crate) fn start(cli: &Cli) -> anyhow::Result<Option<Traces>> {
    let default = if cli.command.is_server() { "info" } else { "warn" };
    let filter = cli.log.log_filter.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(filter).context("that is not a filter for the log")?;
    let filter = filter.add_directive(NOT_IN_LOG.parse().context("that is not a directive for the log")?);
    let format = cli.log.log_format;
    if let Some(place) = cli.place() {
        commands_go_to(place, Vec::new());
    }
    let lines = fmt::layer().with_writer(move || Lines(format));
    let lines = match format {
        Format::Text => lines.with_ansi(stderr_has_color()).boxed(),
        Format::Json => lines.json().boxed(),
    };
    match traces::start(cli)? {
        // A filter of the whole subscriber: what it leaves out costs nothing.
        None => {
            tracing_subscriber::registry().with(lines).with(filter).try_init()?;
            Ok(None)
        }
        Some((traces, spans)) => {
            tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init()?;
            Ok(Some(traces))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_lines_of_the_log_are_completed() {
        let place = CommandTarget::Region("http://r:1".to_owned());
        let control = ["http://c:1".to_owned()];
        let line = "WARN it is refused: `causeway regions add us`\n";
        let message = completed(line, &place, &control, Format::Text);
        assert_eq!(
            message.as_deref(),
            Some("WARN it is refused: `causeway regions add us --control http://c:1`\n")
        );
        assert_eq!(completed("WARN it is `refused`\n", &place, &control, Format::Text), None);

        let line = "{\"message\":\"`causeway reconcile --check` shows it\"}\n";
        let message = completed(line, &place, &control, Format::Json);
        assert_eq!(
            message.as_deref(),
            Some("{\"message\":\"`causeway reconcile --check --region http://r:1` shows it\"}\n")
        );
        let place = CommandTarget::Data("my \"data\"".into());
        assert_eq!(completed(line, &place, &[], Format::Json), None, "it would not be JSON any more");
    }
}
