//! Reads the records of a model in batches, on a thread of its own, while earlier batches are being written.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use causeway_relocation::{
    catalog::{Catalog, Model, Silo},
    export::ExportError,
    plan::{Plan, Record},
};
use causeway_silo::env::Environment;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{limits::ControlBatch, throttle::Throttle};

/// The most records of a batch that this region writes itself.
const MOST: usize = 5_000;
/// Records of the first batch when an import starts or continues, and again after a failure.
const FIRST: usize = 250;
/// The most bytes in the file of a batch that this region writes itself.
const BYTES: usize = 1024 * 1024;

/// How many records the next batches have. A region that is killed before it has written a whole batch would make no
/// progress. So the first batches are small, and the size doubles with each batch that is written.
#[derive(Debug, Clone)]
pub(super) struct Sizes(Arc<AtomicUsize>);

impl Default for Sizes {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(FIRST)))
    }
}

impl Sizes {
    /// Doubles the size, because a batch has been written.
    pub(super) fn grow(&self) {
        // Another model may also grow the size between load and store. Then it is once smaller than it could be.
        let grown = self.0.load(Ordering::Relaxed).saturating_mul(2).min(MOST);
        self.0.store(grown, Ordering::Relaxed);
    }
}

/// How large the batches of an import are.
#[derive(Debug, Clone)]
pub(super) struct BatchLimits {
    pub(super) sizes: Sizes,
    /// The sizes for control that the import began with: a chunk that control has committed and this region has not
    /// recorded must be requested again as the same chunk.
    pub(super) control: ControlBatch,
    /// Makes batches of the region smaller.
    pub(super) throttle: Throttle,
}

impl BatchLimits {
    /// The most records of a batch, and the most bytes that they have in the file.
    fn of(&self, model: &Model) -> (usize, usize) {
        let size = |size: u32| usize::try_from(size).unwrap_or(usize::MAX);
        match model.silo {
            Silo::Region => self.throttle.largest_batch(self.sizes.0.load(Ordering::Relaxed), BYTES),
            Silo::Control => (size(self.control.records), size(self.control.bytes)),
        }
    }
}

/// Consecutive records of one model.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) min_ordinal: i64,
    pub(super) max_ordinal: i64,
    /// Records of the file; or rows that are added, and no record of the file.
    pub(super) records: Vec<Record>,
}

/// Reads the batches of a model from an ordinal on, each converted by `shape`. One is read ahead.
pub(super) fn read<T: Send + 'static>(
    catalog: Arc<Catalog>,
    plan: Arc<Plan>,
    env: Environment,
    limits: BatchLimits,
    position: usize,
    from: i64,
    shape: impl Fn(Batch) -> T + Send + 'static,
) -> (mpsc::Receiver<Result<T, ExportError>>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        let take = |batch| sender.blocking_send(Ok(shape(batch))).is_ok();
        if let Err(error) = send(&catalog, &plan, &env, &limits, position, from, take) {
            // This fails only if the receiver is gone, and then nobody needs the error.
            let _unheard = sender.blocking_send(Err(error));
        }
    });
    (receiver, reading)
}

fn send(
    catalog: &Catalog,
    plan: &Plan,
    env: &Environment,
    limits: &BatchLimits,
    position: usize,
    from: i64,
    take: impl Fn(Batch) -> bool,
) -> Result<(), ExportError> {
    let Some(model) = catalog.models().get(position) else { return Ok(()) };
    let mut reader = plan.written(catalog, model, env, from)?;
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    let (mut most, mut most_bytes) = limits.of(model);
    loop {
        let record = reader.next_record()?;
        let length = record.as_ref().map_or(0, |record| record.length);
        let is_added = record.as_ref().map(|record| record.added_for.is_some());
        let of_other_kind = records.last().map(|last| last.added_for.is_some()) != is_added;
        let full = of_other_kind || records.len() >= most || bytes + length > most_bytes;
        if full && let (Some(first), Some(last)) = (records.first(), records.last()) {
            let batch = Batch { min_ordinal: first.ordinal, max_ordinal: last.ordinal, records: Vec::new() };
            let batch = Batch { records: std::mem::take(&mut records), ..batch };
            if !take(batch) {
                return Ok(());
            }
            bytes = 0;
            (most, most_bytes) = limits.of(model);
        }
        let Some(record) = record else { return Ok(()) };
        bytes += length;
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::{Choice, Chosen};

    #[test]
    fn batches_of_a_region_begin_small_and_grow_and_those_for_control_stay_what_they_are() {
        let catalog = Catalog::load().expect("the catalog is sound");
        let team = catalog.models().iter().find(|model| model.name == "sentry.team").expect("it is known");
        let user = catalog.models().iter().find(|model| model.name == "sentry.user").expect("it is known");
        let (sizes, throttle) = (Sizes::default(), Throttle::new(crate::throttle::Options::default()));
        let control = ControlBatch::default();
        let limits = BatchLimits { sizes: sizes.clone(), control, throttle: throttle.clone() };
        let mut seen = vec![limits.of(team)];
        for _ in 0..6 {
            sizes.grow();
            seen.push(limits.of(team));
            // These are stored with each import; see the migration with the defaults for older ones.
            assert_eq!(limits.of(user), (2_500, 2 << 20));
        }
        let records: Vec<usize> = seen.iter().map(|(records, _)| *records).collect();
        assert_eq!(records, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert!(seen.iter().all(|(_, bytes)| *bytes == 1 << 20));
        // What the import began with, however slowly imports may write.
        let slow = Choice::Limit(std::num::NonZeroU64::MIN);
        throttle.choose(Chosen { rows: slow, bytes: slow, ..Chosen::default() });
        let other = BatchLimits { control: ControlBatch { records: 3, bytes: 700 }, ..limits };
        assert_eq!(other.of(user), (3, 700));
        assert_eq!(other.of(team), (50, 16 << 10));
    }
}
