//! `causeway decrypt`, and an encrypted export that is decrypted on its way to a region.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use causeway::client::{ExportFile, Peer, UploadError, upload};
use causeway_proto::region::v1::{
    ImportHeader, ImportOrganizationsRequest, ImportOrganizationsResponse, import_organizations_request::Part,
};
use causeway_relocation::{
    ambient::Ambient,
    sealed::{PrivateKey, Sealed},
};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{
    Outcome,
    encrypt::{Out, open, read_key, write},
};

/// How much of an export goes into one message.
const PART_BYTES: usize = 256 * 1024;
/// How many parts may wait for the region.
const PARTS_AHEAD: usize = 2;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The whole file is authenticated before a byte of it is written. The export is then on the \
                        disk as it was before it was encrypted, readable for its owner only; to import it, this is \
                        not needed: `causeway import organizations FILE --decrypt-with PRIVATE_PEM` decrypts it on \
                        its way to the region."
)]
pub(super) struct Args {
    /// The encrypted export: a tar of export.json, data.key and key.pub
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The private RSA key that it was encrypted for, PEM, without a passphrase
    #[arg(long = "with", value_name = "PRIVATE_PEM")]
    pub(super) key: PathBuf,
    /// Where to write the export; - is stdout [default: FILE with .json instead of .tar]
    #[arg(long, value_name = "OUT")]
    pub(super) to: Option<PathBuf>,
    /// Replace the file that is there already
    #[arg(long)]
    pub(super) force: bool,
}

pub(super) async fn run(args: Args, ambient: Ambient) -> anyhow::Result<Outcome> {
    let to = args.to.unwrap_or_else(|| default_name(&args.file));
    let context = format!("{} was not decrypted", args.file.display());
    let work = move |out: &mut Out| {
        let sealed = open_sealed(&args.file, &args.key, &ambient)?;
        io::copy(&mut sealed.plaintext(), out).context("the export cannot be written whole")?;
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

fn open_sealed(file: &Path, key: &Path, ambient: &Ambient) -> anyhow::Result<Sealed<File>> {
    let pem = read_key(key)?;
    let key = PrivateKey::from_pem(&pem).with_context(|| key.display().to_string())?;
    let (opened, _) = open(file)?;
    Ok(Sealed::open(opened, &key, ambient)?)
}

/// An export to send: as it is, or decrypted on the way.
#[derive(Debug)]
pub(super) enum Source {
    Plain(ExportFile),
    Sealed(SealedExport),
}

impl Source {
    /// Reads the export once, for its size and hash. With a private key it is an encrypted one.
    pub(super) async fn read(file: &Path, key: Option<&Path>, ambient: &Ambient) -> anyhow::Result<Self> {
        if let Some(key) = key {
            return SealedExport::read(file, key, ambient).await.map(Self::Sealed);
        }
        let read = ExportFile::read(file).await;
        Ok(Self::Plain(read.with_context(|| format!("the file {} cannot be read", file.display()))?))
    }

    /// How many bytes the region gets.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Plain(file) => file.size(),
            Self::Sealed(export) => export.size,
        }
    }

    /// Sends it under `header`, whose size and hash are filled in here. `sent` counts the bytes on their way.
    pub(super) async fn upload(
        &self,
        region: &Peer,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        match self {
            Self::Plain(file) => upload(region, file, header, sent).await,
            Self::Sealed(export) => export.upload(region, header, sent).await,
        }
    }
}

/// An encrypted export that has been authenticated, and the size and hash of what is in it. The region gets it
/// decrypted; here only a few parts at a time are, and none on disk.
#[derive(Debug)]
pub(super) struct SealedExport {
    sealed: Sealed<File>,
    size: u64,
    sha256: String,
}

impl SealedExport {
    async fn read(file: &Path, key: &Path, ambient: &Ambient) -> anyhow::Result<Self> {
        let (file, key, ambient) = (file.to_owned(), key.to_owned(), ambient.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let context = || format!("{} cannot be decrypted", file.display());
            let sealed = open_sealed(&file, &key, &ambient).with_context(context)?;
            let (size, sha256) = (sealed.size(), sealed.sha256());
            Ok(Self { sealed, size, sha256 })
        });
        reading.await?
    }

    async fn upload(
        &self,
        region: &Peer,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        let header = ImportHeader {
            size_bytes: Some(i64::try_from(self.size).map_err(io::Error::other)?),
            sha256: self.sha256.clone(),
            ..header.clone()
        };
        sent.store(0, Ordering::Relaxed);
        let failed = Arc::new(Mutex::new(None));
        let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
        let (sealed, failure) = (self.sealed.clone(), Arc::clone(&failed));
        // One that is still at work for an upload that broke off ends with its next part, which nobody receives.
        tokio::task::spawn_blocking(move || {
            let send = |part| sender.blocking_send(part).is_ok();
            if let Err(error) = parts(&sealed, send) {
                *lock(&failure) = Some(error);
            }
        });
        let sent = Arc::clone(sent);
        let data = stream::unfold(receiver, move |mut receiver| {
            let sent = Arc::clone(&sent);
            async move {
                let part: Vec<u8> = receiver.recv().await?;
                sent.fetch_add(u64::try_from(part.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                Some((Part::Data(part), receiver))
            }
        });
        let messages = stream::iter([Part::Header(header)])
            .chain(data)
            .map(|part| ImportOrganizationsRequest { part: Some(part) });

        let answer = region.answer(region.imports().import_organizations(messages)).await;
        match lock(&failed).take() {
            // The region has only seen an export that ended early; this is why it did.
            Some(error) => Err(UploadError::File(error)),
            None => Ok(answer?),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Decrypts the export, part after part, until nobody takes them any more.
fn parts(sealed: &Sealed<File>, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    let mut plaintext = sealed.plaintext();
    let limit = u64::try_from(PART_BYTES).map_err(io::Error::other)?;
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        plaintext.by_ref().take(limit).read_to_end(&mut part)?;
        if part.is_empty() || !take(part) {
            return Ok(());
        }
    }
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
