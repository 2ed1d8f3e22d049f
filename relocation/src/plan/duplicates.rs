//! Finds records that share a primary key or break a unique set, in a file of any size: hashes of the keys are sorted,
//! on disk past a budget, and equal neighbours are looked at.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    fs::File,
    io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::{
    Family, Record,
    addresses::{self, Addresses, Holders},
    checkpoint::{Frame, Log},
    family::{Linked, links},
    made_slugs::{LostSlugs, MadeSlugs, split},
    read_raw_at,
    sets::KeySet,
    unreferenced::Adrift,
};
use crate::{
    catalog::Model,
    export::{Decoder, ExportError},
    finding::{Finding, FindingKind},
};

/// A key of a record: which set it is in, the hash of its values, where the record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) set: u32,
    pub(super) offset: u64,
}

const BYTES: usize = 20;

/// Records that agree in a hash and are compared between two frames of the log: some milliseconds.
const COMPARED: u64 = 1_000;

impl Entry {
    /// Reads as many as there are.
    pub(super) fn all(mut bytes: &[u8]) -> io::Result<Vec<Self>> {
        let mut entries = Vec::with_capacity(bytes.len() / BYTES);
        while let Some(entry) = Self::read(&mut bytes)? {
            entries.push(entry);
        }
        Ok(entries)
    }

    pub(super) fn write(self, file: &mut impl io::Write) -> io::Result<()> {
        file.write_all(&self.hash.to_le_bytes())?;
        file.write_all(&self.set.to_le_bytes())?;
        file.write_all(&self.offset.to_le_bytes())
    }

    fn read(file: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut bytes = [0; BYTES];
        match file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [h0, h1, h2, h3, h4, h5, h6, h7, s0, s1, s2, s3, o0, o1, o2, o3, o4, o5, o6, o7] = bytes;
        Ok(Some(Self {
            hash: u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
            set: u32::from_le_bytes([s0, s1, s2, s3]),
            offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
        }))
    }
}

/// Collects keys and finds those that are given twice.
#[derive(Debug)]
pub(super) struct Duplicates {
    budget: usize,
    dir: PathBuf,
    entries: Vec<Entry>,
    sorted: Vec<File>,
}

impl Duplicates {
    /// Keeps at most `budget` keys (24 bytes each) in memory, the others in nameless files in `dir`.
    pub(super) fn new(budget: usize, dir: &Path) -> Self {
        Self { budget: budget.max(1), dir: dir.to_owned(), entries: Vec::new(), sorted: Vec::new() }
    }

