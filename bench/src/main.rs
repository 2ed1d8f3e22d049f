//! The `causeway-bench` command.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use causeway_bench::generate::{Export, Extent};
use clap::{Parser, Subcommand};

/// Measures Causeway, and makes exports to measure it with.
#[derive(Debug, Parser)]
#[command(name = "causeway-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an export of any size. The same options give the same bytes.
    Generate(Generate),
}

#[derive(Debug, clap::Args)]
struct Generate {
    #[command(flatten)]
    extent: ExtentOptions,
    /// What everything in the export follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The file to write; standard output if there is none.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One of these says how large the export is. It ends with a whole organization.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ExtentOptions {
    /// The size of the file, such as 500MB or 4GB (powers of 1000), within a few hundredths.
    #[arg(long, value_parser = bytes)]
    size: Option<u64>,
    /// The number of records at least.
    #[arg(long)]
    records: Option<u64>,
    /// The number of organizations.
    #[arg(long)]
    organizations: Option<u64>,
}

impl ExtentOptions {
    fn extent(&self) -> anyhow::Result<Extent> {
        match (self.size, self.records, self.organizations) {
            (Some(bytes), _, _) => Ok(Extent::Bytes(bytes)),
            (_, Some(records), _) => Ok(Extent::Records(records)),
            (_, _, Some(organizations)) => Ok(Extent::Organizations(organizations)),
            _ => bail!("the size of the export is missing"),
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unheard = writeln!(io::stderr(), "causeway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Generate(options) => generate(&options),
    }
}

fn generate(options: &Generate) -> anyhow::Result<()> {
    let extent = options.extent.extent()?;
    let export = Export::new(options.seed, extent);
    let written = match &options.out {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let written = export.write(&mut out)?;
            out.flush()?;
            written
        }
        None => export.write(&mut io::stdout().lock())?,
    };
    writeln!(
        io::stderr(),
        "{} organizations, {} records, {} bytes",
        written.organizations,
        written.records,
        written.bytes
    )?;
    Ok(())
}

/// Reads a number of bytes with a unit.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        unit => return Err(format!("`{unit}` is none of B, KB, MB, GB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{digits}` is no number"))?;
    number.checked_mul(unit).ok_or_else(|| "is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_size_is_asked_for_and_only_one() {
        let parse =
            |options: &[&str]| Cli::try_parse_from([&["causeway-bench", "generate"], options].concat());
        for extent in [["--size", "1GB"], ["--records", "5"], ["--organizations", "5"]] {
            parse(&[&extent[..], &["--seed", "7", "--out", "x.json"]].concat()).unwrap();
        }
        parse(&["--out", "x.json"]).unwrap_err();
        parse(&["--size", "1GB", "--records", "5"]).unwrap_err();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("1GB"), Ok(1_000_000_000));
        assert_eq!(bytes("20kb"), Ok(20_000));
        assert_eq!(bytes("7"), Ok(7));
        bytes("1.5GB").unwrap_err();
        bytes("1TB").unwrap_err();
        bytes("GB").unwrap_err();
    }
}
