//! What metrics show of a control: what is counted, what is known at once, and what is read when somebody scrapes.

use std::{sync::Arc, time::Duration};

use causeway_metrics::{Reading, Registry, Sample, table};
use causeway_silo::{
    db::{Db, DbError, PoolUse},
    env::Environment,
};
use chrono::TimeDelta;

use crate::{
    Control,
    feed::Feeds,
    model::{region::MAX_ID, reservation::ReservationType},
    store::measured as store,
};

/// How old what is read of regions may become before it is read again.
const EVERY: Duration = Duration::from_secs(10);
/// How long the database may take for one query, and all of that reading.
const QUERY_LIMIT: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(8);
/// The same for the number of reservations, which are counted one by one.
const EVERY_COUNT: Duration = Duration::from_secs(60);
const COUNT_LIMIT: Duration = Duration::from_secs(60);
/// How many regions have series of their own.
const REGIONS: i64 = 2_000;

impl Control {
    /// Shows what control counts.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.slug_reservations.metrics.register(registry);
    }

    /// What is known at once.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let (watches, most) = self.feeds.reader_slots().open();
        vec![table::WATCHES.sample([], watches), table::WATCHES_MAX.sample([], most)]
    }

    /// What is read when somebody scrapes.
    #[must_use]
    pub fn readings(&self) -> Vec<Arc<Reading>> {
        let (db, env, feeds, models) =
            (self.db.clone(), self.env.clone(), self.feeds.clone(), self.regions.models_with_leased_ids());
        let regions = Reading::new("regions", EVERY, LIMIT, move || {
            let (db, env, feeds, models) = (db.clone(), env.clone(), feeds.clone(), models.clone());
            Box::pin(
                async move { regions(&db, &env, &feeds, &models).await.map_err(|error| error.to_string()) },
            )
        });
        let db = self.db.clone();
        let reservations = Reading::new("reservations", EVERY_COUNT, COUNT_LIMIT, move || {
            let db = db.clone();
            Box::pin(async move { reservations(&db).await.map_err(|error| error.to_string()) })
        });
        vec![regions, reservations]
    }

    /// The connections to the database, and to a replica of it.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        self.readers.pool_use()
    }
}

async fn regions(
    db: &Db,
    env: &Environment,
    feeds: &Feeds,
    models: &[String],
) -> Result<Vec<Sample>, DbError> {
    let mut samples = Vec::new();
    let states = store::region_states(db, QUERY_LIMIT).await?;
    for state in ["registered", "added", "suspended"] {
        samples.push(table::REGIONS.sample([state], states.get(state).copied().unwrap_or(0)));
    }
    let measured = store::regions(db, QUERY_LIMIT, REGIONS).await?;
    // What was sent is read after the versions, so that a change in between does not look like a lag.
    let (sent, now) = (feeds.reader_slots().sent_versions(), env.now());
    for region in measured {
        let name = region.name.as_str();
        samples.push(table::FEED_VERSION.sample([name], region.feed_version));
        if let Some(sent) = sent.get(name) {
            let lag = region.feed_version.saturating_sub(*sent).max(0);
            samples.push(table::FEED_LAG.sample([name], lag));
        }
        if let Some(contact) = region.last_contact_at {
            let silence = (now - contact).max(TimeDelta::zero());
            samples.push(table::REGION_SILENCE.sample([name], silence.as_seconds_f64()));
        }
        if let Some(end) = region.certificate_end {
            samples.push(table::REGION_CERTIFICATE_END.sample([name], end.timestamp()));
        }
    }
    let leased = store::highest_leased(db, QUERY_LIMIT).await?;
    for model in models {
        let left = MAX_ID - leased.get(model).copied().unwrap_or(0);
        samples.push(table::IDS_UNLEASED.sample([model], left));
    }
    Ok(samples)
}

async fn reservations(db: &Db) -> Result<Vec<Sample>, DbError> {
    let counted = store::reservations(db, COUNT_LIMIT).await?;
    let kinds =
        [ReservationType::Primary, ReservationType::TemporaryRenameAlias, ReservationType::VanityAlias];
    let sample = |kind: &ReservationType| {
        table::RESERVATIONS.sample([kind.name()], counted.get(kind.name()).copied().unwrap_or(0))
    };
    Ok(kinds.iter().map(sample).collect())
}

#[cfg(test)]
mod tests {
    use causeway_relocation::{catalog::Catalog, schema};
    use causeway_silo::db::{Options, Statement};

    use super::*;
    use crate::store::MIGRATIONS;

    #[tokio::test]
    async fn so_many_regions_have_series_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("control.db").display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let catalog = Catalog::load().expect("a catalog");
        let db = schema::prepare(db, &catalog, MIGRATIONS).await.expect("a schema");
        let mut tx = db.begin().await.expect("a transaction");
        let many = Statement::new(
            "WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 2000) \
             INSERT INTO causeway_region (name, address, instance_id, created_at, last_seen_at) \
             SELECT printf('r%04d', i), 'http://127.0.0.1:1', printf('00000000-0000-0000-0000-%012x', i), \
             '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z' FROM c",
        );
        assert_eq!(tx.execute(many).await.expect("inserted"), 2_001);
        tx.commit().await.expect("committed");
        let shown = store::regions(&db, QUERY_LIMIT, REGIONS).await.expect("read");
        assert_eq!(shown.len(), 2_000);
        // The first ones by name, so that the same ones are shown each time.
        assert_eq!(shown.last().map(|region| region.name.as_str()), Some("r1999"));
        db.close().await;
    }
}
