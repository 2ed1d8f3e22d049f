//! `causeway certs`: certificates for development.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use causeway::certs::{Authority, Issued, Request, is_host, valid_for};
use causeway_silo::{env::Environment, region_name};
use causeway_tls::{Identity, Role, TrustDomain};
use chrono::TimeDelta;
use clap::{
    Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use zeroize::Zeroizing;

use super::outcome::Outcome;
use crate::output::{self, place::quoted};

/// Where certificates are put, unless another directory is named.
const DIR: &str = "./causeway-certs";
/// How long a development CA is valid: long enough that nobody has to renew it.
const CA_DAYS: i64 = 3_650;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a CA for development. Its private key is stored beside it, so do not use it for anything else
    Init(Init),
    /// Make a private key and a certificate, signed by the CA that `causeway certs init` has made
    Issue(Issue),
}

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// The directory to put the CA into
    #[arg(long, value_name = "DIR", default_value = DIR)]
    dir: PathBuf,
    /// The trust domain: the first part of the identity in each certificate
    #[arg(long, value_name = "NAME", default_value = "causeway.local")]
    trust_domain: TrustDomain,
    /// Replace the CA that is there. Certificates that the old one signed are no longer accepted
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Issue {
    /// The role of the holder
    #[arg(value_name = "ROLE", value_parser = role())]
    role: Role,
    /// The name of the holder. For a region, the name of the region
    #[arg(value_name = "NAME")]
    name: String,
    /// The directory with the CA, where the certificate is put too
    #[arg(long, value_name = "DIR", default_value = DIR)]
    dir: PathBuf,
    /// A name or IP address under which the holder is reached; may be given several times
    #[arg(long = "host", value_name = "HOST", value_parser = host,
        default_values = ["localhost", "127.0.0.1", "::1"])]
    hosts: Vec<String>,
    /// How long the certificate is valid
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = long_time)]
    valid_for: Duration,
    /// Replace the certificate and the key that are there
    #[arg(long)]
    force: bool,
}

/// Reads a role, and shows all of them in the help.
fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str))
        .try_map(|role| role.parse::<Role>().map_err(|()| "there is no such role"))
}

fn host(text: &str) -> Result<String, &'static str> {
    if is_host(text) { Ok(text.to_owned()) } else { Err("it must be an IP address or a name of a host") }
}

/// A time of at least a minute, at most 10 years, such as `90d`.
fn long_time(text: &str) -> Result<Duration, &'static str> {
    const MINUTE: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(CA_DAYS as u64 * 24 * 3_600);
    match humantime::parse_duration(text) {
        Ok(time) if (MINUTE..=LONGEST).contains(&time) => Ok(time),
        Ok(_) => Err("it must be at least 1m and at most 3650d"),
        Err(_) => Err("it must be a number followed by m, h or d, e.g. 90d"),
    }
}

/// The files of one certificate.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(dir: &Path, name: &str) -> Self {
        Self { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) }
    }

    fn check(&self, force: bool) -> anyhow::Result<()> {
        for file in [&self.cert, &self.key] {
            if !force && file.exists() {
                bail!("{} is there already; --force replaces it", file.display());
            }
        }
        Ok(())
    }

    /// Writes both. The key comes first, and each appears whole, so that a server that checks in between
    /// waits for the certificate.
    fn write(&self, issued: &Issued) -> anyhow::Result<()> {
        write(&self.key, &issued.key, 0o600)?;
        write(&self.cert, &issued.cert, 0o644)
    }
}

/// Writes a file that appears whole, with this mode.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be written", path.display());
    let new = path.with_extension("new");
    // A file that an earlier attempt has left may have another mode.
    let _ = fs::remove_file(&new);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).with_context(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(cannot)?;
    fs::rename(&new, path).with_context(cannot)
}

fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

