//! An export on its way to a region: as it is, encrypted again for the region's own key, or decrypted.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::Context as _;
use causeway_client::{Client, ExportFile, UploadError, upload};
use causeway_proto::{
    region::v1::{GetPublicKeyRequest, ImportHeader, ImportOrganizationsResponse},
    relocation::v1::ErrorReason,
};
use causeway_relocation::encrypted::{Encrypted, PrivateKey, PublicKey, Rewrapped};
use causeway_silo::env::Environment;

use super::encrypt::open;
use crate::output;

/// An export to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A file as it is, which the region opens if it is encrypted.
    File(ExportFile),
    /// An encrypted file that has been opened, and authenticated, here.
    Opened(Opened),
}

/// An encrypted export that was opened here. Only a few parts of it are in memory at a time, and none of it is written
/// to disk here.
#[derive(Debug)]
pub(super) struct Opened {
    encrypted: Encrypted<File>,
    /// The export encrypted for the region's key. `None` if the region has no key, which then gets the export
    /// decrypted.
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
    /// Reads a file once. With `key`, the file must be an export that was encrypted for it.
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

    /// Prepares the export for this region: one that was opened here is encrypted for the region's key, if the region
    /// has one.
    pub(super) async fn for_region(self, region: &Client, env: &Environment) -> anyhow::Result<Self> {
        let Self::Opened(Opened { encrypted, .. }) = self else { return Ok(self) };
        let asked = region
            .ask(GetPublicKeyRequest {}, async |it, request| it.imports().get_public_key(request).await)
            .await;
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

    /// Sends the export with `header`, and fills in its size and hashes. `sent` counts the bytes sent so far.
    pub(super) async fn upload(
        &self,
        region: &Client,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        match self {
            Self::File(file) => file.upload(region, header, sent).await,
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
        region: &Client,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        let header = ImportHeader {
            size_bytes: Some(i64::try_from(self.size()).map_err(io::Error::other)?),
            export_sha256: self.encrypted.sha256(),
            ..header.clone()
        };
        upload(region, header, self.reader(), sent).await
    }
}
