//! What metrics show of a region: what is counted, what is known at once, and what is read when somebody scrapes.

use std::{path::Path, sync::Arc, time::Duration};

use causeway_metrics::{Reading, Registry, Sample, table};
use causeway_proto::failure::reason_name;
use causeway_silo::db::{DbError, PoolUse};

use crate::{Region, follower::Follower, import::Engine, import::ImportState, store::measured as store};

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
        vec![
            table::WATCHES.sample([], watches),
            table::WATCHES_MAX.sample([], most),
            table::IMPORTS_QUEUED.sample(["plan"], permits.plans.waiting()),
            table::IMPORTS_QUEUED.sample(["chunk"], permits.turns.waiting()),
            table::REGISTERED.sample([], self.engine.context().registration.is_known()),
        ]
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
        let spool = Reading::new("spool", EVERY, LIMIT, move || {
            let directory = engine.context().spool_dir().to_owned();
            Box::pin(async move {
                let measured = tokio::task::spawn_blocking(move || measure(&directory)).await;
                let measured = measured.map_err(|error| error.to_string())?;
                measured.map_err(|error| format!("the spool directory: {error}"))
            })
        });
        vec![imports, spool]
    }

    /// The connections to the database.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        self.engine.context().db.pool_use()
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
}
