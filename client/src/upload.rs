//! Sending an export to a region. The file is read twice and is never all in memory: once for its size and
//! hash, by which the region knows whether it has this import already and whether it got the whole file, and
//! once to be sent.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_proto::{
    region::v1::{
        ImportHeader, ImportOrganizationsRequest, ImportOrganizationsResponse, UploadEnd,
        import_organizations_request::Part,
    },
    whole::UploadDigest,
};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::{CallError, Client};

/// Bytes of the file in one message.
const PART_BYTES: usize = 256 * 1024;
/// Messages that are read ahead of the region.
const PARTS_AHEAD: usize = 2;

/// An export file, its size and its hash.
#[derive(Debug, Clone)]
pub struct ExportFile {
    path: PathBuf,
    size: u64,
    sha256: String,
}

impl ExportFile {
    /// Reads the file once.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let end = read_parts(File::open(&path)?, |_| true)?;
            let size = u64::try_from(end.size_bytes).map_err(io::Error::other)?;
            Ok(Self { path, size, sha256: end.sha256 })
        });
        reading.await.map_err(io::Error::other)?
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its SHA-256 in lowercase hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Sends the file under `header`, whose size and hash are filled in here. `sent` counts the bytes on their way.
    ///
    /// # Errors
    /// If the file cannot be read, or the region does not take it.
    pub async fn upload(
        &self,
        region: &Client,
        header: &ImportHeader,
        sent: &Arc<AtomicU64>,
    ) -> Result<ImportOrganizationsResponse, UploadError> {
        let path = self.path.clone();
        let opening = tokio::task::spawn_blocking(move || File::open(path));
        let file = opening.await.map_err(io::Error::other)??;
        let header = ImportHeader {
            size_bytes: Some(i64::try_from(self.size).map_err(io::Error::other)?),
            sha256: self.sha256.clone(),
            ..header.clone()
        };
        upload(region, header, file, sent).await
    }
}

/// Why an export could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file could not be read to its end.
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    /// The region did not take it.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl UploadError {
    /// Whether sending it again may succeed. That is always safe: the same id with the same content is one import.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Call(error) => error.is_transient(),
        }
    }

    /// How long the region asks to wait before it is sent again, at most a minute; `None` if it does not say.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::File(_) => None,
            Self::Call(error) => error.retry_delay(),
        }
    }
}

/// Sends an export that `reader` gives, under `header` as it is. `sent` counts the bytes on their way, from 0.
///
/// # Errors
/// If the export cannot be read, or the region does not take it.
pub async fn upload(
    region: &Client,
    header: ImportHeader,
    reader: impl Read + Send + 'static,
    sent: &Arc<AtomicU64>,
) -> Result<ImportOrganizationsResponse, UploadError> {
    sent.store(0, Ordering::Relaxed);
    let failed = Arc::new(Mutex::new(None));
    let data = read_ahead(reader, Arc::clone(&failed));
    let sent = Arc::clone(sent);
    let data = stream::unfold(data, move |mut data| {
        let sent = Arc::clone(&sent);
        async move {
            let part = data.recv().await?;
            if let Part::Data(bytes) = &part {
                sent.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            Some((part, data))
        }
    });
    let messages = stream::iter([Part::Header(header)])
        .chain(data)
        .map(|part| ImportOrganizationsRequest { part: Some(part) });

    let answer = region.answer(region.imports().import_organizations(region.request(messages))).await;
    match lock(&failed).take() {
        // The region only saw an export that ended early; this is why it did.
        Some(error) => Err(UploadError::File(error)),
        None => Ok(answer?),
    }
}

/// Reads an export on a thread of its own, and gives its parts and its end. gRPC has no way to send an error, so one
/// that comes up ends the parts without an end, which the region does not take, and is left in `failed`.
fn read_ahead(
    reader: impl Read + Send + 'static,
    failed: Arc<Mutex<Option<io::Error>>>,
) -> mpsc::Receiver<Part> {
    let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
    // After an upload that broke off, it ends with its next part, which nobody receives.
    tokio::task::spawn_blocking(move || {
        match read_parts(reader, |part| sender.blocking_send(Part::Data(part)).is_ok()) {
            Err(error) => *lock(&failed) = Some(error),
            // If nobody receives it, the region has answered already.
            Ok(end) => drop(sender.blocking_send(Part::End(end))),
        }
    });
    receiver
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads in parts of `PART_BYTES`, until `take` returns `false`, and returns the end of what was read.
fn read_parts(mut reader: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<UploadEnd> {
    let limit = u64::try_from(PART_BYTES).map_err(io::Error::other)?;
    let mut sent = UploadDigest::default();
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        reader.by_ref().take(limit).read_to_end(&mut part)?;
        sent.add(&part);
        if part.is_empty() || !take(part) {
            return Ok(sent.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_measured_and_sent_in_parts_with_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("export.json");
        std::fs::write(&path, vec![b'x'; PART_BYTES + 3]).expect("it is written");

        let file = ExportFile::read(&path).await.expect("it is there");
        assert_eq!(file.size(), 262_147);
        assert_eq!(file.sha256().len(), 64);

        let failed = Arc::default();
        let mut parts = read_ahead(File::open(&path).expect("it is there"), Arc::clone(&failed));
        let mut sizes = Vec::new();
        let mut end = None;
        while let Some(part) = parts.recv().await {
            match part {
                Part::Data(data) => sizes.push(data.len()),
                Part::End(it) => end = Some(it),
                Part::Header(_) => panic!("a second header"),
            }
        }
        assert_eq!(sizes, [PART_BYTES, 3]);
        let measured = UploadEnd { size_bytes: 262_147, sha256: file.sha256().to_owned() };
        assert_eq!((end, lock(&failed).is_none()), (Some(measured), true));
    }

    #[tokio::test]
    async fn an_export_that_cannot_be_read_to_its_end_is_sent_without_an_end() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Ok(buffer.len()),
                    _ => Err(io::Error::other("a bad sector")),
                }
            }
        }
        let failed = Arc::default();
        let mut parts = read_ahead(Broken(0), Arc::clone(&failed));
        while let Some(part) = parts.recv().await {
            assert!(matches!(part, Part::Data(_)), "{part:?}");
        }
        assert_eq!(lock(&failed).take().map(|error| error.to_string()), Some("a bad sector".to_owned()));
    }

    #[tokio::test]
    async fn a_known_file_has_its_known_hash() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("abc");
        std::fs::write(&path, "abc").expect("it is written");
        let file = ExportFile::read(&path).await.expect("it is there");
        assert_eq!(file.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[tokio::test]
    async fn a_directory_is_not_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(ExportFile::read(directory.path()).await.is_err());
    }
}
