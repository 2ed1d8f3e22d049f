//! Spooled exports: where they are stored, and how they are opened. An encrypted upload stays encrypted on disk.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use causeway_relocation::{
    encrypted::OpenError,
    export::{ExportError, Source},
    plan::{Checkpoint, PlanningProgress},
};
use causeway_silo::env::Environment;
use uuid::Uuid;

use super::context::ImportContext;
use crate::{decryption_key::DecryptionKeys, error::Error};

/// The path of an import's file until the import has ended, whether the file is encrypted or not.
pub(crate) fn spool_path(dir: &Path, import_id: Uuid) -> PathBuf {
    dir.join(format!("{import_id}.json"))
}

/// A spooled file, with what is needed to open it.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) path: PathBuf,
    pub(super) encrypted: bool,
    pub(super) keys: Option<DecryptionKeys>,
    pub(super) env: Environment,
}

impl Spooled {
    /// Opens the file. Authenticates an encrypted one in full, unless `stop` is set before that has ended. Blocks.
    pub(super) fn open(&self, stop: &AtomicBool) -> Result<Source, Error> {
        if !self.encrypted {
            return Ok(Source::plain(&self.path).map_err(|error| self.unreadable(&error))?);
        }
        let keys = self.keys.as_ref().ok_or(Error::DecryptionKeyMissing)?;
        for key in keys.private.iter() {
            match Source::encrypted(&self.path, key, &self.env, stop) {
                // The file names the key that it was encrypted for, before anything is decrypted.
                Err(OpenError::WrongKey) => {}
                Ok(source) => return Ok(source),
                Err(OpenError::Read(error)) => return Err(self.unreadable(&error).into()),
                Err(OpenError::Stopped) => return Err(Error::Stopping),
                Err(error) => return Err(Error::EncryptedExport(error)),
            }
        }
        Err(Error::DecryptionKeyMismatch)
    }

    /// The error of the disk, with the path of the file.
    fn unreadable(&self, error: &std::io::Error) -> ExportError {
        std::io::Error::new(error.kind(), format!("{}: {error}", self.path.display())).into()
    }
}

impl ImportContext {
    /// The spooled file at `path`.
    pub(super) fn spooled(&self, path: PathBuf, encrypted: bool) -> Spooled {
        Spooled { path, encrypted, keys: self.keys().cloned(), env: self.env.clone() }
    }

    /// Runs blocking work on a thread of its own. Sets the stop flag of `watch` when the service stops.
    pub(super) async fn unless_stopped<T: Send + 'static>(
        &self,
        watch: &Arc<PlanningProgress>,
        work: impl FnOnce(&PlanningProgress) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let watched = Arc::clone(watch);
        let mut working = tokio::task::spawn_blocking(move || work(&watched));
        let done = tokio::select! {
            done = &mut working => done,
            () = self.lifecycle.stopping() => {
                watch.stop.store(true, std::sync::atomic::Ordering::Relaxed);
                working.await
            }
        };
        done.map_err(|error| Error::of_task("reading an export", &error))?
    }

    /// Removes the file of an import that no longer needs it, and its plan.
    pub(super) async fn remove_spool(&self, id: Uuid) {
        let kept = Checkpoint::ENDINGS.iter().map(|ending| self.spool_dir().join(format!("{id}{ending}")));
        let paths: Vec<PathBuf> = [spool_path(self.spool_dir(), id)].into_iter().chain(kept).collect();
        let removed = tokio::task::spawn_blocking(move || {
            for path in paths {
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(import_id = %id, path = %path.display(), %error, "a file of an import that has ended cannot be removed");
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::warn!(import_id = %id, %error, "the files of an import that has ended cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_named_with_what_the_system_says() {
        let spooled = Spooled {
            path: "/nowhere/spool/3b1f.json".into(),
            encrypted: false,
            keys: None,
            env: Environment::system(),
        };
        let error = spooled.open(&AtomicBool::new(false)).expect_err("there is no file");
        assert_eq!(
            error.to_string(),
            "the spooled export cannot be read: /nowhere/spool/3b1f.json: No such file or directory (os error 2)"
        );
        // It does not come back.
        assert!(!error.is_transient());
    }
}
