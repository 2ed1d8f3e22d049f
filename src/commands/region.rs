//! `causeway region`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use causeway::serve::serve_region;
use causeway_region::{ControlTimeouts, Limits, Options};
use causeway_relocation::export;
use causeway_silo::{env::Environment, region_name};

use super::{Outcome, keys, server::ServerArgs, target};
use crate::settings::units::{self, Size};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The region's name: 1 to 32 lowercase letters, digits and hyphens. It stays what it is for good
    #[arg(long, value_name = "NAME", env = "CAUSEWAY_REGION_NAME", value_parser = name)]
    pub(super) name: String,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50052", env = "CAUSEWAY_LISTEN")]
    pub(super) listen: SocketAddr,
    /// Where control is; several, with commas, if several serve its database. None need be there yet
    #[arg(long, value_name = "URL", env = "CAUSEWAY_CONTROL_URL", value_parser = target::http_url,
        required = true, value_delimiter = ',')]
    pub(super) control: Vec<String>,
    /// Where uploads are kept until their import has ended. Must outlive a restart [default: ./causeway-spool/NAME]
    #[arg(long, value_name = "DIR", env = "CAUSEWAY_SPOOL_DIR")]
    pub(super) spool_dir: Option<PathBuf>,
    /// The private RSA key with which the region opens encrypted exports: PEM, 2048 to 4096 bits, without a passphrase.
    /// Without it, they are refused
    #[arg(long, value_name = "PEM", env = "CAUSEWAY_DECRYPTION_KEY")]
    pub(super) decryption_key: Option<PathBuf>,
    /// The most bytes of an upload
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().upload_bytes, env = "CAUSEWAY_MAX_UPLOAD_BYTES")]
    pub(super) max_upload_bytes: u64,
    /// How many uploads may be under way at once; a further one is refused
    #[arg(
        long,
        value_name = "N",
        default_value = "8",
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        env = "CAUSEWAY_MAX_UPLOADS"
    )]
    max_uploads: u16,
    /// How many of them may come from one address; a further one is refused. Behind a proxy all have one address
    #[arg(
        long,
        value_name = "N",
        default_value = "6",
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        env = "CAUSEWAY_MAX_UPLOADS_PER_ADDRESS"
    )]
    max_uploads_per_address: u16,
    /// How long nothing may come of an upload before it is ended and its place given to others. Messages without bytes are
    /// nothing
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = units::some_time,
        env = "CAUSEWAY_UPLOAD_IDLE_TIMEOUT"
    )]
    upload_idle_timeout: Duration,
    /// How much of an upload must come in a second, over each --upload-idle-timeout that is spent on waiting for it; one
    /// that is slower is ended. 0 takes any
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16KiB",
        value_parser = units::size(0, 1 << 30),
        env = "CAUSEWAY_UPLOAD_MIN_RATE"
    )]
    upload_min_rate: Size,
    /// How long a connection to control may take
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5s",
        value_parser = units::some_time,
        env = "CAUSEWAY_CONTROL_CONNECT_TIMEOUT"
    )]
    control_connect_timeout: Duration,
    /// How long control may take to answer a call, other than those of --control-bulk-timeout. It is made again then
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = units::some_time,
        env = "CAUSEWAY_CONTROL_CALL_TIMEOUT"
    )]
    control_call_timeout: Duration,
    /// How long control may take to reserve, confirm or release the slugs of a whole import
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10m",
        value_parser = units::some_time,
        env = "CAUSEWAY_CONTROL_BULK_TIMEOUT"
    )]
    control_bulk_timeout: Duration,
    /// The most bytes of a record of an export. One that is larger ends the import before anything is written
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = units::size(1024, export::Limits::LARGEST.record_bytes as u64),
        env = "CAUSEWAY_MAX_RECORD_SIZE"
    )]
    max_record_size: Size,
    /// How deep a record of an export may be nested, its own braces included. As for --max-record-size
    #[arg(
        long,
        value_name = "N",
        default_value = "120",
        value_parser = clap::value_parser!(u16).range(3..=export::Limits::LARGEST.depth as i64),
        env = "CAUSEWAY_MAX_RECORD_DEPTH"
    )]
    max_record_depth: u16,
    /// How many findings are stored of one import. Those behind are counted by kind, which is a finding of its own;
    /// errors are stored always
    #[arg(
        long,
        value_name = "N",
        default_value = "100000",
        value_parser = clap::value_parser!(u32).range(0..=100_000_000),
        env = "CAUSEWAY_MAX_FINDINGS"
    )]
    max_findings: u32,
    /// How many imports are worked on at once; others wait for their turn, which is a chunk, or the plan of a file
    #[arg(
        long,
        value_name = "N",
        default_value = "2",
        value_parser = clap::value_parser!(u16).range(1..=100),
        env = "CAUSEWAY_IMPORTS_AT_ONCE"
    )]
    imports_at_once: u16,
    /// How often to compare the organizations with what control holds for them, for the first time 10 s after the start: what
    /// can be repaired without a doubt is, the rest is in the log; 0 for never
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1h",
        value_parser = units::duration,
        env = "CAUSEWAY_RECONCILE_EVERY"
    )]
    pub(super) reconcile_every: Duration,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

fn name(text: &str) -> Result<String, String> {
    if region_name::is_valid(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("a region's name is {}", region_name::RULE))
    }
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    let decryption_key = args.decryption_key.as_deref().map(keys::private).transpose()?;
    let port = args.server.bind(args.listen).await?;
    let database_url = args.server.database_url.clone();
    let spool_dir = args.spool_dir.unwrap_or_else(|| ["causeway-spool", &args.name].iter().collect());
    let options = Options {
        database: args.server.database(),
        control_timeouts: ControlTimeouts {
            connect: args.control_connect_timeout,
            call: args.control_call_timeout,
            bulk: args.control_bulk_timeout,
        },
        limits: Limits {
            record: export::Limits {
                record_bytes: usize::try_from(args.max_record_size.0).context("--max-record-size")?,
                depth: args.max_record_depth.into(),
            },
            imports_at_once: args.imports_at_once.into(),
            findings: args.max_findings,
            upload_bytes: args.max_upload_bytes,
            uploads: args.max_uploads.into(),
            uploads_per_address: args.max_uploads_per_address.into(),
            upload_idle: args.upload_idle_timeout,
            upload_rate: args.upload_min_rate.0,
            watches: args.server.max_watches()?,
            ..Limits::default()
        },
        decryption_key,
        reconcile_every: args.reconcile_every,
        ..Options::new(args.name, port.advertised, database_url, args.control, spool_dir)
    };
    args.server.serve(serve_region(port.listener, options, args.server.settings(), env)).await
}
