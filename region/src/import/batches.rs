//! Reads the records of a model in batches, on a thread of its own, while earlier batches are being written.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use causeway_proto::limits::MAX_CHUNK_RECORDS;
use causeway_relocation::{
    catalog::{Catalog, Model, Silo},
    export::ExportError,
    plan::{Plan, Record},
};
use causeway_silo::env::Environment;
use tokio::{sync::mpsc, task::JoinHandle};

/// The most records of a batch that this region writes itself.
const MOST: usize = 5_000;
/// Records of the first batch when an import starts or continues, and again after a failure.
const FIRST: usize = 250;
/// The most bytes in the file of a batch that this region writes itself.
const BYTES: usize = 1024 * 1024;
/// The most bytes in the file of a batch for control, which must fit into one message.
const BYTES_FOR_CONTROL: usize = 2 * 1024 * 1024;

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

    fn of(&self, model: &Model) -> usize {
        match model.silo {
            Silo::Region => self.0.load(Ordering::Relaxed),
            // Fixed: a chunk that control has committed and this region has not recorded must be requested again as the
            // same chunk.
            Silo::Control => MAX_CHUNK_RECORDS,
        }
    }
}

/// Consecutive records of one model.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) min_ordinal: i64,
    pub(super) max_ordinal: i64,
    pub(super) records: Vec<Record>,
}

/// Reads the batches of a model from an ordinal on, each converted by `shape`. One is read ahead.
pub(super) fn read<T: Send + 'static>(
    catalog: Arc<Catalog>,
    plan: Arc<Plan>,
    env: Environment,
    sizes: Sizes,
    position: usize,
    from: i64,
    shape: impl Fn(Batch) -> T + Send + 'static,
) -> (mpsc::Receiver<Result<T, ExportError>>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        let take = |batch| sender.blocking_send(Ok(shape(batch))).is_ok();
        if let Err(error) = send(&catalog, &plan, &env, &sizes, position, from, take) {
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
    sizes: &Sizes,
    position: usize,
    from: i64,
    take: impl Fn(Batch) -> bool,
) -> Result<(), ExportError> {
    let Some(model) = catalog.models().get(position) else { return Ok(()) };
    let mut reader = plan.reader(model, env, from)?;
    let most_bytes = match model.silo {
        Silo::Region => BYTES,
        Silo::Control => BYTES_FOR_CONTROL,
    };
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    loop {
        let record = reader.next_record()?;
        let length = record.as_ref().map_or(0, |record| record.length);
        let full = record.is_none() || records.len() >= sizes.of(model) || bytes + length > most_bytes;
        if full && let (Some(first), Some(last)) = (records.first(), records.last()) {
            let batch = Batch { min_ordinal: first.ordinal, max_ordinal: last.ordinal, records: Vec::new() };
            let batch = Batch { records: std::mem::take(&mut records), ..batch };
            if !take(batch) {
                return Ok(());
            }
            bytes = 0;
        }
        let Some(record) = record else { return Ok(()) };
        bytes += length;
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_a_region_begin_small_and_grow_and_those_for_control_stay_what_they_are() {
        let catalog = Catalog::load().expect("the catalog is sound");
        let team = catalog.models().iter().find(|model| model.name == "sentry.team").expect("it is known");
        let user = catalog.models().iter().find(|model| model.name == "sentry.user").expect("it is known");
        let sizes = Sizes::default();
        let mut seen = vec![sizes.of(team)];
        for _ in 0..6 {
            sizes.grow();
            seen.push(sizes.of(team));
            assert_eq!(sizes.of(user), 2_500);
        }
        assert_eq!(seen, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
    }
}
