//! `--otlp-endpoint`: traces of servers and of all other commands.

use causeway_traces::{OtlpEndpoint, Traces};
use tracing::{Span, Subscriber, field::Empty};
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{Cli, Command, outcome::Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// Where to send OpenTelemetry traces: the URL of a collector that takes OTLP over gRPC, e.g. http://127.0.0.1:4317.
    /// Without it there are none. Nothing waits for the collector: what it does not take is dropped and counted
    #[arg(long, global = true, value_name = "URL", env = "CAUSEWAY_OTLP_ENDPOINT")]
    otlp_endpoint: Option<OtlpEndpoint>,
}

/// Begins to send traces, if there is a collector to send them to.
///
/// # Errors
/// If the address is not one.
pub(super) fn start<S>(cli: &Cli) -> anyhow::Result<Option<(Traces, impl Layer<S> + Send + Sync + 'static)>>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let Some(endpoint) = &cli.traces.otlp_endpoint else { return Ok(None) };
    let mut attributes = vec![
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("process.pid", std::process::id().to_string()),
    ];
    let service = match &cli.command {
        Command::Control(_) => "causeway-control",
        Command::Region(region) => {
            attributes.push(("causeway.region", region.name.clone()));
            "causeway-region"
        }
        _ => "causeway",
    };
    Ok(Some(causeway_traces::start(endpoint, service, attributes)?))
}

impl Command {
    /// The name of the command, for its span.
    fn name(&self) -> &'static str {
        match self {
            Self::Control(_) => "command control",
            Self::Region(_) => "command region",
            Self::Import(_) => "command import organizations",
            Self::Slugs(_) => "command slugs",
            Self::Regions(_) => "command regions",
            Self::Organizations(_) => "command organizations",
            Self::Imports(_) => "command imports",
            Self::Reconcile(_) => "command reconcile",
            Self::Audit(_) => "command audit",
            Self::Config(_) => "command config",
            Self::Export(_) => "command export inspect",
            Self::Completions(_) => "command completions",
            Self::Man(_) => "command man",
            Self::Doctor(_) => "command doctor",
            Self::Health(_) => "command health",
            Self::Restored(_) => "command restored",
            Self::Throttle(_) => "command throttle",
            Self::Certs(_) => "command certs",
            Self::Encrypt(_) => "command encrypt",
            Self::Decrypt(_) => "command decrypt",
        }
    }

    /// The span of the command, with which its trace begins. A server has none: each call to it is a part of its
    /// caller's trace.
    pub(super) fn span(&self) -> Span {
        if self.is_server() {
            return Span::none();
        }
        causeway_traces::span!(parent: None, "command", otel.name = self.name(), otel.status_code = Empty)
    }
}

/// Records whether the command has failed.
pub(super) fn ended(span: &Span, outcome: &anyhow::Result<Outcome>) {
    if matches!(outcome, Err(_) | Ok(Outcome::Failed)) {
        causeway_traces::failed(span, "");
    }
}
