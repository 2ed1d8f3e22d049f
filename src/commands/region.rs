//! `causeway region`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use causeway::serve::{Settings, serve_region};
use causeway_client::{ClientTls, Timeouts};
use causeway_region::{Limits, Options};
use causeway_relocation::export;
use causeway_silo::{env::Environment, region_name};

use super::{
    keys, log, outcome::Outcome, server::ServerArgs, target, throttle_args::ThrottleArgs, tls::ControlTlsArgs,
};
use crate::{
    output::place::CommandTarget,
    settings::units::{self, Size},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The region's name: 1 to 32 lowercase letters, digits and hyphens, no hyphen at either end. It can never change
    #[arg(long, value_name = "NAME", env = "CAUSEWAY_REGION_NAME", value_parser = name)]
    pub(super) name: String,
    /// The address to listen on; port 0 takes a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50052", env = "CAUSEWAY_LISTEN")]
    pub(super) listen: SocketAddr,
    /// The URL of control; several, separated by commas, if several controls share one database. They need not run yet
    #[arg(long, value_name = "URL", env = "CAUSEWAY_CONTROL_URL", value_parser = target::service_url,
        required = true, value_delimiter = ',')]
    pub(super) control: Vec<String>,
    /// What the product calls the region. It matters only if control's database is the product's [default: the region's
    /// name; --monolith-- if control has the same database]
    #[arg(long, value_name = "NAME", value_parser = product_name, allow_hyphen_values = true,
        env = "CAUSEWAY_PRODUCT_REGION_NAME")]
    pub(super) product_region_name: Option<String>,
    /// The directory for uploads, which are kept until their import has ended. It must survive a restart [default:
    /// ./causeway-spool/NAME]
    #[arg(long, value_name = "DIR", env = "CAUSEWAY_SPOOL_DIR")]
    pub(super) spool_dir: Option<PathBuf>,
    /// The private RSA key that opens encrypted exports: a PEM file, 2048 to 4096 bits, without a passphrase. Without
    /// it, the region refuses encrypted exports. Of several, exports are to be encrypted for the first; the others open
    /// what was encrypted before
    #[arg(long, value_name = "PEM", env = "CAUSEWAY_DECRYPTION_KEY", value_delimiter = ',')]
    pub(super) decryption_key: Vec<PathBuf>,
    /// Let importers use --merge-users, which ties members of the file to users that exist. Operators, and callers
    /// without an identity where none is needed, always may
    #[arg(long, env = "CAUSEWAY_ALLOW_MERGE")]
    allow_merge: bool,
    /// Refuse to resume or revert an import when an operator asks for that in the console of control. Without this,
    /// control can do so in the name of its operators
    #[arg(long, env = "CAUSEWAY_REFUSE_INSTRUCTIONS")]
    refuse_instructions: bool,
    /// The largest upload, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().upload_bytes, env = "CAUSEWAY_MAX_UPLOAD_BYTES")]
    pub(super) max_upload_bytes: u64,
    /// The most uploads at once; a further one is refused
    #[arg(
        long,
        value_name = "N",
        default_value = "8",
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        env = "CAUSEWAY_MAX_UPLOADS"
    )]
    max_uploads: u16,
    /// The most uploads at once from one address; a further one is refused. Behind a proxy, all callers have one
    /// address
    #[arg(
        long,
        value_name = "N",
        default_value = "6",
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        env = "CAUSEWAY_MAX_UPLOADS_PER_ADDRESS"
    )]
    max_uploads_per_address: u16,
    /// How long an upload may send no bytes before the region ends it and gives its place to others. Messages without
    /// bytes do not count
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_UPLOAD_IDLE_TIMEOUT"
    )]
    upload_idle_timeout: Duration,
    /// The least rate of an upload, per second, averaged over each --upload-idle-timeout that the region waits for it;
    /// a slower one is ended. 0 for no limit
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16KiB",
        value_parser = units::size(0, 1 << 30),
        env = "CAUSEWAY_UPLOAD_MIN_RATE"
    )]
    upload_min_rate: Size,
    #[command(flatten)]
    control_tls: ControlTlsArgs,
    /// How long connecting to control may take
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_CONTROL_CONNECT_TIMEOUT"
    )]
    control_connect_timeout: Duration,
    /// How long control may take to answer a call, other than those of --control-bulk-timeout. After that, the region
    /// repeats the call
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_CONTROL_CALL_TIMEOUT"
    )]
    control_call_timeout: Duration,
    /// How long control may take to reserve, confirm or release the slugs of a whole import
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10m",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_CONTROL_BULK_TIMEOUT"
    )]
    control_bulk_timeout: Duration,
    /// The largest record of an export. A larger one ends the import before anything is written
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = units::size(1024, export::Limits::LARGEST.record_bytes as u64),
        env = "CAUSEWAY_MAX_RECORD_SIZE"
    )]
    max_record_size: Size,
    /// How deep a record of an export may be nested, its own braces included. A deeper one ends the import before
    /// anything is written
    #[arg(
        long,
        value_name = "N",
        default_value = "120",
        value_parser = clap::value_parser!(u16).range(3..=export::Limits::LARGEST.depth as i64),
        env = "CAUSEWAY_MAX_RECORD_DEPTH"
    )]
    max_record_depth: u16,
    /// How many findings of one import are stored. Further ones are counted by kind, and a finding of its own reports
    /// that; errors are always stored
    #[arg(
        long,
        value_name = "N",
        default_value = "100000",
        value_parser = clap::value_parser!(u32).range(0..=100_000_000),
        env = "CAUSEWAY_MAX_FINDINGS"
    )]
    max_findings: u32,
    /// How many imports the region works on at once. Others wait for their turn, which is one chunk, or the plan of one
    /// file
    #[arg(
        long,
        value_name = "N",
        default_value = "2",
        value_parser = clap::value_parser!(u16).range(1..=100),
        env = "CAUSEWAY_IMPORTS_AT_ONCE"
    )]
    imports_at_once: u16,
    /// How often to compare the organizations with what control has stored for them; the first time is 10 s after the
    /// start. Differences that are safe to repair are repaired, others are logged; 0 for never
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1h",
        value_parser = units::duration,
        env = "CAUSEWAY_RECONCILE_EVERY"
    )]
    pub(super) reconcile_every: Duration,
    /// How often to tell control how the imports are, if something has changed, for its console; 0 for never
    #[arg(
        long,
        value_name = "TIME",
        default_value = "2s",
        value_parser = units::duration,
        env = "CAUSEWAY_REPORT_EVERY"
    )]
    report_every: Duration,
    #[command(flatten)]
    throttle: ThrottleArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

