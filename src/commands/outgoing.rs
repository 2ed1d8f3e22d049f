//! An export on its way to a region: as it is, encrypted anew for the region's own key, or decrypted.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use causeway::client::{ExportFile, Peer, UploadError, unary, upload};
use causeway_proto::{
    region::v1::{
        GetPublicKeyRequest, ImportHeader, ImportOrganizationsRequest, ImportOrganizationsResponse,
        UploadEnd, import_organizations_request::Part,
    },
    relocation::v1::ErrorReason,
    whole::SentBytes,
};
use causeway_relocation::encrypted::{Encrypted, PrivateKey, PublicKey, Rewrapped};
use causeway_silo::env::Environment;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::encrypt::open;
use crate::output;

/// How much of an export goes into one message.
const PART_BYTES: usize = 256 * 1024;
/// How many parts may wait for the region.
const PARTS_AHEAD: usize = 2;

/// An export to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A file as it is, which the region opens if it is encrypted.
    File(ExportFile),
    /// An encrypted file that has been opened, and authenticated, here.
    Opened(Opened),
}

/// An encrypted export that was opened here. Only a few parts of it are in memory at a time, and none of it is written to
/// disk here.
#[derive(Debug)]
pub(super) struct Opened {
    encrypted: Encrypted<File>,
    /// As the region can open it; if it can open nothing, it gets the export decrypted.
    rewrapped: Option<Arc<Rewrapped<File>>>,
}

/// Opens an encrypted export, and authenticates all of it. Blocks.
pub(super) fn open_encrypted(
    file: &Path,
    key: &PrivateKey,
    env: &Environment,
) -> anyhow::Result<Encrypted<File>> {
    let (opened, _) = open(file)?;
    Ok(Encrypted::open(opened, key, env)?)
}

impl Outgoing {
    /// Reads a file once. With a private key, it is one that was encrypted for it.
    pub(super) async fn read(
        file: &Path,
        key: Option<&Arc<PrivateKey>>,
        env: &Environment,
    ) -> anyhow::Result<Self> {
        let Some(key) = key.cloned() else {
            let read = ExportFile::read(file).await;
            return Ok(Self::File(
                read.with_context(|| format!("the file {} cannot be read", file.display()))?,
            ));
        };
        let (file, env) = (file.to_owned(), env.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let context = || format!("{} cannot be decrypted", file.display());
            open_encrypted(&file, &key, &env).with_context(context)
        });
        Ok(Self::Opened(Opened { encrypted: reading.await??, rewrapped: None }))
    }

    /// Makes it ready for this region: one that was opened here is encrypted for the region's key, if it has one.
    pub(super) async fn for_region(self, region: &Peer, env: &Environment) -> anyhow::Result<Self> {
        let Self::Opened(Opened { encrypted, .. }) = self else { return Ok(self) };
        let asked = region.answer(region.imports().get_public_key(unary(GetPublicKeyRequest {}))).await;
        let pem = match asked {
            Ok(answer) => answer.pem,
            Err(error) if error.reason() == Some(ErrorReason::DecryptionKeyMissing) => {
                output::note(
                    "the region has no private key (--decryption-key): the export travels to it DECRYPTED, and the \
                     region keeps it so on its disk until the import has ended",
                );
                return Ok(Self::Opened(Opened { encrypted, rewrapped: None }));
            }
            Err(error) => return Err(error).context("the region's public key cannot be had"),
        };
        let key = PublicKey::from_pem(&pem).context("the region's public key cannot be used")?;
        let rewrapped = Some(Arc::new(encrypted.rewrap_key(&key, env)?));
        Ok(Self::Opened(Opened { encrypted, rewrapped }))
    }

    /// How many bytes the region gets.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size(),
            Self::Opened(opened) => opened.size(),
        }
    }

    /// Sends it under `header`, whose size and hashes are filled in here. `sent` counts the bytes on their way.
    pub(super) async fn upload(
        &self,
        region: &Peer,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        match self {
            Self::File(file) => upload(region, file, header, sent).await,
            Self::Opened(opened) => opened.upload(region, header, sent).await,
        }
    }
}

impl Opened {
    fn size(&self) -> u64 {
        self.rewrapped.as_ref().map_or(self.encrypted.size(), |rewrapped| rewrapped.size())
    }

    fn reader(&self) -> Box<dyn Read + Send> {
        match &self.rewrapped {
            Some(rewrapped) => Box::new(rewrapped.reader()),
            None => Box::new(self.encrypted.plaintext()),
        }
    }

    async fn upload(
        &self,
        region: &Peer,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        let header = ImportHeader {
            size_bytes: Some(i64::try_from(self.size()).map_err(io::Error::other)?),
            export_sha256: self.encrypted.sha256(),
            ..header.clone()
        };
        sent.store(0, Ordering::Relaxed);
        let failed = Arc::new(Mutex::new(None));
        let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
        let (reader, failure) = (self.reader(), Arc::clone(&failed));
        // One that is still at work for an upload that broke off ends with its next part, which nobody receives.
        tokio::task::spawn_blocking(move || {
            match parts(reader, |part| sender.blocking_send(Part::Data(part)).is_ok()) {
                // Without the end the region keeps nothing.
                Err(error) => *lock(&failure) = Some(error),
                // Whoever does not take it any more has been answered.
                Ok(end) => drop(sender.blocking_send(Part::End(end))),
            }
        });
        let sent = Arc::clone(sent);
        let data = stream::unfold(receiver, move |mut receiver| {
            let sent = Arc::clone(&sent);
            async move {
                let part = receiver.recv().await?;
                if let Part::Data(data) = &part {
                    sent.fetch_add(u64::try_from(data.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                Some((part, receiver))
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

/// Reads in parts, until nobody takes them any more, and gives the end of what was read.
fn parts(mut reader: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<UploadEnd> {
    let limit = u64::try_from(PART_BYTES).map_err(io::Error::other)?;
    let mut sent = SentBytes::default();
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        reader.by_ref().take(limit).read_to_end(&mut part)?;
        sent.add(&part);
        if part.is_empty() || !take(part) {
            return Ok(sent.end());
        }
    }
}
