//! Sending an export to a region. The file is read twice and never held: once for its size and hash, by which the
//! region knows whether it has this import already and whether it got the whole file, and once to be sent.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use causeway_proto::region::v1::{
    ImportHeader, ImportOrganizationsRequest, ImportOrganizationsResponse, UploadEnd,
    import_organizations_request::Part,
};
use futures::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::{CallError, Peer};

/// How much of the file goes into one message.
const PART_BYTES: usize = 256 * 1024;

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
            let mut file = File::open(&path)?;
            let mut hash = Sha256::new();
            let mut size = 0;
            let mut buffer = vec![0; PART_BYTES];
            loop {
                let length = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                hash.update(buffer.get(..length).unwrap_or_default());
                size += u64::try_from(length).map_err(io::Error::other)?;
            }
            let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Self { path, size, sha256 })
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
}

/// Sends `file` under `header`, whose size and hash are filled in here. `sent` counts the bytes on their way.
///
/// # Errors
/// If the file cannot be read, or the region does not take it.
pub async fn upload(
    region: &Peer,
    file: &ExportFile,
    header: &ImportHeader,
    sent: &Arc<AtomicU64>,
) -> Result<ImportOrganizationsResponse, UploadError> {
    let opened = tokio::fs::File::open(&file.path).await?;
    let end = UploadEnd {
        size_bytes: i64::try_from(file.size).map_err(io::Error::other)?,
        sha256: file.sha256.clone(),
    };
    let header =
        ImportHeader { size_bytes: Some(end.size_bytes), sha256: end.sha256.clone(), ..header.clone() };
    sent.store(0, Ordering::Relaxed);
    let failed = Arc::new(Mutex::new(None));
    let parts = stream::iter([Part::Header(header)])
        .chain(data_parts(opened, Arc::clone(sent), Arc::clone(&failed)))
        .chain(end_part(end, Arc::clone(&failed)))
        .map(|part| ImportOrganizationsRequest { part: Some(part) });

    let answer = region.answer(region.imports().import_organizations(parts)).await;
    match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The region has only seen a file that ended early; this is why it did.
        Some(error) => Err(UploadError::File(error)),
        None => Ok(answer?),
    }
}

/// The file in parts. gRPC has no way to send an error, so one that comes up ends the stream and is left in `failed`.
fn data_parts(
    file: tokio::fs::File,
    sent: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<io::Error>>>,
) -> impl Stream<Item = Part> + Send + 'static {
    stream::unfold(file, move |mut file| {
        let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
        async move {
            match next_part(&mut file).await {
                Ok(part) if part.is_empty() => None,
                Ok(part) => {
                    sent.fetch_add(u64::try_from(part.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                    Some((Part::Data(part), file))
                }
                Err(error) => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    None
                }
            }
        }
    })
}

/// The end of an upload, unless the file could not be read to its own.
fn end_part(
    end: UploadEnd,
    failed: Arc<Mutex<Option<io::Error>>>,
) -> impl Stream<Item = Part> + Send + 'static {
    stream::once(async move {
        let is_whole = failed.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        is_whole.then_some(Part::End(end))
    })
    .filter_map(std::future::ready)
}

/// The next bytes, `PART_BYTES` of them except at the end, where there are none.
async fn next_part(file: &mut tokio::fs::File) -> io::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(PART_BYTES);
    let limit = u64::try_from(PART_BYTES).map_err(io::Error::other)?;
    file.take(limit).read_to_end(&mut part).await?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_measured_and_cut_into_parts() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("export.json");
        let content = vec![b'x'; PART_BYTES + 3];
        std::fs::write(&path, &content).expect("it is written");

        let file = ExportFile::read(&path).await.expect("it is there");
        assert_eq!(file.size(), 262_147);
        assert_eq!(file.sha256().len(), 64);

        let opened = tokio::fs::File::open(&path).await.expect("it is there");
        let sent = Arc::new(AtomicU64::new(0));
        let parts: Vec<_> = data_parts(opened, Arc::clone(&sent), Arc::default()).collect().await;
        let sizes: Vec<_> = parts
            .iter()
            .map(|part| match part {
                Part::Data(data) => data.len(),
                Part::Header(_) | Part::End(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [PART_BYTES, 3]);
        assert_eq!(sent.load(Ordering::Relaxed), file.size());
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
