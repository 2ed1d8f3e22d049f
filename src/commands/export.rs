//! `causeway export`.

use std::{
    io::{Read, Seek as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use causeway_relocation::{
    catalog::Catalog,
    encrypted::{BEGINNING, is_tar},
    export::Limits,
    inspect::{Inspection, inspect},
};
use causeway_silo::env::Environment;
use clap::Subcommand;

use super::{encrypt, keys, outcome::Outcome, outgoing::open_encrypted};
use crate::output::{
    self, Format,
    inspection::{Inspected, json, text},
    progress::reading,
    report::Shown,
    terminal::Width,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what an export has: models, organizations and slugs, and which releases it may come from. Nothing is imported
    Inspect(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The export: a JSON file, or an encrypted one. What is in an encrypted one can be seen with --decrypt-with only
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private RSA key that the export was encrypted for: a PEM file, without a passphrase. Nothing of the export is
    /// written to disk
    #[arg(long, value_name = "PEM")]
    decrypt_with: Option<PathBuf>,
    /// Show all organizations, not only the first ones, up to 10,000
    #[arg(long)]
    all: bool,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let Command::Inspect(args) = command;
    let (file, key) = (args.file.clone(), args.decrypt_with.clone());
    let inspecting = tokio::task::spawn_blocking(move || look(&file, key.as_deref(), &env));
    let inspected = inspecting.await?.with_context(|| args.file.display().to_string())?;
    match args.output {
        Format::Json => output::json(&[json(&inspected)])?,
        Format::Text => {
            let shown = Shown { all: args.all, width: Width::of_report(), table_width: Width::of_list() };
            output::text(&text(&args.file.display().to_string(), &inspected, shown))?;
            if inspected.contents.is_none() {
                output::note(
                    "--decrypt-with, with the private key that it was encrypted for, shows what is in it",
                );
            }
        }
    }
    Ok(Outcome::Done)
}

/// Reads the file, once. Blocks.
fn look(path: &Path, key: Option<&Path>, env: &Environment) -> anyhow::Result<Inspected> {
    let (mut file, bytes) = encrypt::open(path)?;
    let mut beginning = Vec::new();
    (&file).take(BEGINNING as u64).read_to_end(&mut beginning).context("it cannot be read")?;
    file.rewind().context("it cannot be read")?;
    let encrypted = is_tar(&beginning);
    let contents = match (encrypted, key) {
        (false, _) => Some(contents(file, bytes)?),
        (true, None) => None,
        (true, Some(key)) => {
            let opened = open_encrypted(path, &*keys::private(key)?, env)?;
            Some(contents(opened.plaintext(), opened.size())?)
        }
    };
    Ok(Inspected { encrypted, bytes, contents })
}

fn contents(reader: impl Read, bytes: u64) -> anyhow::Result<Inspection> {
    let catalog = Catalog::load()?;
    let progress = reading(bytes);
    let inspected = inspect(progress.wrap_read(reader), &catalog, Limits::default());
    progress.finish_and_clear();
    Ok(inspected?)
}
