//! Receives an export: spools it to disk, then takes its import, once.

use std::path::{Path, PathBuf};

use causeway_relocation::{generate::hex, transact};
use sha2::{Digest as _, Sha256};
use tokio::{fs, io::AsyncWriteExt as _};
use uuid::Uuid;

use super::{Import, ImportState, Parameters, Runner};
use crate::{error::Error, store};

/// An upload that is under way. Dropped without [`finish`](Self::finish), its file goes and nothing has happened.
#[derive(Debug)]
pub struct Upload {
    runner: Runner,
    import_id: Uuid,
    parameters: Parameters,
    size_bytes: Option<i64>,
    sha256: Option<String>,
    file: Option<fs::File>,
    part: PathBuf,
    received: i64,
    digest: Sha256,
    taken: bool,
}

/// Where the file of an import is kept until it has ended.
pub(crate) fn spool_path(dir: &Path, import_id: Uuid) -> PathBuf {
    dir.join(format!("{import_id}.json"))
}

/// Whether an import that exists is what is asked for.
fn same(import: &Import, parameters: &Parameters, sha256: &str) -> Result<(), Error> {
    let differs = if import.sha256 != sha256 {
        "content"
    } else if import.parameters.filter != parameters.filter {
        "filter"
    } else if &import.parameters != parameters {
        "set of flags"
    } else {
        return Ok(());
    };
    Err(Error::ImportContentDiffers { import_id: import.id, differs })
}

impl Runner {
    /// The import of that id, if it exists and the caller could say what its file is.
    ///
    /// # Errors
    /// If it exists with another content or other parameters.
    pub(crate) async fn join(
        &self,
        import_id: Uuid,
        parameters: &Parameters,
        sha256: &str,
    ) -> Result<Option<Import>, Error> {
        match store::import::get(self.db(), import_id).await? {
            Some(import) if import.state != ImportState::Receiving => {
                same(&import, parameters, sha256)?;
                self.take_up(&import);
                Ok(Some(import))
            }
            _ => Ok(None),
        }
    }

    /// Runs an import that is not at its end: whoever began it may not have heard that it was taken.
    pub(super) fn take_up(&self, import: &Import) {
        if !import.state.is_final() && self.can_run(import) {
            self.spawn(import.id);
        }
    }

    /// Begins to receive a file. Size and SHA-256 (lowercase hex) are checked at the end, if given.
    ///
    /// # Errors
    /// If it cannot be spooled, or the service is stopping.
    pub(crate) async fn receive(
        &self,
        import_id: Uuid,
        parameters: Parameters,
        size_bytes: Option<i64>,
        sha256: Option<String>,
    ) -> Result<Upload, Error> {
        if self.is_stopping() {
            return Err(Error::Stopping);
        }
        transact!(Error, self.db(), |tx| {
            store::import::begin(tx, import_id, &parameters, self.holder().spool, self.ambient().now())
                .await?;
        })?;
        // A name of its own for each upload: the same import may be sent twice at once.
        let part = self.spool_dir().join(format!("{import_id}.{}.part", self.ambient().uuid().simple()));
        let mut upload = Upload {
            runner: self.clone(),
            import_id,
            parameters,
            size_bytes,
            sha256,
            file: None,
            part,
            received: 0,
            digest: Sha256::new(),
            taken: false,
        };
        // An export holds secrets of everybody in it: nobody else reads it.
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&upload.part).await;
        upload.file = Some(file.map_err(Error::SpoolFailed)?);
        Ok(upload)
    }
}

impl Upload {
    /// Adds bytes of the file.
    ///
    /// # Errors
    /// If they cannot be written, or are more than were announced.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.received = self.received.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        if self.size_bytes.is_some_and(|size| self.received > size) {
            return Err(Error::UploadInvalid(format!(
                "the upload has more than the {} bytes of its header",
                self.size_bytes.unwrap_or(0)
            )));
        }
        if self.runner.is_stopping() {
            return Err(Error::Stopping);
        }
        self.digest.update(bytes);
        match &mut self.file {
            Some(file) => file.write_all(bytes).await.map_err(Error::SpoolFailed),
            None => Err(Error::Internal("an upload goes on after its end".to_owned())),
        }
    }

    /// Checks the file, makes it safe and takes its import. Says whether the import existed before.
    ///
    /// # Errors
    /// If the file is not what was announced, cannot be made safe, or the id stands for another import.
    pub async fn finish(self) -> Result<(Uuid, bool), Error> {
        // Not cut off by a caller who goes away: an import that has been taken must run.
        let runner = self.runner.clone();
        runner.to_its_end(self.take()).await
    }

    async fn take(mut self) -> Result<(Uuid, bool), Error> {
        if let Some(size) = self.size_bytes
            && size != self.received
        {
            return Err(Error::UploadInvalid(format!(
                "the upload has {} bytes and its header says {size}",
                self.received
            )));
        }
        let sha256 = hex(&self.digest.clone().finalize());
        if self.sha256.as_ref().is_some_and(|announced| *announced != sha256) {
            return Err(Error::UploadInvalid(
                "the SHA-256 of the upload is not that of its header".to_owned(),
            ));
        }
        if let Some(mut file) = self.file.take() {
            file.flush().await.map_err(Error::SpoolFailed)?;
            file.sync_all().await.map_err(Error::SpoolFailed)?;
        }
        let path = spool_path(self.runner.spool_dir(), self.import_id);
        let won = transact!(Error, self.runner.db(), |tx| {
            let now = self.runner.ambient().now();
            let won = store::import::receive(
                tx,
                self.import_id,
                &self.parameters,
                self.received,
                &sha256,
                self.runner.holder().spool,
                now,
            )
            .await?;
            // The row is locked: nobody else can put a file here. If the commit fails, the file is put here again, or
            // goes when the service starts.
            if won && fs::try_exists(&self.part).await.map_err(Error::SpoolFailed)? {
                fs::rename(&self.part, &path).await.map_err(Error::SpoolFailed)?;
                let dir = fs::File::open(self.runner.spool_dir()).await.map_err(Error::SpoolFailed)?;
                dir.sync_all().await.map_err(Error::SpoolFailed)?;
            }
            self.runner.ambient().failpoint("region.receive.spooled").await?;
            won
        })?;
        self.taken = true;
        self.runner.ambient().failpoint("region.receive.taken").await?;
        if won {
            tracing::info!(import_id = %self.import_id, bytes = self.received, "an export has been received");
            self.runner.spawn(self.import_id);
            return Ok((self.import_id, false));
        }
        let import = store::import::get(self.runner.db(), self.import_id)
            .await?
            .ok_or(Error::ImportNotFound(self.import_id))?;
        same(&import, &self.parameters, &sha256)?;
        self.runner.take_up(&import);
        Ok((self.import_id, true))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        if let Err(error) = std::fs::remove_file(&self.part)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(import_id = %self.import_id, %error, "the file of an upload that ended early cannot be removed");
        }
        if !self.taken {
            let (runner, import_id) = (self.runner.clone(), self.import_id);
            self.runner.background(async move {
                let forgotten = transact!(Error, runner.db(), |tx| { store::import::forget_receiving(tx, Some(import_id), runner.holder().spool).await? });
                if let Err(error) = forgotten {
                    tracing::warn!(%import_id, %error, "an upload that ended early is forgotten when the region starts again");
                }
            });
        }
    }
}
