//! `causeway encrypt`, and writing a file that appears complete or not at all.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use causeway_relocation::encrypted::encrypt;
use causeway_silo::env::Environment;
use tempfile::NamedTempFile;

use super::{keys, outcome::Outcome, signals::Signals};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The result is a tar of export.json (the export, AES-128-CBC and HMAC-SHA256 as a Fernet \
                        token), data.key (its key, RSA-OAEP with SHA-256) and key.pub. The owner of the private key \
                        opens it with `causeway decrypt`, or imports it with `causeway import organizations FILE \
                        --decrypt-with PRIVATE_PEM`.\n\nTo make a key pair:\n  openssl genpkey -algorithm RSA \
                        -pkeyopt rsa_keygen_bits:4096 -out private.pem\n  openssl pkey -in private.pem -pubout \
                        -out public.pem"
)]
pub(super) struct Args {
    /// The export: a regular file, because its size must be known before it is read
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The public RSA key of the recipient: a PEM file, 2048 to 4096 bits
    #[arg(long = "with", value_name = "PUBLIC_PEM")]
    pub(super) key: PathBuf,
    /// Where to write the encrypted export; - is stdout [default: FILE with .tar after it]
    #[arg(long, value_name = "OUT")]
    pub(super) to: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    pub(super) force: bool,
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    let key = keys::public(&args.key)?;
    let (file, size) = open(&args.file)?;
    let to = args.to.unwrap_or_else(|| default_name(&args.file));
    let context = format!("{} was not encrypted", args.file.display());
    let work = move |out: &mut Out| Ok(encrypt(file, size, &key, &env, out)?);
    write(to, args.force, work).await.context(context)
}

/// The name of the encrypted file if none is given: `export.json` becomes `export.json.tar`.
pub(super) fn default_name(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".tar");
    name.into()
}

/// Opens a regular file, and returns its size. Callers read it more than once, or exactly to that size.
pub(super) fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    let cannot = || format!("the file {} cannot be read", path.display());
    let file = File::open(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    if !metadata.is_file() {
        bail!("{} is not a regular file; write it to one first", path.display());
    }
    Ok((file, metadata.len()))
}

/// The output: stdout, or a temporary file that does not have its final name yet.
pub(super) type Out = BufWriter<Box<dyn Write + Send>>;

/// Writes to a file or to stdout. Only its owner can read the file. It gets its name once it is complete; an incomplete
/// file is deleted, also if the command is interrupted.
pub(super) async fn write(
    to: PathBuf,
    force: bool,
    work: impl FnOnce(&mut Out) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<Outcome> {
    if to == Path::new("-") {
        let writing = tokio::task::spawn_blocking(move || finish(Box::new(io::stdout()), work));
        let written = writing.await?;
        let is_closed = |error: &anyhow::Error| {
            error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(output::is_closed))
        };
        return match written {
            Err(error) if !is_closed(&error) => Err(error),
            _ => Ok(Outcome::Done),
        };
    }
    let exists = || format!("{} exists already; --force replaces it", to.display());
    if !force && to.symlink_metadata().is_ok() {
        bail!(exists());
    }
    let cannot = || format!("{} cannot be written", to.display());
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, path) =
        NamedTempFile::with_prefix_in(".causeway-", directory).with_context(cannot)?.into_parts();
    let writer = file.try_clone().with_context(cannot)?;
    let writing = tokio::task::spawn_blocking(move || finish(Box::new(writer), work));
    tokio::select! {
        written = writing => written??,
        outcome = signals.next() => {
            // Dropping the path deletes the file.
            output::note("interrupted; nothing was written");
            return Ok(outcome);
        }
    }
    file.sync_all().with_context(cannot)?;
    let whole = NamedTempFile::from_parts(file, path);
    let named = if force { whole.persist(&to) } else { whole.persist_noclobber(&to) };
    match named {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => bail!(exists()),
        Err(error) => Err(error.error).with_context(cannot),
    }
}

fn finish(
    out: Box<dyn Write + Send>,
    work: impl FnOnce(&mut Out) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    work(&mut out)?;
    out.flush().context("the outcome cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_has_its_name_once_all_of_it_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let to = directory.path().join("out");
        let count = || std::fs::read_dir(directory.path()).expect("it is there").count();

        let failed = write(to.clone(), false, |out| {
            out.write_all(&[b'x'; 100_000])?;
            bail!("no more")
        });
        assert_eq!(failed.await.expect_err("it fails").to_string(), "no more");
        assert_eq!(count(), 0);

        // Somebody else was faster.
        let other = to.clone();
        let late = write(to.clone(), false, move |_| Ok(std::fs::write(other, "theirs")?));
        assert!(late.await.expect_err("it is there").to_string().contains("exists already"));
        assert_eq!(std::fs::read(&to).expect("it is there"), b"theirs");

        let forced = write(to.clone(), true, |out| Ok(out.write_all(b"ours")?));
        assert_eq!(forced.await.expect("it is replaced"), Outcome::Done);
        assert_eq!(std::fs::read(&to).expect("it is there"), b"ours");
        assert_eq!(count(), 1);
    }
}
