//! `causeway decrypt`.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use causeway_silo::env::Environment;

use super::{
    encrypt::{Out, write},
    keys,
    outcome::Outcome,
    outgoing::open_encrypted,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Authenticates the whole file before it writes anything. The decrypted export is readable \
                        for its owner only. To import an encrypted export you need not decrypt it: `causeway import organizations FILE --decrypt-with PRIVATE_PEM` decrypts it on \
                        its way to the region."
)]
pub(super) struct Args {
    /// The encrypted export: a tar of export.json, data.key and key.pub
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The private RSA key that the export was encrypted for: a PEM file, without a passphrase
    #[arg(long = "with", value_name = "PRIVATE_PEM")]
    pub(super) key: PathBuf,
    /// Where to write the export; - is stdout [default: FILE with .json instead of .tar]
    #[arg(long, value_name = "OUT")]
    pub(super) to: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    pub(super) force: bool,
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    let to = args.to.unwrap_or_else(|| default_name(&args.file));
    let context = format!("{} was not decrypted", args.file.display());
    let work = move |out: &mut Out| {
        let encrypted = open_encrypted(&args.file, &*keys::private(&args.key)?, &env)?;
        io::copy(&mut encrypted.plaintext(), out).context("the export cannot be written whole")?;
        Ok(())
    };
    write(to, args.force, work).await.context(context)
}

/// `export.tar` and `export.json.tar` become `export.json`.
pub(super) fn default_name(file: &Path) -> PathBuf {
    let bare = match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("tar") => file.with_extension(""),
        _ => file.to_owned(),
    };
    if bare != file && bare.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return bare;
    }
    let mut name = bare.into_os_string();
    name.push(".json");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decrypted_file_is_named_after_the_encrypted_one() {
        for (from, to) in [
            ("export.tar", "export.json"),
            ("export.json.tar", "export.json"),
            ("a/b.c/x.JSON.TAR", "a/b.c/x.JSON"),
            ("export", "export.json"),
            ("export.json", "export.json.json"),
            ("acme.2024.tar", "acme.2024.json"),
        ] {
            assert_eq!(default_name(Path::new(from)), Path::new(to));
        }
        assert_eq!(super::super::encrypt::default_name(Path::new("a/x.json")), Path::new("a/x.json.tar"));
    }
}
