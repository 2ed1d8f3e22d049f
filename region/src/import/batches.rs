//! Reads the records of a model in batches, on a thread of its own, while the batch before is being written.

use std::sync::Arc;

use causeway_relocation::{
    ambient::Ambient,
    catalog::Catalog,
    export::ExportError,
    plan::{Plan, Record},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Records of a batch, the unit of resuming. Fixed: a restarted region must cut the same chunks.
const RECORDS: usize = 5_000;
/// Bytes of a batch in the file, so that a batch for control fits into one message.
const BYTES: usize = 1024 * 1024;

/// Neighbouring records of one model.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) min_ordinal: i64,
    pub(super) max_ordinal: i64,
    pub(super) records: Vec<Record>,
}

/// The batches of a model from an ordinal on. One is read ahead.
pub(super) fn read(
    catalog: Arc<Catalog>,
    plan: Arc<Plan>,
    ambient: Ambient,
    position: usize,
    from: i64,
) -> (mpsc::Receiver<Result<Batch, ExportError>>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        if let Err(error) = send(&catalog, &plan, &ambient, position, from, &sender) {
            // Nobody listens any more if this fails, and then nobody needs to know.
            let _unheard = sender.blocking_send(Err(error));
        }
    });
    (receiver, reading)
}

fn send(
    catalog: &Catalog,
    plan: &Plan,
    ambient: &Ambient,
    position: usize,
    from: i64,
    sender: &mpsc::Sender<Result<Batch, ExportError>>,
) -> Result<(), ExportError> {
    let Some(model) = catalog.models().get(position) else { return Ok(()) };
    let mut reader = plan.reader(model, ambient, from)?;
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    loop {
        let record = reader.next_record()?;
        let length = record.as_ref().map_or(0, |record| record.length);
        let full = record.is_none() || records.len() >= RECORDS || bytes + length > BYTES;
        if full && let (Some(first), Some(last)) = (records.first(), records.last()) {
            let batch = Batch { min_ordinal: first.ordinal, max_ordinal: last.ordinal, records: Vec::new() };
            let batch = Batch { records: std::mem::take(&mut records), ..batch };
            if sender.blocking_send(Ok(batch)).is_err() {
                return Ok(());
            }
            bytes = 0;
        }
        let Some(record) = record else { return Ok(()) };
        bytes += length;
        records.push(record);
    }
}
