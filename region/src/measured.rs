//! What metrics show of a region: what is counted, what is known at once, and what is read when somebody scrapes.

use std::{path::Path, sync::Arc, time::Duration};

use causeway_metrics::{Reading, Registry, Sample, table};
use causeway_proto::failure::reason_name;
use causeway_silo::db::{DbError, PoolUse};

use tokio::sync::Semaphore;

use crate::{
    Region, follower::Follower, import::Engine, import::ImportState, store::measured as store,
    throttle::ThrottleStatus,
};

/// How old what is read may become before it is read again.
const EVERY: Duration = Duration::from_secs(10);
/// How long the database may take for one query, and all of a reading.
const QUERY_LIMIT: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(8);

impl Region {
    /// Shows what the region counts.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let metrics = &self.engine.context().metrics;
        metrics.imports.register(registry);
        metrics.comparisons.register(registry);
    }

    /// What is known at once.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let permits = self.engine.permits();
        let (watches, most) = permits.watches_open();
        let mut samples = vec![
            table::WATCHES.sample([], watches),
            table::WATCHES_MAX.sample([], most),
            table::IMPORTS_QUEUED.sample(["plan"], permits.plans.waiting()),
            table::IMPORTS_QUEUED.sample(["chunk"], permits.turns.waiting()),
            table::REGISTERED.sample([], self.engine.context().registration.is_known()),
        ];
        samples.extend(throttle(&self.throttle()));
        samples
    }

    /// What is read when somebody scrapes.
    #[must_use]
    pub fn readings(&self) -> Vec<Arc<Reading>> {
        let (engine, follower) = (self.engine.clone(), self.follower.clone());
        let imports = Reading::new("imports", EVERY, LIMIT, move || {
            let (engine, follower) = (engine.clone(), follower.clone());
            Box::pin(async move { read(&engine, &follower).await.map_err(|error| error.to_string()) })
        });
        let engine = self.engine.clone();
        let measuring = Measuring::default();
        let spool = Reading::new("spool", EVERY, LIMIT, move || {
            let directory = engine.context().spool_dir().to_owned();
            Box::pin(measuring.clone().run(move || measure(&directory)))
        });
        vec![imports, spool]
    }

    /// The connections to the database.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        self.engine.context().db.pool_use()
    }
}

/// What holds imports back.
fn throttle(throttle: &ThrottleStatus) -> Vec<Sample> {
    let limits = throttle.limits;
    let set = [
        limits.rows_per_second.map(|most| table::THROTTLE_LIMIT.sample(["rows"], most.get())),
        limits.bytes_per_second.map(|most| table::THROTTLE_LIMIT.sample(["bytes"], most.get())),
        limits.probe_latency.map(|most| table::THROTTLE_LIMIT.sample(["latency"], most.as_secs_f64())),
        Some(table::THROTTLE_WRITE_RATIO.sample([], f64::from(throttle.percent) / 100.0)),
        Some(table::THROTTLE_WAIT.sample([], throttle.waited.as_secs_f64())),
        throttle.latency.map(|latency| table::THROTTLE_PROBE_LATENCY.sample([], latency.as_secs_f64())),
    ];
    set.into_iter().flatten().collect()
}

/// Reads a directory in a thread, one at a time. A disk that does not answer, such as one on the network, keeps its thread
/// for as long as that lasts, and each further thread would be lost as well.
#[derive(Debug, Clone)]
struct Measuring(Arc<Semaphore>);

impl Default for Measuring {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Measuring {
    async fn run(
        self,
        measure: impl FnOnce() -> std::io::Result<Vec<Sample>> + Send + 'static,
    ) -> Result<Vec<Sample>, String> {
        let Ok(turn) = self.0.try_acquire_owned() else {
            return Err("the spool directory: its disk has not answered since an earlier reading".to_owned());
        };
        let measured = tokio::task::spawn_blocking(move || {
            let measured = measure();
            drop(turn);
            measured
        });
        let measured = measured.await.map_err(|error| error.to_string())?;
        measured.map_err(|error| format!("the spool directory: {error}"))
    }
}

/// Reads the database.
async fn read(engine: &Engine, follower: &Follower) -> Result<Vec<Sample>, DbError> {
    let context = engine.context();
    let (db, now) = (&context.db, context.env.now());
    let mut samples = Vec::new();
    let states = store::states(db, QUERY_LIMIT).await?;
    for state in ImportState::ALL {
        let count = states.get(state.name()).copied().unwrap_or(0);
        samples.push(table::IMPORTS.sample([state.name()], count));
    }
    for (reason, waiting) in store::waiting(db, QUERY_LIMIT).await? {
        let reason = reason_name(reason);
        let longest = (now - waiting.since).max(chrono::TimeDelta::zero());
        samples.push(table::IMPORTS_WAITING.sample([reason], waiting.count));
        samples.push(table::IMPORT_WAIT.sample([reason], longest.as_seconds_f64()));
    }
    samples.push(table::IMPORTS_PAUSED.sample([], store::paused(db, QUERY_LIMIT).await?));
    let left = store::ids_left(db, QUERY_LIMIT).await?;
    for model in context.catalog.models().iter().filter(|model| model.leases_ids()) {
        let left = left.get(&model.name).copied().unwrap_or(0);
        samples.push(table::IDS_LEFT.sample([&model.name], left));
    }
    let stored = store::cursor(db, QUERY_LIMIT).await?;
    let (heard, known) = follower.heard();
    samples.push(table::REPLICA_VERSION.sample([], stored.version));
    samples.push(table::REPLICA_LAG.sample([], known.saturating_sub(stored.version).max(0)));
    if let Some(heard) = heard.max(stored.heard_at) {
        let staleness = (now - heard).max(chrono::TimeDelta::zero());
        samples.push(table::REPLICA_STALENESS.sample([], staleness.as_seconds_f64()));
    }
    Ok(samples)
}

/// The size of all files in a directory, and the room that is left on its disk.
fn measure(directory: &Path) -> std::io::Result<Vec<Sample>> {
    let mut bytes = 0_u64;
    for entry in std::fs::read_dir(directory)? {
        match entry?.metadata() {
            Ok(file) if file.is_file() => bytes = bytes.saturating_add(file.len()),
            Ok(_) => {}
            // It is gone already.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let disk = rustix::fs::statvfs(directory)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(vec![table::SPOOL.sample([], bytes), table::SPOOL_FREE.sample([], free)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spool_is_as_large_as_its_files() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("one"), [0; 1_000]).expect("it is written");
        std::fs::write(directory.path().join("other"), [0; 234]).expect("it is written");
        std::fs::create_dir(directory.path().join("directory")).expect("it is made");
        let samples = measure(directory.path()).expect("it is there");
        assert_eq!(samples.first(), Some(&table::SPOOL.sample([], 1_234_u64)));
        measure(&directory.path().join("absent")).expect_err("it is not there");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_one_thread_only() {
        let measuring = Measuring::default();
        let (answer, hanging) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn(measuring.clone().run(move || {
            let _answered = hanging.recv();
            Ok(Vec::new())
        }));
        while measuring.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // Nobody waits for it any more, as after the limit of a reading; the thread is still there.
        first.abort();
        first.await.expect_err("it is given up");
        let second = measuring.clone().run(|| unreachable!("a second thread")).await;
        assert!(second.expect_err("the first has not ended").contains("has not answered"));
        answer.send(()).expect("it waits");
        while measuring.0.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        measuring.run(|| Ok(Vec::new())).await.expect("the disk answers again");
    }
}
