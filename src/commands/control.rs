//! `causeway control`.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use causeway::serve::{Settings, serve_control};
use causeway_control::{feed, model::region::AcceptRegions, slug::bulk_intake};
use causeway_silo::env::Environment;

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
    #[command(flatten)]
    pub(super) read_database: ReadDatabaseArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// Which regions may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Accept {
    Added,
    Any,
}

impl Args {
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
    args.server.serve(serve_control(port.listener, options, settings, env)).await
}
