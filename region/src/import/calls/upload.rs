//! Receives an export: writes it to the spool directory, then accepts its import, exactly once.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use causeway_audit::Subject;
use causeway_relocation::{
    encrypted::{BEGINNING, is_tar},
    plan::PlanningProgress,
};
use causeway_silo::{db::count, transact};
use causeway_traces::TraceContext;
use sha2::{Digest as _, Sha256};
use tokio::{fs, io::AsyncWriteExt as _, task::JoinHandle};
use uuid::Uuid;

use super::{Imports, Requester};
use crate::{
    error::Error,
    import::{Begun, Import, ImportState, Parameters, engine::Engine, spool::spool_path},
    permits::UploadPlace,
    store::{self, import::Received},
};

/// What a caller announces about a file before sending it. Each field may be unknown, and is checked if it is not.
#[derive(Debug, Clone, Default)]
pub struct Announced {
    /// The size of the file in bytes.
    pub size_bytes: Option<i64>,
    /// The SHA-256 of the file, lowercase hex.
    pub sha256: Option<String>,
    /// The SHA-256 of the export in the file, decrypted if it is encrypted; lowercase hex.
    pub export_sha256: Option<String>,
}

/// After this many bytes, received bytes are forced to disk while more arrive, so that little is left to do at the end.
const SYNC_EVERY: u64 = 8 * 1024 * 1024;

/// An upload in progress. If it is dropped without [`finish`](Self::finish), its file is removed and nothing has
/// happened.
#[derive(Debug)]
pub struct Upload {
    engine: Engine,
    import_id: Uuid,
    parameters: Parameters,
    requester: Requester,
    /// That of the call which sends it; the trace of the import, if this upload begins it.
    trace: Option<TraceContext>,
    announced: Announced,
    file: Option<fs::File>,
    part: PathBuf,
    received: u64,
    /// How much had been received when the last sync to disk began, and the task of that sync.
    synced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
    digest: Sha256,
    /// The first bytes, which show whether an export is encrypted.
    beginning: Vec<u8>,
    taken: bool,
    /// Occupied until the upload ends, even if its caller has gone.
    _place: UploadPlace,
}

/// Checks that an existing import has the requested content and parameters.
fn same(import: &Import, parameters: &Parameters, sha256: &str) -> Result<(), Error> {
    let differs = if import.sha256 != sha256 {
        "content"
    } else if import.parameters.filter != parameters.filter {
        "filter"
    } else if import.parameters.dry_run != parameters.dry_run {
        "purpose (a dry run, or not)"
    } else if &import.parameters != parameters {
        "set of flags"
    } else {
        return Ok(());
    };
    Err(Error::ImportContentDiffers { import_id: import.id, differs })
}

impl Imports {
    /// The import with this id, if it exists and the caller's announcement is enough to know that it is the same.
    ///
    /// # Errors
    /// If the import exists with other content or other parameters, or is hidden from the requester.
    pub(crate) async fn join(
        &self,
        import_id: Uuid,
        parameters: &Parameters,
        requester: &Requester,
        announced: &Announced,
    ) -> Result<Option<Import>, Error> {
        let import = store::import::get(&self.context.db, import_id).await?;
        let Some(import) = import.filter(|import| import.state != ImportState::Receiving) else {
            return Ok(None);
        };
        requester.may_see(import.begun_by.as_deref())?;
        let sha256 = match (&announced.export_sha256, &announced.sha256) {
            (Some(export), _) => export,
            (None, Some(file)) if [&import.sha256, &import.upload_sha256].contains(&file) => &import.sha256,
            // The same export, encrypted again, has another hash. Only its bytes can show that it is the same.
            _ => return Ok(None),
        };
        same(&import, parameters, sha256)?;
        self.engine.continue_import(&import);
        Ok(Some(import))
    }

    /// Begins to receive a file, in a place for uploads.
    ///
    /// # Errors
    /// If it is too large or cannot be spooled, or the service is stopping.
    pub(crate) async fn receive(
        &self,
        place: UploadPlace,
        import_id: Uuid,
        parameters: Parameters,
        requester: Requester,
        announced: Announced,
    ) -> Result<Upload, Error> {
        if self.context.lifecycle.is_stopping() {
            return Err(Error::Stopping);
        }
        let limit = self.context.limits.upload_bytes;
        if let Some(size) = announced.size_bytes.and_then(|size| u64::try_from(size).ok())
            && size > limit
        {
            return Err(Error::UploadTooLarge { announced: Some(size), limit });
        }
        // Not cut off if the caller goes away: the row could then be written after the clean-up that removes it.
        let imports = self.clone();
        // The task is not a part of the current span.
        let trace = TraceContext::current();
        let mut upload = self
            .context
            .lifecycle
            .to_its_end(async move {
                imports.begin_upload(place, import_id, parameters, requester, announced).await
            })
            .await?;
        upload.trace = trace;
        Ok(upload)
    }

