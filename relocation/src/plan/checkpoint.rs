//! Plans outlive their process. A plan that is complete is kept in a file ([`super::saved`]); how far its making is, in a
//! log beside it, a frame for each segment of the export. Neither is believed that was made by another release, of another
//! file or for another filter, or whose checksums do not agree; a log that is torn counts up to there. Both hold places,
//! counts and findings, and hashes of primary keys and of values that must be unique, e-mail addresses among them; of the
//! fields of an export only what a finding repeats and the slugs of a filter. Nobody else may read them, as the export
//! itself. A plan that cannot be kept is made all the same.

use std::{
    fmt,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{Request, duplicates::Entry, pass::Pass, segment::Segment};
use crate::export::{ExportError, Limits};

/// The form of what is kept. To be raised with each change of it, or of what a plan decides.
const FORM: u32 = 4;
/// The longest frame. One that says more is none.
const MAX_FRAME: u32 = 1 << 30;

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
        // Hashes are kept, so the function that makes them must be the same: it is not the same for ever.
        let mut probe = DefaultHasher::new();
        "causeway".hash(&mut probe);
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        };
        add(&FORM.to_be_bytes());
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(include_bytes!("../../catalog.json"));
        add(&probe.finish().to_be_bytes());
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

/// One step of planning that need not be done again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Frame {
    /// A segment of the file was read.
    Segment(Segment),
    /// Records that agree in a hash were compared.
    Compared {
        /// The last entry that was compared.
        last: Entry,
        /// Models and places of records that a rule keeps out, since the frame before.
        repeated: Vec<(usize, u64)>,
        /// The same of records that contradict an earlier one and that the filter leaves out.
        contradicting: Vec<(usize, u64)>,
    },
    /// A filter has looked at some records.
    Selected(Selected),
}

/// How far selecting is, and what was added since the frame before.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Selected {
    pub(super) stage: usize,
    /// The last record of the stage's model that was looked at.
    pub(super) ordinal: i64,
    pub(super) users: Vec<u64>,
    pub(super) emails: Vec<u64>,
}

/// Bytes in front of the payload of a frame.
const HEAD: usize = 12;

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Writes a frame: length, checksum, payload.
pub(super) fn write_frame(file: &mut impl io::Write, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a part of it is too large"))?;
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend(length.to_le_bytes());
    bytes.extend(checksum(payload).to_le_bytes());
    bytes.extend(payload);
    file.write_all(&bytes)
}

/// The payload of the next frame, or `None` at the end and where the rest is torn.
pub(super) fn read_frame(file: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > MAX_FRAME {
        return Ok(None);
    }
    let mut payload = Vec::new();
    file.take(length.into()).read_to_end(&mut payload)?;
    let whole = payload.len() as u64 == u64::from(length)
        && checksum(&payload) == u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    Ok(whole.then_some(payload))
}

pub(super) fn packed(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

pub(super) fn unpacked<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// Opens a file that nobody else may read, and makes it if it is absent.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
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

    /// Adds what the log has to a pass, and cuts off what is behind. One of something else begins anew.
    ///
    /// # Errors
    /// If the pass cannot take it.
    pub(super) fn replay(&mut self, pass: &mut Pass<'_>) -> Result<(), ExportError> {
        let mut taken = Ok(());
        self.with(|open| {
            let mut steps = Steps::begin(open)?;
            while let Some(frame) = steps.next()? {
                taken = pass.take(frame);
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
    pub(super) fn append(&mut self, frame: &Frame) -> io::Result<()> {
        self.with(|open| {
            if let Frame::Segment(segment) = frame {
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

    fn next(&mut self) -> io::Result<Option<Frame>> {
        let (mut keys, mut length) = (Vec::new(), 0);
        while let Some(raw) = read_frame(&mut self.file)? {
            length += HEAD + raw.len();
            match raw.split_first() {
                // The keys of a segment come first, and the segment says that they are all there.
                Some((&KEYS, payload)) => keys = Entry::all(payload)?,
                Some((_, payload)) => {
                    let Some(mut frame) = unpacked::<Frame>(payload) else { return Ok(None) };
                    if let Frame::Segment(segment) = &mut frame {
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
