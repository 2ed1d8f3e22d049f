//! Stores plans, so that they outlive their process. A complete plan is stored in a file
//! ([`super::plan_file`]), the progress of an incomplete one in a log next to it, with a frame for each
//! segment of the export. Neither is used if it was made by another release, from another file or for another
//! filter, or if its checksums are wrong. A torn log counts up to the damaged place. Both contain offsets,
//! counts and findings, and hashes of primary keys and of values that must be unique, e-mail addresses among
//! them. Of the fields of an export they contain only what a finding repeats, and the slugs of a filter. No
//! other user of the machine can read them, as with the export itself. If a plan cannot be stored, planning
//! goes on without that.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    PlanRequest,
    entry::Entry,
    frame::{HEAD, open, packed, read_frame, unpacked, write_frame},
    steps::PlanningStep,
};
use crate::{
    catalog::Catalog,
    export::{ExportError, Limits},
};

/// The version of the stored form. Increase it with each change of the form, or of what a plan decides.
const FORM: u32 = 8;
/// Called after a step was stored. If it fails, planning fails.
pub type Stepped = dyn Fn() -> io::Result<()> + Send + Sync;

/// Where the plan of one import is stored.
pub struct Checkpoint {
    /// The path of the plan, without its extension.
    pub stem: PathBuf,
    /// Identifies the file: its SHA-256.
    pub identity: String,
    /// Called after each step that was stored. Only failpoints need it.
    pub stepped: Option<Box<Stepped>>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("stem", &self.stem).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// The extensions of the stored files, also of an incomplete one.
    pub const ENDINGS: [&'static str; 3] = [".plan", ".plan.part", ".planning"];

    pub(super) fn plan_path(&self) -> PathBuf {
        self.stem.with_extension("plan")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.stem.with_extension("planning")
    }
}

/// What a plan was made from: the first frame of a stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckpointHeader {
    /// A hash of everything that the plan depends on, except the limits.
    fingerprint: [u8; 32],
    record_bytes: usize,
    depth: usize,
}

impl CheckpointHeader {
    /// The header of a plan that this release makes for a request.
    pub(super) fn of(request: &PlanRequest<'_>, keep: &Checkpoint) -> Self {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        };
        add(&FORM.to_be_bytes());
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(Catalog::identity().as_bytes());
        add(keep.identity.as_bytes());
        add(&request.source.size().to_be_bytes());
        add(request.tables.as_bytes());
        add(request.now.to_rfc3339().as_bytes());
        add(format!("{:?}", request.filter).as_bytes());
        add(&[u8::from(request.merge_users)]);
        let Limits { record_bytes, depth } = request.limits;
        Self { fingerprint: digest.finalize().into(), record_bytes, depth }
    }

    /// Whether a complete plan with this header can be used for `wanted`: a file that passed narrower limits passes
    /// these too.
    pub(super) fn serves(&self, wanted: &Self) -> bool {
        self.fingerprint == wanted.fingerprint
            && self.record_bytes <= wanted.record_bytes
            && self.depth <= wanted.depth
    }
}

/// What a frame of the log contains: keys, which are read one by one, or a step.
const KEYS: u8 = 0;
const STEP: u8 = 1;

/// The log of planning: its progress. If it can no longer be written, the service logs a warning, and the rest of the
/// plan is in memory only.
pub(super) struct Log<'k>(Option<OpenLog<'k>>);

struct OpenLog<'k> {
    file: File,
    path: PathBuf,
    header: &'k CheckpointHeader,
    stepped: Option<&'k Stepped>,
}

impl<'k> Log<'k> {
    /// A log that stores nothing.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Opens a log, and creates it if it is absent.
    pub(super) fn open(keep: &'k Checkpoint, header: &'k CheckpointHeader) -> Self {
        let (mut log, path) = (Self(None), keep.log_path());
        match open(&path) {
            Ok(file) => log.0 = Some(OpenLog { file, path, header, stepped: keep.stepped.as_deref() }),
            Err(error) => log.give_up(&path, &error),
        }
        log
    }

    fn give_up(&mut self, path: &Path, error: &io::Error) {
        self.0 = None;
        tracing::warn!(path = %path.display(), %error, "the log of planning cannot be written; if the process ends, planning starts again");
    }

    /// Does something with the log, and gives the log up if that fails.
    fn with(&mut self, act: impl FnOnce(&mut OpenLog<'k>) -> io::Result<()>) {
        if let Some(open) = &mut self.0
            && let Err(error) = act(open)
        {
            let path = std::mem::take(&mut open.path);
            self.give_up(&path, &error);
        }
    }

    /// Calls `take` with each step of the log, and cuts off everything after the last whole step. A log of another plan
    /// is emptied.
    ///
    /// # Errors
    /// The error of `take`.
    pub(super) fn replay(
        &mut self,
        mut take: impl FnMut(PlanningStep) -> Result<(), ExportError>,
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
                write_frame(&mut open.file, &packed(open.header)?)?;
            }
            Ok(())
        });
        taken
    }

    /// Adds a step to the log. A log that cannot be written is given up, which is not an error.
    ///
    /// # Errors
    /// The error of the callback, which is called after each step.
    pub(super) fn append(&mut self, frame: &PlanningStep) -> io::Result<()> {
        self.with(|open| {
            if let PlanningStep::Segment(segment) = frame {
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
    /// Starts to read. There is no step if the log belongs to another plan.
    fn begin(open: &mut OpenLog<'_>) -> io::Result<Self> {
        open.file.seek(SeekFrom::Start(0))?;
        let mut steps = Self { file: BufReader::with_capacity(256 * 1024, open.file.try_clone()?), end: 0 };
        match read_frame(&mut steps.file)? {
            Some(first) if unpacked::<CheckpointHeader>(&first).as_ref() == Some(open.header) => {
                steps.end = (HEAD + first.len()) as u64;
            }
            _ => {
                steps.file.seek(SeekFrom::End(0))?;
            }
        }
        Ok(steps)
    }

    fn next(&mut self) -> io::Result<Option<PlanningStep>> {
        let (mut keys, mut length) = (Vec::new(), 0);
        while let Some(raw) = read_frame(&mut self.file)? {
            length += HEAD + raw.len();
            match raw.split_first() {
                // The keys of a segment come before it. If the segment is there, the keys are complete.
                Some((&KEYS, payload)) => keys = Entry::all(payload)?,
                Some((_, payload)) => {
                    let Some(mut frame) = unpacked::<PlanningStep>(payload) else { return Ok(None) };
                    if let PlanningStep::Segment(segment) = &mut frame {
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
