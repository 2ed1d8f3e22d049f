//! `causeway control`.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use causeway::serve::{ConsolePort, Settings, serve_control, serve_control_with_console};
use causeway_control::{feed, model::region::AcceptRegions, slug::bulk_intake};
use causeway_silo::env::Environment;
use tokio::net::TcpListener;

use super::{log, outcome::Outcome, read_database::ReadDatabaseArgs, server::ServerArgs};
use crate::{output::place::CommandTarget, settings::units};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address to listen on; port 0 takes a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051", env = "CAUSEWAY_LISTEN")]
    pub(super) listen: SocketAddr,
    /// How many changes of each region's reservations its feed keeps. A reader that is further behind, such as a region
    /// that was away for long, starts again with all reservations
    #[arg(
        long,
        value_name = "N",
        default_value = "200000",
        value_parser = clap::value_parser!(u32).range(1..=100_000_000),
        env = "CAUSEWAY_FEED_KEEP_EVENTS"
    )]
    feed_keep_events: u32,
    /// The most bulk creations of slugs at once; a further one is refused. One region gets at most half of them
    #[arg(
        long,
        value_name = "N",
        default_value = "64",
        value_parser = clap::value_parser!(u16).range(2..=10_000),
        env = "CAUSEWAY_MAX_BULK_CREATIONS"
    )]
    max_bulk_creations: u16,
    /// The most memory for the organizations of all bulk creations under way; what goes beyond is refused. One region
    /// gets at most half of it. A million organizations take about 300 MiB
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1GiB",
        value_parser = units::size(2 << 20, 1 << 40),
        env = "CAUSEWAY_MAX_BULK_BYTES"
    )]
    max_bulk_bytes: units::Size,
    /// How long a bulk creation may send nothing, or its caller read nothing of the answer, before control ends it;
    /// in all it may wait as long, and a second more for each 100 organizations
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_BULK_IDLE_TIMEOUT"
    )]
    bulk_idle_timeout: Duration,
    /// Which regions may register: those that an operator has added (`causeway regions add`), or any whose call is
    /// accepted [default: added with --trust-domain, otherwise any]
    #[arg(long, value_enum, value_name = "WHICH", env = "CAUSEWAY_ACCEPT_REGIONS")]
    accept_regions: Option<Accept>,
    /// Serve web pages for operators on this address: regions, imports, slugs, what is stuck, the audit log. They speak
    /// TLS if the service does. On an address that other machines can reach, they need --trust-domain, and show
    /// themselves to operators only
    #[arg(long, value_name = "ADDR", env = "CAUSEWAY_CONSOLE_LISTEN")]
    pub(super) console_listen: Option<SocketAddr>,
    /// A host name by which browsers reach --console-listen, besides localhost and its address; several with commas or
    /// several times. A request by another name is refused
    #[arg(
        long,
        value_name = "HOST",
        env = "CAUSEWAY_CONSOLE_HOST",
        value_delimiter = ',',
        value_parser = console_host
    )]
    console_host: Vec<String>,
    #[command(flatten)]
    pub(super) read_database: ReadDatabaseArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// A host name, without a port.
fn console_host(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let is_address = is_address.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
    if is_address || (!text.is_empty() && text.bytes().all(is_name)) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("give the name alone, without scheme and port, such as console.example.com".to_owned())
}

/// Which regions may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Accept {
    Added,
    Any,
}

impl Args {
    /// Checks settings against each other.
    pub(super) fn check(&self, reads_files: bool) -> anyhow::Result<()> {
        self.server.check(self.listen, reads_files)?;
        self.read_database.check(reads_files)?;
        match self.console_listen {
            None if !self.console_host.is_empty() => bail!("--console-host needs --console-listen"),
            Some(address) if !address.ip().is_loopback() && !self.server.tls.has_identities() => bail!(
                "{address} of --console-listen can be reached from other machines, and the console is for operators: \
                 give --trust-domain with certificates of callers (`causeway certs` makes some to try it with), or \
                 listen on loopback"
            ),
            _ => Ok(()),
        }
    }

    /// Without identities, whoever could register a region could add it too, so adding would protect nothing.
    fn accept_regions(&self) -> AcceptRegions {
        match self.accept_regions {
            Some(Accept::Added) => AcceptRegions::Added,
            Some(Accept::Any) => AcceptRegions::Any,
            None if self.server.tls.has_identities() => AcceptRegions::Added,
            None => AcceptRegions::Any,
        }
    }
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    let tls = args.server.tls.load(args.listen, &env)?;
    let port = args.server.bind(args.listen).await?;
    log::commands_go_to(CommandTarget::Control(port.advertised.clone()), Vec::new());
    let database_url = args.server.database_url()?;
    let options = causeway_control::Options {
        replica: args.read_database.options()?,
        database_url,
        database: args.server.database(),
        address: port.advertised,
        feed: feed::Options {
            watches: args.server.max_watches()?,
            keep_events: args.feed_keep_events.into(),
            ..feed::Options::default()
        },
        bulk: bulk_intake::Options {
            calls: args.max_bulk_creations.into(),
            bytes: usize::try_from(args.max_bulk_bytes.0).context("--max-bulk-bytes")?,
            idle: args.bulk_idle_timeout,
        },
        accept_regions: args.accept_regions(),
        audit: args.server.audit(),
    };
    let settings = Settings { metrics: args.server.metrics_port().await?, ..args.server.settings(tls) };
    let Some(address) = args.console_listen else {
        return args.server.serve(serve_control(port.listener, options, settings, env)).await;
    };
    let console = TcpListener::bind(address).await;
    let console = console.with_context(|| format!("the console cannot listen on {address}"))?;
    let console = ConsolePort { listener: console, hosts: args.console_host };
    args.server.serve(serve_control_with_console(port.listener, console, options, settings, env)).await
}
