//! The pass over the file, segment by segment. The result of a segment is collected first, then logged, then added to
//! the plan, so a resumed pass adds the steps of the log in the same way. One thread cuts the file into segments, some
//! threads check them, and the calling thread adds them in the order of the file.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use causeway_silo::env::Environment;

use super::{
    Plan, PlanRequest, PlanningProgress, actors,
    added::Candidates,
    checkpoint::Log,
    counted,
    duplicates::Duplicates,
    entry::Entry,
    no_model,
    segment::{Checker, UncheckedSegment, add_note, add_passed_over},
    sets::{KeySet, key_sets},
    steps::{Notes, PlanningStep, Segment, Selected},
    stopped,
};
use crate::{
    catalog::{Catalog, Known},
    export::{Decoder, ExportError, ExportRange, Scanner},
    finding::Finding,
};

/// How many keys stay in memory while planning: 24 bytes each, 12 MiB together.
const KEY_BUDGET: usize = 512 * 1024;

/// The maximum size of a segment: in bytes of the file here, in records below. A segment is checked in a few
/// milliseconds.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Memory for the texts of a segment. Its last record may go beyond the size of a segment.
const SEGMENT_MEMORY: usize = 1024 * 1024 + 64 * 1024;
const SEGMENT_RECORDS: usize = 5_000;

/// How many threads check segments. Each of them has one segment in memory, which may be a single large record, and so
/// has the thread that cuts.
const CHECKERS: usize = 2;

/// A segment to check, and the channel for the result.
type CheckJob = (UncheckedSegment, Sender<Result<Segment, ExportError>>);
/// The channel for the result of the next segment; or why the file cannot be cut further, after the segment that was
/// cut before that place.
type PendingResult = Result<Receiver<Result<Segment, ExportError>>, ExportError>;

/// The progress of the steps after the pass.
#[derive(Debug, Default)]
pub(super) struct After {
    /// The last entry that was compared.
    pub(super) compared: Option<Entry>,
    pub(super) selected: Option<Selected>,
}

