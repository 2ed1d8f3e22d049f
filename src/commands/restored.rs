//! `causeway restored`.

use std::path::PathBuf;

use anyhow::Context as _;
use causeway_control::restored;
use causeway_proto::era::LAST_ERA;
use causeway_silo::{
    db::{DatabaseUrl, Options},
    env::Environment,
};

use super::{outcome::Outcome, server};
use crate::output::{self, place::quoted};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The database of control: postgres://USER:PASSWORD@HOST/NAME or sqlite:FILE. This or --database-url-file is needed
    #[arg(long, value_name = "URL", env = "CAUSEWAY_DATABASE_URL", hide_env_values = true)]
    database_url: Option<DatabaseUrl>,
    /// A file with the URL of the database and nothing else
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_DATABASE_URL_FILE")]
    database_url_file: Option<PathBuf>,
    /// The number of the last era that has begun, if a copy is put back that is older than that: what this command printed
    /// last, or control logged. The eras up to it, and what was given out in them, are passed over
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true,
        value_parser = clap::value_parser!(i64).range(0..LAST_ERA))]
    after_era: i64,
}

pub(super) async fn run(args: &Args, env: Environment) -> anyhow::Result<Outcome> {
    let (url, file) = (args.database_url.as_ref(), args.database_url_file.as_deref());
    // The URL may have a password, so it is not printed.
    let database = match file {
        Some(file) => format!("--database-url-file {}", quoted(&file.display().to_string())),
        None => "--database-url URL".to_owned(),
    };
    let url = server::database_url(server::OPTIONS, url, file)?.with_context(server::no_database)?;
    let era = restored::begin_era(&url, &Options::default(), env, args.after_era).await?;
    output::paragraph(&format!(
        "era {era} has begun: control may serve this database now. It has forgotten what came after the copy, so compare \
         each region with it: `causeway reconcile --check --region URL`"
    ))?;
    output::paragraph(&format!(
        "If a copy that is older than this era is put back later, say so:\n  causeway restored {database} --after-era {era}"
    ))?;
    Ok(Outcome::Done)
}
