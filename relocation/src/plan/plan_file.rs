//! Stores a complete plan in a file, in frames of bounded size. The file has the whole plan or does not exist.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    MARKS, Plan,
    actors::Actor,
    added::Added,
    addresses::Holder,
    bitmap::{bitmap_from_bytes, bitmap_to_bytes},
    checkpoint::CheckpointHeader,
    extents::Extent,
    frame::{open, packed, read_frame, unpacked, write_frame},
    selection::SavedSelection,
};
use crate::finding::Finding;

/// How many extents, actors or hashes of addresses one frame has.
const AT_ONCE: usize = 16 * 1024;

/// One frame: a part of a plan.
#[derive(Debug, Serialize, Deserialize)]
enum PlanFrame {
    /// Everything that a plan has only once.
    Whole {
        records: i64,
        passed_over: BTreeMap<String, i64>,
        findings: Vec<Finding>,
        selection: Option<SavedSelection>,
    },
    /// One model, by its position.
    Model {
        position: usize,
        seen: i64,
        marks: [Vec<u8>; MARKS],
        lost_slugs: Vec<Vec<u8>>,
        /// The records that rows are added for, and how many rows these are.
        added: (Vec<u8>, i64),
    },
    /// More records with a name that is the address of an earlier record: their offsets, and the earlier record.
    Addresses { position: usize, holders: Vec<(u64, Holder)> },
    /// More extents of a model.
    Extents { position: usize, runs: Vec<Extent> },
    /// More hashes of addresses that the filter selects.
    Emails(Vec<u64>),
    /// More actors that rules name.
    Actors(Vec<Actor>),
    /// The end of the plan.
    End,
}

/// Loads the stored plan into `plan` if it is complete and serves `wanted`. Returns `false` otherwise; then the content
/// of `plan` does not count.
///
/// # Errors
/// If a large plan does not fit into `scratch_dir`.
pub(super) fn load(
    path: &Path,
    wanted: &CheckpointHeader,
    plan: &mut Plan,
    scratch_dir: &Path,
) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::with_capacity(256 * 1024, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Ok(unusable(path, &error.to_string())),
    };
    let mut next = || read_frame(&mut file).ok().flatten();
    match next().and_then(|frame| unpacked::<CheckpointHeader>(&frame)) {
        Some(header) if header.serves(wanted) => {}
        Some(_) => return Ok(unusable(path, "it is of another release, file, filter or limit")),
        None => return Ok(unusable(path, "it is damaged")),
    }
    loop {
        match next().and_then(|frame| unpacked(&frame)) {
            Some(PlanFrame::End) => break,
            Some(piece) => {
                if !take(plan, piece, scratch_dir)? {
                    return Ok(unusable(path, "it is damaged"));
                }
            }
            None => return Ok(unusable(path, "it is damaged")),
        }
    }
    Ok(true)
}

fn unusable(path: &Path, reason: &str) -> bool {
    tracing::warn!(path = %path.display(), reason, "a stored plan cannot be used; planning starts again");
    false
}