/// A pass over a file.
pub(super) struct Pass<'a> {
    catalog: &'a Catalog,
    env: &'a Environment,
    request: &'a PlanRequest<'a>,
    plan: Plan,
    notes: Notes,
    sets: Vec<KeySet>,
    duplicates: Duplicates,
    actors: actors::Seen,
    added: Candidates,
    /// Where the last segment that was added ends in the file, in bytes.
    end: u64,
    read: bool,
    pub(super) after: After,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        env: &'a Environment,
        request: &'a PlanRequest<'a>,
        plan: Plan,
    ) -> Self {
        Self {
            catalog,
            env,
            request,
            plan,
            notes: Notes::new(),
            sets: key_sets(catalog),
            duplicates: Duplicates::new(KEY_BUDGET, request.scratch_dir),
            actors: actors::Seen::new(request.scratch_dir),
            added: Candidates::default(),
            end: 0,
            read: false,
            after: After::default(),
        }
    }

    /// Reads the rest of the file.
    pub(super) fn read(&mut self, watch: &PlanningProgress, log: &mut Log<'_>) -> Result<(), ExportError> {
        if self.read {
            return Ok(());
        }
        let (source, limits, begin) = (self.request.source.from(self.end), self.request.limits, self.end);
        let scanner = match begin {
            0 => Scanner::new(source, limits),
            begin => Scanner::after(source, begin, limits),
        };
        let decoder = Decoder::new(self.env, self.request.now);
        let checker = Checker::new(self.catalog, &decoder, self.request.filter, self.request.merge_users);
        // This channel has no buffer: the thread that cuts waits until another one takes the segment.
        let (to_check, orders) = sync_channel::<CheckJob>(0);
        let (to_add, cuttings) = sync_channel::<PendingResult>(CHECKERS);
        let orders = Arc::new(Mutex::new(orders));
        let (give_back, spare) = channel();
        thread::scope(|scope| {
            thread::Builder::new()
                .name("plan-cut".to_owned())
                .spawn_scoped(scope, move || cut(scanner, begin, &to_check, &to_add, &spare))?;
            for (orders, give_back) in vec![(orders, give_back); CHECKERS] {
                let checker = &checker;
                thread::Builder::new().name("plan-check".to_owned()).spawn_scoped(scope, move || {
                    check(checker, &orders, &give_back);
                })?;
            }
            // If this ends early, the other threads find their channels closed, and end too.
            self.add_all(cuttings, watch, log)
        })
    }

    /// Adds segments in the order of the file, up to the last one or the first error.
    fn add_all(
        &mut self,
        cuttings: Receiver<PendingResult>,
        watch: &PlanningProgress,
        log: &mut Log<'_>,
    ) -> Result<(), ExportError> {
        let ended = || io::Error::other("a thread that reads the export has ended early");
        for cutting in cuttings {
            stopped(watch)?;
            let checked = match cutting {
                Ok(checked) => checked.recv().map_err(|_| ended())?,
                Err(error) => Err(error),
            };
            let mut segment = checked.map_err(|error| self.with_ordinal(error))?;
            for (_, (finding, _)) in &mut segment.notes {
                self.set_ordinal(finding);
            }
            if segment.is_torn {
                // It is not logged. The error that ended it comes next.
                self.add(segment)?;
                continue;
            }
            let last = segment.last;
            let frame = PlanningStep::Segment(segment);
            log.append(&frame)?;
            self.take(frame)?;
            watch.records.store(self.plan.records, Ordering::Relaxed);
            let bytes = if last { self.request.source.size() } else { self.end };
            watch.bytes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
            if last {
                return Ok(());
            }
        }
        stopped(watch)?;
        Err(ended().into())
    }

    /// Adds a step to the plan.
    pub(super) fn take(&mut self, frame: PlanningStep) -> Result<(), ExportError> {
        match frame {
            PlanningStep::Segment(segment) => self.add(segment)?,
            PlanningStep::Compared { last, repeated, contradicting } => {
                for (position, offset) in repeated {
                    let plan = self.plan.models.get_mut(position).ok_or_else(no_model)?;
                    plan.marks.repeated.insert(offset);
                }
                for (position, offset) in contradicting {
                    let plan = self.plan.models.get_mut(position).ok_or_else(no_model)?;
                    plan.marks.contradicting.insert(offset);
                }
                self.after.compared = Some(last);
            }
            PlanningStep::Selected(selected) => {
                let Some(selection) = &mut self.plan.selection else {
                    return Err(ExportError::inconsistent("a plan without a filter has selected users"));
                };
                selection.add(&selected.users, &selected.emails);
                self.after.selected = Some(selected);
            }
        }
        Ok(())
    }

    fn add(&mut self, segment: Segment) -> Result<(), ExportError> {
        self.plan.records += segment.records;
        (self.end, self.read) = (segment.end, segment.last);
        for (position, part) in segment.models {
            let plan = self.plan.models.get_mut(position).ok_or_else(no_model)?;
            plan.seen += part.seen;
            plan.marks.defective.extend(part.defective);
            self.added.add(position, part.referred, part.may_get_rows);
            for run in part.runs {
                plan.runs.push(run, self.request.scratch_dir)?;
            }
        }
        for entry in segment.keys {
            self.duplicates.add(entry)?;
        }
        self.actors.add(segment.actors, &segment.named_actors)?;
        for (key, (finding, count)) in segment.notes {
            add_note(&mut self.notes, key, finding, count);
        }
        for (name, count) in segment.passed_over {
            add_passed_over(&mut self.plan.passed_over, name, count);
        }
        if let Some(selection) = &mut self.plan.selection {
            for (pk, slug) in segment.organizations {
                selection.see_organization(pk, &slug);
            }
        }
        Ok(())
    }

    /// Ends the pass, once the file has been read, and returns its results.
    pub(super) fn end(self) -> Result<(Plan, Vec<KeySet>, Duplicates, After), ExportError> {
        let Self { mut plan, catalog, notes, sets, duplicates, actors, added, after, .. } = self;
        plan.actors = actors.end(catalog)?;
        for (position, of) in added.end() {
            plan.models.get_mut(position).ok_or_else(no_model)?.added.of = of;
        }
        plan.findings = counted(notes).collect();
        Ok((plan, sets, duplicates, after))
    }

    /// Turns a record's ordinal within its segment into the one within the file.
    fn set_ordinal(&self, finding: &mut Finding) {
        if let (Some(name), Some(ordinal)) = (&finding.model, &mut finding.ordinal)
            && let Known::Model(model) = self.catalog.known(name)
        {
            *ordinal += self.plan.record_count(model);
        }
    }

    /// Sets the ordinal of the record that an error is about. A record over a limit was not even parsed: it is the next
    /// one of its model.
    fn with_ordinal(&self, mut error: ExportError) -> ExportError {
        match &mut error {
            ExportError::OverLimit { finding, .. } if finding.ordinal.is_none() => {
                if let Some(name) = &finding.model
                    && let Known::Model(model) = self.catalog.known(name)
                {
                    finding.ordinal = Some(self.plan.record_count(model) + 1);
                    finding.model = Some(model.name.clone());
                }
            }
            ExportError::OverLimit { finding, .. } | ExportError::Invalid(finding) => {
                self.set_ordinal(finding)
            }
            _ => {}
        }
        error
    }
}

/// Cuts the file into segments until it ends, breaks a rule, or no receiver is left.
fn cut(
    mut scanner: Scanner<ExportRange>,
    mut begin: u64,
    to_check: &SyncSender<CheckJob>,
    to_add: &SyncSender<PendingResult>,
    spare: &Receiver<Vec<u8>>,
) {
    // The adding thread gets the channel for the result first, so that it receives results in the order of the file.
    let send = |cut: UncheckedSegment| {
        let (tell, told) = channel();
        to_add.send(Ok(told)).is_ok() && to_check.send((cut, tell)).is_ok()
    };
    // Reuses memory, but not if one large record has made it larger.
    let memory = || {
        let used = spare.try_iter().find(|memory| memory.capacity() <= SEGMENT_MEMORY);
        used.unwrap_or_else(|| Vec::with_capacity(SEGMENT_MEMORY))
    };
    let mut cut = UncheckedSegment::from(begin, memory());
    loop {
        match scanner.next_record() {
            Ok(Some((scanned, bytes))) => cut.push(scanned, bytes),
            Ok(None) => {
                cut.last = true;
                send(cut);
                return;
            }
            Err(error) => {
                cut.is_torn = true;
                if send(cut) {
                    // If this fails, the receiver has ended and does not need the error.
                    let _unheard = to_add.send(Err(error));
                }
                return;
            }
        }
        if cut.len() >= SEGMENT_RECORDS || cut.end - begin >= SEGMENT_BYTES {
            begin = cut.end;
            if !send(cut) {
                return;
            }
            cut = UncheckedSegment::from(begin, memory());
        }
    }
}

/// Checks segments until there are no more.
fn check(checker: &Checker<'_>, orders: &Mutex<Receiver<CheckJob>>, spare: &Sender<Vec<u8>>) {
    loop {
        let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((cut, tell)) = order else { return };
        let _unheard = tell.send(checker.check(&cut));
        let _unwanted = spare.send(cut.into_memory());
    }
}