impl Args {
    /// Checks settings against each other.
    pub(super) fn check(&self, reads_files: bool) -> anyhow::Result<()> {
        self.server.check(self.listen, reads_files)?;
        self.control_tls.check(&self.server.tls, &self.control)
    }

    /// The certificates for calls to control, if its URLs need any.
    pub(super) fn control_tls(&self, env: &Environment) -> anyhow::Result<Option<Arc<ClientTls>>> {
        self.control_tls.load(&self.server.tls, &self.control, env)
    }

    /// The options of a command with which an operator calls control.
    pub(super) fn operator_tls_words(&self) -> Vec<String> {
        self.control_tls.operator_words(&self.server.tls, &self.control)
    }

    /// The directory for uploads.
    pub(super) fn spool_dir(&self) -> PathBuf {
        self.spool_dir.clone().unwrap_or_else(|| ["causeway-spool", &self.name].iter().collect())
    }
}

fn name(text: &str) -> Result<String, String> {
    if region_name::is_valid(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("a region's name is {}", region_name::RULE))
    }
}

fn product_name(text: &str) -> Result<String, String> {
    if (1..=48).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("the product's name for a region has 1 to 48 bytes".to_owned())
    }
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    let decryption_keys =
        args.decryption_key.iter().map(|path| keys::private(path)).collect::<Result<_, _>>()?;
    let tls = args.server.tls.load(args.listen, &env)?;
    let control_tls = args.control_tls(&env)?;
    let port = args.server.bind(args.listen).await?;
    log::commands_go_to(CommandTarget::Region(port.advertised.clone()), args.control.clone());
    let database_url = args.server.database_url()?;
    let spool_dir = args.spool_dir();
    let options = Options {
        control_tls,
        audit: args.server.audit(),
        database: args.server.database(),
        control_timeouts: Timeouts {
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
        decryption_keys,
        allow_merge: args.allow_merge,
        refuse_instructions: args.refuse_instructions,
        throttle: args.throttle.options(),
        product_name: args.product_region_name,
        reconcile_every: args.reconcile_every,
        report_every: args.report_every,
        ..Options::new(args.name, port.advertised, database_url, args.control, spool_dir)
    };
    let settings = Settings { metrics: args.server.metrics_port().await?, ..args.server.settings(tls) };
    args.server.serve(serve_region(port.listener, options, settings, env)).await
}