/// Adds a part to a plan. Returns `false` if the part is invalid.
fn take(plan: &mut Plan, piece: PlanFrame, scratch_dir: &Path) -> io::Result<bool> {
    match piece {
        PlanFrame::Whole { records, passed_over, findings, selection } => {
            (plan.records, plan.passed_over, plan.findings) = (records, passed_over, findings);
            match (&mut plan.selection, selection) {
                (None, None) => {}
                (Some(here), Some(saved)) => return Ok(here.restore(saved).is_ok()),
                _ => return Ok(false),
            }
        }
        PlanFrame::Model { position, seen, marks, lost_slugs, added: (of, count) } => {
            let Some(model) = plan.models.get_mut(position) else { return Ok(false) };
            model.seen = seen;
            for (mark, bytes) in model.marks.all_mut().into_iter().zip(&marks) {
                let Ok(places) = bitmap_from_bytes(bytes) else { return Ok(false) };
                *mark = places;
            }
            let lost: io::Result<_> = lost_slugs.iter().map(|lost| bitmap_from_bytes(lost)).collect();
            let Ok(lost) = lost else { return Ok(false) };
            model.lost_slugs = lost;
            let Ok(of) = bitmap_from_bytes(&of) else { return Ok(false) };
            model.added = Added { of, count };
        }
        PlanFrame::Addresses { position, holders } => {
            let Some(model) = plan.models.get_mut(position) else { return Ok(false) };
            model.addresses.extend(holders);
        }
        PlanFrame::Extents { position, runs } => {
            let Some(model) = plan.models.get_mut(position) else { return Ok(false) };
            for run in runs {
                model.runs.push(run, scratch_dir)?;
            }
        }
        PlanFrame::Emails(emails) => {
            let Some(selection) = &mut plan.selection else { return Ok(false) };
            selection.add(&[], &emails);
        }
        PlanFrame::Actors(actors) => plan.actors.restore(actors),
        PlanFrame::End => {}
    }
    Ok(true)
}

/// Stores a plan and deletes the log of planning. If the plan cannot be stored, it is only in memory, and the log, if
/// it is complete, stays.
pub(super) fn store(path: &Path, header: &CheckpointHeader, plan: &Plan) {
    let part = path.with_extension("plan.part");
    let stored = write(&part, header, plan).and_then(|()| std::fs::rename(&part, path));
    let log = match stored {
        Ok(()) => path.with_extension("planning"),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the plan cannot be stored; if the process ends, planning starts again");
            part
        }
    };
    // There may be no such file. If one is left, it is deleted with the import.
    let _left = std::fs::remove_file(log);
}

/// The file is not forced to disk: if the machine loses power, the checksums show what is missing.
fn write(path: &Path, header: &CheckpointHeader, plan: &Plan) -> io::Result<()> {
    let file = open(path)?;
    file.set_len(0)?;
    let mut file = BufWriter::with_capacity(256 * 1024, file);
    write_frame(&mut file, &packed(header)?)?;
    let mut put = |piece: &PlanFrame| write_frame(&mut file, &packed(piece)?);
    put(&PlanFrame::Whole {
        records: plan.records,
        passed_over: plan.passed_over.clone(),
        findings: plan.findings.clone(),
        selection: plan.selection.as_ref().map(|selection| selection.save()).transpose()?,
    })?;
    for (position, model) in plan.models.iter().enumerate() {
        if model.seen > 0 || model.added.count > 0 {
            let mut marks: [Vec<u8>; MARKS] = Default::default();
            for (bytes, places) in marks.iter_mut().zip(model.marks.all()) {
                *bytes = bitmap_to_bytes(places)?;
            }
            let lost_slugs = model.lost_slugs.iter().map(bitmap_to_bytes).collect::<io::Result<_>>()?;
            let added = (bitmap_to_bytes(&model.added.of)?, model.added.count);
            put(&PlanFrame::Model { position, seen: model.seen, marks, lost_slugs, added })?;
            let mut holders = model.addresses.iter().map(|(offset, holder)| (*offset, *holder));
            loop {
                let some: Vec<_> = holders.by_ref().take(AT_ONCE).collect();
                if some.is_empty() {
                    break;
                }
                put(&PlanFrame::Addresses { position, holders: some })?;
            }
            let mut runs = model.runs.iter()?;
            loop {
                let some: Vec<Extent> = runs.by_ref().take(AT_ONCE).collect::<io::Result<_>>()?;
                if some.is_empty() {
                    break;
                }
                put(&PlanFrame::Extents { position, runs: some })?;
            }
        }
    }
    for actors in plan.actors.all().chunks(AT_ONCE) {
        put(&PlanFrame::Actors(actors.to_vec()))?;
    }
    let mut emails = plan.selection.iter().flat_map(|selection| selection.emails());
    loop {
        let some: Vec<u64> = emails.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        put(&PlanFrame::Emails(some))?;
    }
    put(&PlanFrame::End)?;
    file.flush()
}
