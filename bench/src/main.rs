//! The `causeway-bench` command.

use std::{
    env,
    fs::File,
    io::{self, BufWriter, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use causeway_bench::{
    directory,
    generate::{Export, Extent, Release},
    import, reserve, resolve,
    rig::Store,
    start, tls,
};
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
    /// Import exports, and compare with the plainest way to write the same rows.
    Import(Import),
    /// Reserve slugs, many at once and many callers at once.
    Reserve(Reserve),
    /// Resolve slugs to their organizations and regions.
    Resolve(Resolve),
    /// Fill a directory with the slugs of many regions, and resolve them.
    Directory(Directory),
    /// Resolve slugs over mutual TLS, compared with plaintext.
    Tls(Resolve),
    /// Start services, and measure how long that takes.
    Start(Start),
    /// Serve a control, an empty handler and a directory in one server, for `resolve`.
    #[command(hide = true)]
    ServeControl(ServeControl),
}

#[derive(Debug, clap::Args)]
struct Reserve {
    /// Number of slugs in the large operation.
    #[arg(long, default_value_t = 100_000)]
    slugs: u64,
    /// How many times to measure the large operation. The results are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Number of organizations that exist before the measurement, and of slugs that are reserved before it.
    #[arg(long, default_value_t = 0)]
    before: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Resolve {
    /// Number of slugs that exist.
    #[arg(long, default_value_t = 100_000)]
    slugs: u64,
    /// How many times to measure each kind of call. The results are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many seconds each measurement takes.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Directory {
    /// Number of slugs that exist.
    #[arg(long, default_value_t = 1_000_000)]
    slugs: u64,
    /// Number of regions that have them.
    #[arg(long, default_value_t = 1_000)]
    regions: u64,
    /// Let them come from a control on PostgreSQL, and measure its tables too.
    #[arg(long)]
    database: bool,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Start {
    /// How many times to measure each start. The results are medians.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct ServeControl {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, env = "CAUSEWAY_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Serve the control only.
    #[arg(long)]
    without_directory: bool,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The database of the services.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "postgres,sqlite")]
    store: Vec<Store>,
    /// Import exports of at least this many records.
    #[arg(long, value_delimiter = ',', conflicts_with = "size")]
    records: Vec<u64>,
    /// Import exports of about this size, such as 1GB.
    #[arg(long, value_delimiter = ',', value_parser = bytes, required_unless_present = "records")]
    size: Vec<u64>,
    /// How many times to measure each side. The results are medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The seed of the exports. The same seed gives the same exports.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only import, without the comparison.
    #[arg(long)]
    no_compare: bool,
    /// Number of organizations that exist before the measurement, and of slugs that are reserved before it.
    #[arg(long, default_value_t = 0)]
    before: u64,
    #[command(flatten)]
    common: Common,
}

/// What all measurements need.
#[derive(Debug, clap::Args)]
struct Common {
    /// The program to measure [default: `causeway` next to this one].
    #[arg(long)]
    causeway: Option<PathBuf>,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Common {
    fn causeway(&self) -> anyhow::Result<PathBuf> {
        match &self.causeway {
            Some(path) => Ok(path.clone()),
            None => Ok(env::current_exe()?.with_file_name("causeway")),
        }
    }
}

#[derive(Debug, clap::Args)]
struct Generate {
    #[command(flatten)]
    extent: ExtentOptions,
    /// The seed of the export. The same seed gives the same export.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The release of the product that the export is of.
    #[arg(long, value_enum, default_value = "24.8")]
    release: Release,
    /// The file to write; without it, standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One of these sets the size of the export. It ends with a whole organization.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ExtentOptions {
    /// The size of the file, such as 500MB or 4GB (powers of 1000), within a few percent.
    #[arg(long, value_parser = bytes)]
    size: Option<u64>,
    /// The least number of records.
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
        Command::Import(options) => {
            let extents = options.records.iter().copied().map(Extent::Records);
            let measured = import::Options {
                stores: options.store,
                extents: extents.chain(options.size.iter().copied().map(Extent::Bytes)).collect(),
                rounds: options.rounds.max(1),
                seed: options.seed,
                compare: !options.no_compare,
                before: options.before,
                causeway: options.common.causeway()?,
            };
            wait(import::run(&measured))?.show(options.common.json.as_deref())
        }
        Command::Reserve(Reserve { slugs, rounds, before, common }) => {
            let rounds = rounds.max(1);
            let measured = reserve::Options { slugs, rounds, before, causeway: common.causeway()? };
            wait(reserve::run(&measured))?.show(common.json.as_deref())
        }
        Command::Resolve(Resolve { slugs, rounds, seconds, common }) => {
            let (rounds, length) = (rounds.max(1), Duration::from_secs(seconds.max(1)));
            let measured =
                resolve::Options { slugs: slugs.max(1), rounds, length, causeway: common.causeway()? };
            wait(resolve::run(&measured))?.show(common.json.as_deref())
        }
        Command::Tls(Resolve { slugs, rounds, seconds, common }) => {
            let (rounds, length) = (rounds.max(1), Duration::from_secs(seconds.max(1)));
            let measured =
                resolve::Options { slugs: slugs.max(1), rounds, length, causeway: common.causeway()? };
            wait(tls::run(&measured))?.show(common.json.as_deref())
        }
        Command::Start(Start { rounds, common }) => {
            let measured = start::Options { rounds: rounds.max(1), causeway: common.causeway()? };
            wait(start::run(&measured))?.show(common.json.as_deref())
        }
        Command::Directory(Directory { slugs, regions, database, json }) => {
            let measured = directory::Options { slugs, regions, database };
            wait(directory::run(&measured))?.show(json.as_deref())
        }
        Command::ServeControl(ServeControl { listen, database_url, without_directory }) => {
            wait(resolve::serve(listen, database_url, !without_directory))
        }
    }
}

fn wait<T>(measured: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measured)
}

fn generate(options: &Generate) -> anyhow::Result<()> {
    let extent = options.extent.extent()?;
    let export = Export::of(options.release, options.seed, extent);
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
        unit => return Err(format!("`{unit}` is not B, KB, MB or GB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{digits}` is not a number"))?;
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
        for release in ["24.4", "24.8", "24.11", "25.1", "25.6", "26.6"] {
            parse(&["--records", "5", "--release", release]).unwrap();
        }
        parse(&["--records", "5", "--release", "23.9"]).unwrap_err();
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
