//! What was made of files, and is made again when they change.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, Utc};

use crate::{
    FileError,
    validity::{Dated, Ends},
};

/// What looking at the files again has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// They are what they were.
    Unchanged,
    /// They have changed, and new connections use what they have now.
    Replaced,
    /// They cannot be used as they are now. What was read before stays in use.
    Kept(FileError),
}

/// What was made of files.
#[derive(Debug)]
pub(crate) struct Loaded<C> {
    pub(crate) config: Arc<C>,
    /// The digest of the files' contents.
    pub(crate) digest: [u8; 32],
    pub(crate) dated: Vec<Dated>,
}

/// What was made of files, and can be replaced.
#[derive(Debug)]
pub(crate) struct Reloading<C> {
    current: RwLock<Arc<Loaded<C>>>,
    /// The problem that was logged last, so that each is logged once and not at every check.
    logged: Mutex<Option<FileError>>,
}

impl<C> Reloading<C> {
    pub(crate) fn new(loaded: Loaded<C>) -> Self {
        Self { current: RwLock::new(Arc::new(loaded)), logged: Mutex::default() }
    }

    fn current(&self) -> Arc<Loaded<C>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn config(&self) -> Arc<C> {
        Arc::clone(&self.current().config)
    }

    /// The digest of the files' contents.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.current().digest
    }

    /// What to warn of now.
    pub(crate) fn warnings(&self, now: DateTime<Utc>) -> Vec<String> {
        self.current().dated.iter().filter_map(|dated| dated.warning(now)).collect()
    }

    /// When the first certificate of each kind ends.
    pub(crate) fn ends(&self) -> Ends {
        Ends::of(&self.current().dated)
    }

    /// Reads the files and, if they are not what they were, makes something new of them. Logs what comes of it.
    pub(crate) fn refresh<F>(
        &self,
        read: impl FnOnce() -> Result<F, FileError>,
        digest: impl FnOnce(&F) -> [u8; 32],
        build: impl FnOnce(F) -> Result<Loaded<C>, FileError>,
    ) -> Refreshed {
        let before = self.current();
        let made = read().and_then(|files| match digest(&files) == before.digest {
            true => Ok(None),
            false => build(files).map(Some),
        });
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(None) => {
                *logged = None;
                Refreshed::Unchanged
            }
            Ok(Some(loaded)) => {
                *logged = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                tracing::info!(
                    "files of certificates have changed and were read again; new connections use them"
                );
                Refreshed::Replaced
            }
            Err(error) => {
                if logged.as_ref() != Some(&error) {
                    tracing::error!("{error}; the certificates that were read before stay in use");
                    *logged = Some(error.clone());
                }
                Refreshed::Kept(error)
            }
        }
    }
}