    /// Adds a key of a record.
    pub(super) fn add(&mut self, entry: Entry) -> io::Result<()> {
        if self.entries.len() >= self.budget {
            self.entries.sort_unstable();
            let mut file = BufWriter::new(tempfile::tempfile_in(&self.dir)?);
            for entry in self.entries.drain(..) {
                entry.write(&mut file)?;
            }
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.flush()?;
            self.sorted.push(file);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Calls `take` with each entry, in their order.
    pub(super) fn each<E: From<io::Error>>(
        mut self,
        mut take: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries.sort_unstable();
        let mut files = Vec::with_capacity(self.sorted.len());
        for mut file in self.sorted {
            file.seek(SeekFrom::Start(0))?;
            files.push(BufReader::with_capacity(64 * 1024, file));
        }
        let memory = files.len();
        let mut entries = self.entries.into_iter();
        let mut next = |source: usize| match files.get_mut(source) {
            Some(file) => Entry::read(file),
            None => Ok(entries.next()),
        };
        let mut heads = BinaryHeap::new();
        for source in 0..=memory {
            if let Some(entry) = next(source)? {
                heads.push(Reverse((entry, source)));
            }
        }
        while let Some(Reverse((entry, source))) = heads.pop() {
            if let Some(following) = next(source)? {
                heads.push(Reverse((following, source)));
            }
            take(entry)?;
        }
        Ok(())
    }

    /// Calls `see` with each entry, in their order, and `found` with two records of a set whose keys have the same hash, the
    /// earlier one first: each such record with the first one of its hash. They may still differ.
    pub(super) fn find<E: From<io::Error>>(
        self,
        mut see: impl FnMut(Entry) -> Result<(), E>,
        mut found: impl FnMut(Entry, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut first: Option<Entry> = None;
        self.each(|entry| {
            see(entry)?;
            match first {
                Some(first) if first.hash == entry.hash && first.set == entry.set => found(first, entry)?,
                _ => first = Some(entry),
            }
            Ok(())
        })
    }
}

/// What comparing has found: where records begin, by the position of their model.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    /// A rule keeps the first one, and these are later.
    pub(super) repeated: HashMap<usize, RoaringTreemap>,
    /// They contradict an earlier one, and the filter leaves both out.
    pub(super) contradicting: HashMap<usize, RoaringTreemap>,
    /// Records without slug, by primary key, that do not get what they could, by the position of their model and the attempt.
    pub(super) lost_slugs: LostSlugs,
    /// Names that are an address of an earlier record, by the position of their model.
    pub(super) addresses: BTreeMap<usize, Holders>,
    /// What there is to tell of those that are too many.
    pub(super) more_addresses: Option<Finding>,
}

impl Family<'_> {
    /// Looks at records whose keys have the same hash: refuses those that must not be the same, unless the filter leaves
    /// them out, and finds those of which a rule keeps the first. Those up to `behind` have been looked at.
    pub(super) fn find_duplicates(
        &mut self,
        unreferenced: &Adrift,
        (sets, duplicates): (&[KeySet], Duplicates),
        behind: Option<Entry>,
        log: &mut Log<'_>,
    ) -> Result<Doubles, ExportError> {
        let (catalog, mut doubles) = (self.catalog, Doubles::default());
        let (mut compared, mut repeated, mut contradicting) = (0_u64, Vec::new(), Vec::new());
        let mut made = MadeSlugs::default();
        let mut lost = LostSlugs::new();
        let mut addresses = Addresses::new(catalog, self.env, self.plan);
        let see = |entry: Entry| {
            if addresses::is_one(entry) {
                return addresses.see(entry);
            }
            if let Some((index, attempt)) = made.see(entry)
                && let Some(set) = sets.get(index)
            {
                lost.entry((set.model, attempt)).or_default().insert(entry.offset);
            }
            Ok(())
        };
        let found = |first: Entry, entry: Entry| -> Result<(), ExportError> {
            let is_no_key = split(entry.set).1.is_some() || addresses::is_one(entry);
            if is_no_key || behind.is_some_and(|behind| entry <= behind) {
                return Ok(());
            }
            self.stopped()?;
            let set = usize::try_from(entry.set).ok().and_then(|index| sets.get(index));
            let model = set.and_then(|set| catalog.models().get(set.model));
            let (Some(set), Some(model)) = (set, model) else { return Ok(()) };
            match self.compare(unreferenced, model, set, first.offset, entry.offset)? {
                Agreement::None => {}
                Agreement::Repeated => {
                    doubles.repeated.entry(set.model).or_default().insert(entry.offset);
                    repeated.push((set.model, entry.offset));
                }
                Agreement::LeftOut => {
                    doubles.contradicting.entry(set.model).or_default().insert(entry.offset);
                    contradicting.push((set.model, entry.offset));
                }
            }
            compared += 1;
            if compared.is_multiple_of(COMPARED) {
                log.append(&Frame::Compared {
                    last: entry,
                    repeated: std::mem::take(&mut repeated),
                    contradicting: std::mem::take(&mut contradicting),
                })?;
            }
            Ok(())
        };
        duplicates.find(see, found)?;
        doubles.lost_slugs = lost;
        (doubles.addresses, doubles.more_addresses) = addresses.end();
        Ok(doubles)
    }

    /// Compares two records that begin at these places.
    fn compare(
        &mut self,
        unreferenced: &Adrift,
        model: &Model,
        set: &KeySet,
        first: u64,
        second: u64,
    ) -> Result<Agreement, ExportError> {
        // Of what is defective, only the primary key can be compared, and it is enough.
        let is_key = set.columns.is_empty();
        let (one, one_linked) = self.read_at(model, first, !is_key)?;
        let (other, other_linked) = self.read_at(model, second, !is_key)?;
        if !set.agree(&one, &other) {
            return Ok(Agreement::None);
        }
        if set.keep_first {
            return Ok(Agreement::Repeated);
        }
        if self.plan.selection.is_some() {
            self.learn([model.position])?;
            let left_out =
                [one_linked, other_linked].map(|linked| self.is_left_out(model, &linked, unreferenced));
            match left_out {
                [true, true] => return Ok(Agreement::LeftOut),
                // Only one of them is written. Which one a reference leads to is still not known.
                [true, false] | [false, true] if !is_key => return Ok(Agreement::None),
                _ => {}
            }
        }
        Err(contradiction(model, set, &one, &other).into())
    }

    /// Reads one record, whole or only its references.
    fn read_at(&self, model: &Model, offset: u64, whole: bool) -> Result<(Record, Linked), ExportError> {
        let decoder = Decoder::new(self.env, self.plan.now);
        read_raw_at(&self.plan.source, offset, self.plan.limits, |raw, length| {
            let (values, actor) = match whole {
                true => {
                    let placed = |finding: Finding| finding.model(&model.name).at(offset);
                    let decoded = decoder.decode(model, raw.fields).map_err(placed)?;
                    (decoded.values, decoded.actor)
                }
                false => (Vec::new(), None),
            };
            let (source_pk, links) = (raw.pk, links(&decoder, model, &raw));
            let linked = Linked { ordinal: 0, source_pk, offset, values: links };
            let record = Record {
                ordinal: 0,
                source_pk,
                offset,
                length,
                changed: false,
                values,
                actor,
                fields: None,
                defect: None,
            };
            Ok((record, linked))
        })
    }
}

/// What two records with keys of one hash have to do with each other.
enum Agreement {
    /// Nothing.
    None,
    /// A rule keeps the first.
    Repeated,
    /// They contradict each other, and both are left out.
    LeftOut,
}

/// What is wrong with two records of a file that agree where they must not.
fn contradiction(model: &Model, set: &KeySet, one: &Record, other: &Record) -> Finding {
    let columns = set.columns.iter().filter_map(|column| model.columns.get(*column));
    let fields: Vec<&str> = columns.map(|column| column.field.as_str()).collect();
    let first = one.offset;
    let mut finding = Finding::new(
        FindingKind::IntegrityError,
        if fields.is_empty() {
            format!("the primary key stands twice: also at byte {first}")
        } else {
            format!(
                "the record agrees in {} with the record with pk {} at byte {first}; only one of them can be",
                fields.join(" and "),
                one.source_pk
            )
        },
    )
    .model(&model.name)
    .at(other.offset);
    finding.source_pk = Some(other.source_pk);
    finding.field = fields.last().map(|field| (*field).to_owned());
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(budget: usize, keys: &[(u32, u64)]) -> Vec<(u32, u64, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let mut duplicates = Duplicates::new(budget, dir.path());
        for (offset, (set, hash)) in keys.iter().enumerate() {
            duplicates.add(Entry { set: *set, hash: *hash, offset: offset as u64 }).unwrap();
        }
        let mut all = Vec::new();
        duplicates
            .find(
                |_| Ok(()),
                |first, second| {
                    all.push((second.set, first.offset, second.offset));
                    Ok::<_, io::Error>(())
                },
            )
            .unwrap();
        all
    }

    #[test]
    fn the_same_are_found_in_memory_and_on_disk() {
        let keys = [(1, 7), (1, 8), (2, 7), (1, 7), (1, 9), (1, 7), (2, 9)];
        let expected = [(1, 0, 3), (1, 0, 5)];
        for budget in [1, 2, 3, 100] {
            assert_eq!(found(budget, &keys), expected, "budget {budget}");
        }
        assert_eq!(found(3, &[(1, 1), (1, 2), (2, 1), (2, 2)]), []);
    }
}