    async fn begin_upload(
        &self,
        place: UploadPlace,
        import_id: Uuid,
        parameters: Parameters,
        requester: Requester,
        announced: Announced,
    ) -> Result<Upload, Error> {
        // Each upload has a file name of its own, because the same import may be sent twice at once.
        let part =
            self.context.spool_dir().join(format!("{import_id}.{}.part", self.context.env.uuid().simple()));
        let mut upload = Upload {
            engine: self.engine.clone(),
            import_id,
            parameters,
            requester,
            trace: None,
            announced,
            file: None,
            part,
            received: 0,
            synced: 0,
            syncing: None,
            digest: Sha256::new(),
            beginning: Vec::new(),
            taken: false,
            _place: place,
        };
        transact!(Error, self.context.db, |tx| {
            let now = self.context.env.now();
            store::import::begin(tx, import_id, &upload.parameters, upload.begun(), now).await?;
        })?;
        // An export contains secrets of everybody in it, so nobody else may read it.
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&upload.part).await;
        upload.file = Some(file.map_err(Error::SpoolFailed)?);
        Ok(upload)
    }
}

impl Upload {
    /// Appends bytes of the file.
    ///
    /// # Errors
    /// If they cannot be written, are more than were announced or than this region accepts, or belong to an encrypted
    /// export and the region has no key.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(size) = self.announced.size_bytes
            && i64::try_from(self.received).map_or(true, |received| received > size)
        {
            return Err(Error::UploadInvalid(format!(
                "the upload has more than the {size} bytes of its header"
            )));
        }
        let limit = self.engine.context.limits.upload_bytes;
        if self.received > limit {
            return Err(Error::UploadTooLarge { announced: None, limit });
        }
        if self.engine.context.lifecycle.are_uploads_over() {
            return Err(Error::Stopping);
        }
        if self.beginning.len() < BEGINNING {
            let missing = BEGINNING - self.beginning.len();
            self.beginning.extend(bytes.iter().take(missing));
            if self.beginning.len() == BEGINNING {
                self.recognized().await?;
            }
        }
        self.digest.update(bytes);
        match &mut self.file {
            Some(file) => file.write_all(bytes).await.map_err(Error::SpoolFailed)?,
            None => return Err(Error::Internal("an upload goes on after its end".to_owned())),
        }
        if self.received - self.synced >= SYNC_EVERY
            && self.syncing.as_ref().is_none_or(JoinHandle::is_finished)
        {
            self.synced().await.map_err(Error::SpoolFailed)?;
            self.synced = self.received;
            if let Some(file) = &self.file {
                let file = file.try_clone().await.map_err(Error::SpoolFailed)?;
                self.syncing = Some(tokio::spawn(async move { file.sync_data().await }));
            }
        }
        Ok(())
    }

    /// Waits for the sync in progress. A file reports each of its errors only once, so none may be lost.
    async fn synced(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(syncing) => syncing.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    fn is_encrypted(&self) -> bool {
        is_tar(&self.beginning)
    }

    /// Refuses early, after little has been sent, what would be refused at the end.
    async fn recognized(&self) -> Result<(), Error> {
        if self.is_encrypted() {
            return self.engine.context.keys().map(drop).ok_or(Error::DecryptionKeyMissing);
        }
        if let Some(sha256) = &self.announced.sha256
            && let Some(import) = store::import::get(&self.engine.context.db, self.import_id).await?
            && import.state != ImportState::Receiving
        {
            self.requester.may_see(import.begun_by.as_deref())?;
            return same(&import, &self.parameters, sha256);
        }
        Ok(())
    }

    /// Compares what was received with what the caller reports, at the end, to have sent.
    ///
    /// # Errors
    /// If size or SHA-256 differ.
    pub fn ended(&self, size_bytes: i64, sha256: &str) -> Result<(), Error> {
        if u64::try_from(size_bytes) != Ok(self.received) {
            return Err(Error::UploadInvalid(format!(
                "the upload has {} bytes and its end says {size_bytes}",
                self.received
            )));
        }
        if hex::encode(self.digest.clone().finalize()) != sha256 {
            return Err(Error::UploadInvalid("the SHA-256 of the upload is not that of its end".to_owned()));
        }
        Ok(())
    }

    /// Checks the file, forces it to disk and accepts its import. Returns the import's id, and whether it existed
    /// before.
    ///
    /// # Errors
    /// If the file is not what was announced, cannot be written to disk, or the id belongs to another import.
    pub async fn finish(self) -> Result<(Uuid, bool), Error> {
        // Not cut off if the caller goes away: an import that has been accepted must run.
        let engine = self.engine.clone();
        engine.context.lifecycle.to_its_end(self.take()).await
    }

    /// Checks the file against what was announced, forces it to disk, and opens it if it is encrypted.
    async fn received(&mut self) -> Result<Received, Error> {
        let size_bytes = count(self.received)?;
        if let Some(size) = self.announced.size_bytes
            && size != size_bytes
        {
            return Err(Error::UploadInvalid(format!(
                "the upload has {size_bytes} bytes and its header says {size}"
            )));
        }
        let differs =
            |announced: &Option<String>, sha256: &str| announced.as_ref().is_some_and(|it| it != sha256);
        let upload_sha256 = hex::encode(self.digest.clone().finalize());
        if differs(&self.announced.sha256, &upload_sha256) {
            return Err(Error::UploadInvalid(
                "the SHA-256 of the upload is not that of its header".to_owned(),
            ));
        }
        self.synced().await.map_err(Error::SpoolFailed)?;
        let file = self.file.take();
        let mut file = file.ok_or_else(|| Error::Internal("an upload ends a second time".to_owned()))?;
        file.flush().await.map_err(Error::SpoolFailed)?;
        file.sync_all().await.map_err(Error::SpoolFailed)?;
        let mut received = Received {
            size_bytes,
            sha256: upload_sha256.clone(),
            upload_sha256,
            encrypted: self.is_encrypted(),
        };
        if received.encrypted {
            let spooled = self.engine.context.spooled(self.part.clone(), true);
            let open = move |watch: &PlanningProgress| spooled.open(&watch.stop);
            let source = self.engine.context.unless_stopped(&Arc::default(), open).await?;
            received.size_bytes = count(source.size())?;
            received.sha256 = source.sha256().ok_or_else(|| {
                Error::Internal("an encrypted export was opened without its SHA-256".to_owned())
            })?;
        }
        if differs(&self.announced.export_sha256, &received.sha256) {
            return Err(Error::UploadInvalid(
                "the SHA-256 of the export in the upload is not that of its header".to_owned(),
            ));
        }
        Ok(received)
    }

    async fn take(mut self) -> Result<(Uuid, bool), Error> {
        let received = self.received().await?;
        let path = spool_path(self.engine.context.spool_dir(), self.import_id);
        let import = loop {
            if self.commit(&received, &path).await? {
                self.taken = true;
                self.engine.context.env.failpoint("region.receive.accepted").await?;
                tracing::info!(import_id = %self.import_id, bytes = received.size_bytes, encrypted = received.encrypted, "an export has been received");
                // Nothing between the commit and this can fail, because an accepted import must run.
                self.engine.spawn(self.import_id);
                return Ok((self.import_id, false));
            }
            // Another upload of the import that ended early may have removed the row before this one could accept it.
            if let Some(import) = store::import::get(&self.engine.context.db, self.import_id).await? {
                break import;
            }
        };
        self.taken = true;
        self.engine.context.env.failpoint("region.receive.accepted").await?;
        self.requester.may_see(import.begun_by.as_deref())?;
        same(&import, &self.parameters, &received.sha256)?;
        self.engine.continue_import(&import);
        Ok((self.import_id, true))
    }

    /// What the row of the import gets when it begins.
    fn begun(&self) -> Begun<'_> {
        Begun {
            by: self.requester.uri.as_deref(),
            spool_id: self.engine.context.holder.spool,
            control_batch: self.engine.context.limits.control_batch,
        }
    }

    /// Accepts the import, unless another upload has, and moves the file to its final place. Returns whether it did.
    async fn commit(&self, received: &Received, path: &Path) -> Result<bool, Error> {
        transact!(Error, self.engine.context.db, |tx| {
            let now = self.engine.context.env.now();
            let (id, begun) = (self.import_id, self.begun());
            let won = store::import::receive(tx, id, &self.parameters, begun, received, now).await?;
            if won {
                causeway_audit::append(tx, &Subject::import(self.import_id), now).await?;
                if let Some(trace) = self.trace {
                    store::import_trace::set(tx, self.import_id, trace).await?;
                }
            }
            // The row is locked, so nobody else can move a file here. If the commit fails, the file is moved here
            // again, or is removed when the service starts.
            if won && fs::try_exists(&self.part).await.map_err(Error::SpoolFailed)? {
                fs::rename(&self.part, path).await.map_err(Error::SpoolFailed)?;
                let dir =
                    fs::File::open(self.engine.context.spool_dir()).await.map_err(Error::SpoolFailed)?;
                dir.sync_all().await.map_err(Error::SpoolFailed)?;
            }
            self.engine.context.env.failpoint("region.receive.spooled").await?;
            won
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove.
        if let Err(error) = std::fs::remove_file(&self.part)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(import_id = %self.import_id, %error, "the file of an upload that ended early cannot be removed");
        }
        if !self.taken {
            let (engine, import_id) = (self.engine.clone(), self.import_id);
            self.engine.context.lifecycle.background(async move {
                let forgotten = transact!(Error, engine.context.db, |tx| { store::import::forget_receiving(tx, Some(import_id), engine.context.holder.spool).await? });
                if let Err(error) = forgotten {
                    tracing::warn!(%import_id, %error, "the row of an upload that ended early stays until the region starts again");
                }
            });
        }
    }
}
