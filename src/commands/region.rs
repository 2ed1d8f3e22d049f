//! `causeway region`.

use std::{net::SocketAddr, path::PathBuf};

use causeway::serve::serve_region;
use causeway_region::Limits;
use causeway_relocation::{ambient::Ambient, db, region_name};
use tracing::info;

use super::{Outcome, keys, server::ServerArgs, target};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The region's name: 1 to 32 lowercase letters, digits and hyphens. It stays what it is for good
    #[arg(long, value_name = "NAME", env = "CAUSEWAY_REGION_NAME", value_parser = name)]
    pub(super) name: String,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50052", env = "CAUSEWAY_LISTEN")]
    pub(super) listen: SocketAddr,
    /// Where control is. It need not be there yet when the region starts
    #[arg(long, value_name = "URL", env = "CAUSEWAY_CONTROL_URL", value_parser = target::http_url)]
    pub(super) control: String,
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

pub(super) async fn run(args: Args, ambient: Ambient) -> anyhow::Result<Outcome> {
    let decryption_key = args.decryption_key.as_deref().map(keys::private).transpose()?;
    let port = args.server.bind(args.listen).await?;
    let database_url = args.server.database_url.clone();
    let spool_dir = args.spool_dir.unwrap_or_else(|| ["causeway-spool", &args.name].iter().collect());
    info!(
        region = args.name,
        listen = %port.listening,
        advertise = port.advertised,
        control = args.control,
        database = db::redact(&database_url),
        spool = %spool_dir.display(),
        opens_encrypted_exports = decryption_key.is_some(),
        max_upload_bytes = args.max_upload_bytes,
        "the region starts"
    );
    let options = causeway_region::Options {
        name: args.name,
        address: port.advertised,
        database_url,
        database: db::Options::default(),
        control_url: args.control,
        spool_dir,
        pauses: causeway_region::Pauses::default(),
        limits: Limits { upload_bytes: args.max_upload_bytes, ..Limits::default() },
        decryption_key,
    };
    args.server.serve(serve_region(port.listener, options, ambient)).await
}
