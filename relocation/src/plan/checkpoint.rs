//! Plans outlive their process. A plan that is complete is kept in a file ([`super::plan_file`]); how far its making is, in a
//! log beside it, a frame for each segment of the export. Neither is believed that was made by another release, of another
//! file or for another filter, or whose checksums do not agree; a log that is torn counts up to there. Both hold places,
//! counts and findings, and hashes of primary keys and of values that must be unique, e-mail addresses among them; of the
//! fields of an export only what a finding repeats and the slugs of a filter. Nobody else may read them, as the export
//! itself. A plan that cannot be kept is made all the same.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Request,
    entry::Entry,
    frame::{HEAD, open, packed, read_frame, unpacked, write_frame},
    steps::Step,
};
use crate::export::{ExportError, Limits};

/// The form of what is kept. To be raised with each change of it, or of what a plan decides.
const FORM: u32 = 5;
/// Called behind a step that was kept; if it fails, so does planning.
pub type Stepped = dyn Fn() -> io::Result<()> + Send + Sync;

/// Where the plan of one import is kept.
pub struct Checkpoint {
    /// The path of the plan, without its ending.
    pub stem: PathBuf,
    /// What tells the file from all others: its SHA-256.
    pub identity: String,
    /// What is told of each step that was kept. Only failpoints need that.
    pub stepped: Option<Box<Stepped>>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("stem", &self.stem).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// The endings of the files that are kept, also of one that is not complete.
    pub const ENDINGS: [&'static str; 3] = [".plan", ".plan.part", ".planning"];

    pub(super) fn plan_path(&self) -> PathBuf {
        self.stem.with_extension("plan")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.stem.with_extension("planning")
    }
}

/// What a plan was made of: the first frame of what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckpointHeader {
    /// Of all that it depends on besides the limits.
    fingerprint: [u8; 32],
    record_bytes: usize,
    depth: usize,
}

impl CheckpointHeader {
    /// What is to be planned, by this release.
    pub(super) fn of(request: &Request<'_>, keep: &Checkpoint) -> Self {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        };
        add(&FORM.to_be_bytes());
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(include_bytes!("../../catalog.json"));
        add(keep.identity.as_bytes());
        add(&request.source.size().to_be_bytes());
        add(request.now.to_rfc3339().as_bytes());
        add(format!("{:?}", request.filter).as_bytes());
        let Limits { record_bytes, depth } = request.limits;
        Self { fingerprint: digest.finalize().into(), record_bytes, depth }
    }

    /// Whether a complete plan that was made of this is one of `wanted` too: what has passed narrower limits passes.
    pub(super) fn serves(&self, wanted: &Self) -> bool {
        self.fingerprint == wanted.fingerprint
            && self.record_bytes <= wanted.record_bytes
            && self.depth <= wanted.depth
    }
}

/// What a frame of the log holds: keys, which are only read one by one, or a step.
const KEYS: u8 = 0;
const STEP: u8 = 1;

/// How far the making of a plan is. If it cannot be written any more, that is said in the log of the service, and the rest
/// of the plan is in memory alone.
pub(super) struct Log<'k>(Option<Open<'k>>);

struct Open<'k> {
    file: File,
    path: PathBuf,
    kept: &'k CheckpointHeader,
    stepped: Option<&'k Stepped>,
}

impl<'k> Log<'k> {
    /// One that keeps nothing.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Opens a log, which begins if it is absent.
    pub(super) fn open(keep: &'k Checkpoint, kept: &'k CheckpointHeader) -> Self {
        let (mut log, path) = (Self(None), keep.log_path());
        match open(&path) {
            Ok(file) => log.0 = Some(Open { file, path, kept, stepped: keep.stepped.as_deref() }),
            Err(error) => log.give_up(&path, &error),
        }
        log
    }

    fn give_up(&mut self, path: &Path, error: &io::Error) {
        self.0 = None;
        tracing::warn!(path = %path.display(), %error, "how far planning is cannot be kept; if the process ends, it is done again");
    }

    /// Does something with the log, which is given up if that fails.
    fn with(&mut self, act: impl FnOnce(&mut Open<'k>) -> io::Result<()>) {
        if let Some(open) = &mut self.0
            && let Err(error) = act(open)
        {
            let path = std::mem::take(&mut open.path);
            self.give_up(&path, &error);
        }
    }

    /// Passes each step of the log to `take`, and cuts off what follows the last whole one. A log of another plan starts empty.
    ///
    /// # Errors
    /// What `take` says.
    pub(super) fn replay(
        &mut self,
        mut take: impl FnMut(Step) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let mut taken = Ok(());
        self.with(|open| {
            let mut steps = Steps::begin(open)?;
            while let Some(frame) = steps.next()? {
                taken = take(frame);
                if taken.is_err() {
                    return Ok(());
                }
            }
            let end = steps.end;
            open.file.set_len(end)?;
            open.file.seek(SeekFrom::Start(end))?;
            if end == 0 {
                write_frame(&mut open.file, &packed(open.kept)?)?;
            }
            Ok(())
        });
        taken
    }

    /// Adds a step.
    ///
    /// # Errors
    /// What whoever is told of it says.
    pub(super) fn append(&mut self, frame: &Step) -> io::Result<()> {
        self.with(|open| {
            if let Step::Segment(segment) = frame {
                let mut keys = vec![KEYS];
                for entry in &segment.keys {
                    entry.write(&mut keys)?;
                }
                write_frame(&mut open.file, &keys)?;
            }
            let mut payload = vec![STEP];
            payload.extend(packed(frame)?);
            write_frame(&mut open.file, &payload)
        });
        match self.0.as_ref().and_then(|open| open.stepped) {
            Some(stepped) => stepped(),
            None => Ok(()),
        }
    }
}

/// Reads the steps of a log.
struct Steps {
    file: BufReader<File>,
    /// Where the last step that was read ends.
    end: u64,
}

impl Steps {
    /// Begins to read; there is no step if the log is one of something else.
    fn begin(open: &mut Open<'_>) -> io::Result<Self> {
        open.file.seek(SeekFrom::Start(0))?;
        let mut steps = Self { file: BufReader::with_capacity(256 * 1024, open.file.try_clone()?), end: 0 };
        match read_frame(&mut steps.file)? {
            Some(first) if unpacked::<CheckpointHeader>(&first).as_ref() == Some(open.kept) => {
                steps.end = (HEAD + first.len()) as u64;
            }
            _ => {
                steps.file.seek(SeekFrom::End(0))?;
            }
        }
        Ok(steps)
    }

    fn next(&mut self) -> io::Result<Option<Step>> {
        let (mut keys, mut length) = (Vec::new(), 0);
        while let Some(raw) = read_frame(&mut self.file)? {
            length += HEAD + raw.len();
            match raw.split_first() {
                // The keys of a segment come first, and the segment says that they are all there.
                Some((&KEYS, payload)) => keys = Entry::all(payload)?,
                Some((_, payload)) => {
                    let Some(mut frame) = unpacked::<Step>(payload) else { return Ok(None) };
                    if let Step::Segment(segment) = &mut frame {
                        segment.keys = keys;
                    }
                    self.end += length as u64;
                    return Ok(Some(frame));
                }
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}
