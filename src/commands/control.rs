//! `causeway control`.

use std::net::SocketAddr;

use causeway::serve::serve_control;
use causeway_control::feed;
use causeway_relocation::{ambient::Ambient, db};
use tracing::info;

use super::{Outcome, server::ServerArgs};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051", env = "CAUSEWAY_LISTEN")]
    pub(super) listen: SocketAddr,
    /// How many changes of each region's reservations are kept in its feed. A reader that is further behind, such as a
    /// region that was away for long, begins anew with all reservations
    #[arg(
        long,
        value_name = "N",
        default_value = "200000",
        value_parser = clap::value_parser!(u32).range(1..=100_000_000),
        env = "CAUSEWAY_FEED_KEEP_EVENTS"
    )]
    feed_keep_events: u32,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args, ambient: Ambient) -> anyhow::Result<Outcome> {
    let port = args.server.bind(args.listen).await?;
    let database_url = args.server.database_url.clone();
    info!(
        listen = %port.listening,
        advertise = port.advertised,
        database = db::redact(&database_url),
        "control starts"
    );
    let options = causeway_control::Options {
        database_url,
        database: args.server.database(),
        address: port.advertised,
        feed: feed::Options {
            watches: args.server.max_watches()?,
            keep_events: args.feed_keep_events.into(),
            ..feed::Options::default()
        },
    };
    args.server.serve(serve_control(port.listener, options, args.server.settings(), ambient)).await
}