pub(super) fn run(command: Command, env: &Environment) -> anyhow::Result<Outcome> {
    match command {
        Command::Init(args) => init(args, env),
        Command::Issue(args) => issue(&args, env),
    }
}

fn init(args: Init, env: &Environment) -> anyhow::Result<Outcome> {
    let files = Files::new(&args.dir, "ca");
    files.check(args.force)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.dir)
        .with_context(|| format!("the directory {} cannot be made", args.dir.display()))?;
    let now = env.now();
    let (authority, issued) = Authority::make(args.trust_domain, now, now + TimeDelta::days(CA_DAYS), env)?;
    files.write(&issued)?;
    let dir = if args.dir == Path::new(DIR) { String::new() } else { format!(" --dir {}", word(&args.dir)) };
    output::text(&format!(
        "CA            {}\nprivate key   {}\ntrust domain  {}\nvalid until   {}\n\nTo issue certificates:\n  \
         causeway certs issue control main{dir}\n  causeway certs issue region us{dir}\n  \
         causeway certs issue operator me{dir}\n",
        files.cert.display(),
        files.key.display(),
        authority.trust_domain(),
        authority.ends().format("%Y-%m-%d"),
    ))?;
    Ok(Outcome::Done)
}

fn issue(args: &Issue, env: &Environment) -> anyhow::Result<Outcome> {
    let role = args.role;
    if role == Role::Region && !region_name::is_valid(&args.name) {
        bail!("a region's name is {}", region_name::RULE);
    }
    let ca = Files::new(&args.dir, "ca");
    let read = |path: &Path| {
        fs::read_to_string(path).map(Zeroizing::new).with_context(|| {
            format!(
                "{} cannot be read; `causeway certs init --dir {}` makes a CA",
                path.display(),
                word(&args.dir)
            )
        })
    };
    let authority = Authority::read(&read(&ca.cert)?, &read(&ca.key)?)
        .with_context(|| format!("the CA in {} cannot be used", args.dir.display()))?;
    let domain = authority.trust_domain();
    let Some(identity) = Identity::new(domain.clone(), role, &args.name) else {
        bail!("a name is 1 to 64 letters, digits, dots, hyphens and underscores");
    };
    let files = Files::new(&args.dir, &format!("{role}-{}", args.name));
    files.check(args.force)?;
    let (from, until) = valid_for(env.now(), TimeDelta::from_std(args.valid_for)?);
    if until > authority.ends() {
        bail!(
            "the CA {} ends on {}: --valid-for may be {}d at most",
            ca.cert.display(),
            authority.ends().format("%Y-%m-%d"),
            (authority.ends() - env.now()).num_days()
        );
    }
    let request = Request { identity: &identity, hosts: &args.hosts, from, until };
    files.write(&authority.issue(&request, env)?)?;

    let (cert, key, root) = (word(&files.cert), word(&files.key), word(&ca.cert));
    let mut text = format!(
        "certificate  {}\nprivate key  {}\nidentity     {identity}\nhosts        {}\nvalid until  {}\n",
        files.cert.display(),
        files.key.display(),
        args.hosts.join(", "),
        until.format("%Y-%m-%d"),
    );
    if matches!(role, Role::Control | Role::Region) {
        text.push_str(&format!(
            "\nTo serve with it:\n  --tls-cert {cert} --tls-key {key} --tls-client-ca {root} --trust-domain {domain}\n"
        ));
    }
    if role == Role::Operator {
        let bundle = word(&files.cert.with_extension("p12"));
        text.push_str(&format!(
            "\nTo import it into a browser, for the console:\n  openssl pkcs12 -export -in {cert} -inkey {key} -out {bundle}\n"
        ));
    }
    if !matches!(role, Role::Control | Role::Region) {
        text.push_str(&format!("\nTo call with it:\n  --tls-ca {root} --tls-cert {cert} --tls-key {key}\n"));
    }
    output::text(&text)?;
    Ok(Outcome::Done)
}
