//! `causeway man`.

use std::path::PathBuf;

use anyhow::Context as _;

use super::outcome::Outcome;
use crate::{command_line, output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory for the pages, one for each command; it is made if it is absent. Pages that are there are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes the pages.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let shown = args.out.display();
    std::fs::create_dir_all(&args.out).with_context(|| format!("the directory {shown} cannot be made"))?;
    clap_mangen::generate_to(command_line::root(), &args.out)
        .with_context(|| format!("the pages cannot be written to {shown}"))?;
    output::note(&format!("the manual pages are in {shown}; to read one:\n  man {shown}/causeway.1"));
    Ok(Outcome::Done)
}
