//! What metrics show of control's own tables. Each query ends after the time that its caller gives it.

use std::{collections::HashMap, time::Duration};

use causeway_silo::db::{Db, DbError, Statement};
use chrono::{DateTime, Utc};

/// What metrics show of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeasuredRegion {
    /// Its name.
    pub(crate) name: String,
    /// The version of its feed.
    pub(crate) feed_version: i64,
    /// When it last registered or read its feed, to about ten seconds.
    pub(crate) last_contact_at: Option<DateTime<Utc>>,
    /// The end of the certificate with which it last registered.
    pub(crate) certificate_end: Option<DateTime<Utc>>,
}

/// The first `most` regions that have registered and are not suspended, by name. What a suspended one lacks is what an
/// operator wants.
pub(crate) async fn regions(db: &Db, limit: Duration, most: i64) -> Result<Vec<MeasuredRegion>, DbError> {
    let statement = Statement::new(
        "SELECT r.name, COALESCE(f.version, 0) AS version, r.last_contact_at, r.certificate_end \
         FROM causeway_region r LEFT JOIN causeway_feed f ON f.region = r.name \
         WHERE NOT EXISTS (SELECT 1 FROM causeway_added_region a \
             WHERE a.name = r.name AND a.suspended_at IS NOT NULL) ORDER BY r.name LIMIT $1",
    )
    .with(most);
    let rows = db.fetch_within(limit, statement).await?;
    rows.iter()
        .map(|row| {
            Ok(MeasuredRegion {
                name: row.text("name")?,
                feed_version: row.int("version")?,
                last_contact_at: row.opt_time("last_contact_at")?,
                certificate_end: row.opt_time("certificate_end")?,
            })
        })
        .collect()
}

fn counts(rows: Vec<causeway_silo::db::Row>, of: &str, count: &str) -> Result<HashMap<String, i64>, DbError> {
    rows.iter().map(|row| Ok((row.text(of)?, row.int(count)?))).collect()
}

/// How many regions are `suspended`; of the others, how many have `registered` and how many were only `added`.
pub(crate) async fn region_states(db: &Db, limit: Duration) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new(
        "SELECT s.state, COUNT(*) AS many FROM (SELECT CASE WHEN a.suspended_at IS NOT NULL THEN 'suspended' \
         WHEN r.name IS NOT NULL THEN 'registered' ELSE 'added' END AS state \
         FROM causeway_added_region a LEFT JOIN causeway_region r ON r.name = a.name) AS s GROUP BY s.state",
    );
    counts(db.fetch_within(limit, statement).await?, "state", "many")
}

/// The highest id of each model that was ever leased.
pub(crate) async fn highest_leased(db: &Db, limit: Duration) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new("SELECT model, last_id FROM causeway_id_lease_counter");
    counts(db.fetch_within(limit, statement).await?, "model", "last_id")
}

/// How many reservations there are of each type, by its name. Reads all of them.
pub(crate) async fn reservations(db: &Db, limit: Duration) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new(
        "SELECT type, COUNT(*) AS many FROM causeway_organization_slug_reservation GROUP BY type",
    );
    counts(db.fetch_within(limit, statement).await?, "type", "many")
}
