//! Begins a new era of control's database after an old copy of it was put back.
//!
//! What was committed after the copy was made is forgotten, but callers still have it. So nothing that may have been given
//! out then is given out again:
//!
//! - the feeds jump to versions that no reader has had, so that each reader gets a snapshot;
//! - the counters of leased ids jump above all ids that may have been leased;
//! - the ids of control's own tables, such as users, jump too, because rows of regions refer to them.
//!
//! An operator runs `causeway restored` before control serves ([`begin_era`]). If that was forgotten, control begins the era
//! when a region has read more of its feed than control has ([`Feeds::watch`](crate::feed::Feeds::watch)). Ids that were
//! leased in between may be those of another region; registrations report these.
//!
//! A copy that is put back a second time has forgotten the eras since it was made, and what was given out in them. So the
//! counters jump once for each era that is passed over.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the commit | the new era, all of it | control serves |
//! | passing over ids of control's own tables | on PostgreSQL sequences that are higher (`setval` is not undone), else nothing | the operator, or the region, asks again; the ids between are never used |
//! | anything before | nothing | the operator, or the region, asks again |

use causeway_audit::{Call, Subject};
use causeway_proto::era::{LAST_ERA, VERSIONS_OF_AN_ERA};
use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema,
    writer::skip_own_ids,
};
use causeway_silo::{
    db::{self, Db, DbError, HasDbError, Tx},
    env::Environment,
    transact,
};
use chrono::{DateTime, Utc};

use crate::{
    StartError,
    store::{self, era, id_lease},
};

/// How the audit log calls it.
pub(crate) const RESTORED: &str = "begin an era after control was put back from a copy";

/// The most ids of one of control's own tables that are passed over. Fewer if the ids of the table would run out.
const OWN_IDS: i64 = 1 << 26;

/// The most eras that are passed over at once. Each takes 2^32 ids of each leased model, so a wrong number must not pass over
/// all.
const MOST_PASSED: i64 = 16;

/// Why no era begins.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EraError {
    /// The era to begin after is far above that of the database.
    #[error(
        "control's database is of era {known}, and era {after} is too far above it: at most {MOST_PASSED} eras are passed over \
         at once. If the number is right, begin one on the way first: `causeway restored --database-url URL --after-era {}`", .known + MOST_PASSED - 1
    )]
    TooFar {
        /// The era of the database.
        known: i64,
        /// The era after which one was to begin.
        after: i64,
    },
    /// All eras are used up.
    #[error("there is no era after {0}")]
    NoneLeft(i64),
}

/// Why `causeway restored` fails.
#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    /// The database cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A query failed.
    #[error("the database cannot be used")]
    Database(#[from] DbError),
    /// No era begins.
    #[error(transparent)]
    Era(#[from] EraError),
}

impl HasDbError for RestoredError {
    fn db_error(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => Some(error),
            Self::Start(_) | Self::Era(_) => None,
        }
    }
}

/// Begins the next era of control's database, before control serves it, and returns the number of the era. It is above
/// `after`, the number that this returned last if a copy is put back that is older than that. Brings the schema up to date
/// first, as control does at its start.
///
/// # Errors
/// If the database cannot be used, or is not that of a control, or `after` is too far above its era.
pub async fn begin_era(
    database_url: &db::DatabaseUrl,
    options: &db::Options,
    env: Environment,
    after: i64,
) -> Result<i64, RestoredError> {
    let db = Db::connect(database_url.secret(), options).await.map_err(StartError::from)?;
    let catalog = Catalog::load().map_err(StartError::from)?;
    let db = schema::prepare(db, &catalog, store::MIGRATIONS).await.map_err(StartError::from)?;
    let call = Call::own(env.uuid(), "control", RESTORED);
    let now = env.now();
    let era: Result<i64, RestoredError> = causeway_audit::scope(call, async {
        transact!(RestoredError, db, |tx| {
            let known = era::lock(tx).await?;
            let next = next_era(known, after)?;
            begin(tx, &catalog, known, next, &Subject::default(), now).await?;
            next
        })
    })
    .await;
    db.close().await;
    era
}

/// The era that follows both: that of the database, and one that is known to have begun.
pub(crate) fn next_era(known: i64, after: i64) -> Result<i64, EraError> {
    let last = known.max(after);
    if last >= LAST_ERA {
        return Err(EraError::NoneLeft(last));
    }
    if last + 1 - known > MOST_PASSED {
        return Err(EraError::TooFar { known, after });
    }
    Ok(last + 1)
}

/// Begins the era `next`; that of the database is `known`, and the caller has locked it. `begun_by` is for the audit log: the
/// region by which control has noticed the old copy, or nothing if an operator said it.
pub(crate) async fn begin(
    tx: &mut Tx,
    catalog: &Catalog,
    known: i64,
    next: i64,
    begun_by: &Subject,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let passed = next - known;
    era::set(tx, next).await?;
    era::move_feeds(tx, next).await?;
    let mut leased: Vec<&str> =
        catalog.models().iter().filter(|model| model.leases_ids()).map(|model| model.name.as_str()).collect();
    // All who lock several counters do it in this order.
    leased.sort_unstable();
    for model in leased {
        let counter = id_lease::lock_counter(tx, model).await?;
        let most = VERSIONS_OF_AN_ERA.saturating_mul(passed);
        if let Some(last) = era::note_lost_ids(tx, model, counter, most).await? {
            id_lease::move_counter(tx, model, last).await?;
        }
    }
    causeway_audit::append(tx, begun_by, now).await?;
    // Last, because PostgreSQL does not take it back if the transaction fails.
    for model in catalog.models().iter().filter(|model| model.silo == Silo::Control && !model.leases_ids()) {
        for _ in 0..passed {
            skip_own_ids(tx, model, OWN_IDS).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_era_is_above_both() {
        assert_eq!(next_era(0, 0), Ok(1));
        assert_eq!(next_era(3, 1), Ok(4));
        assert_eq!(next_era(1, 3), Ok(4));
    }

    #[test]
    fn a_number_that_is_far_too_high_passes_over_nothing() {
        assert_eq!(next_era(2, MOST_PASSED + 1), Ok(MOST_PASSED + 2));
        assert_eq!(next_era(2, MOST_PASSED + 2), Err(EraError::TooFar { known: 2, after: MOST_PASSED + 2 }));
        let said = EraError::TooFar { known: 2, after: 99 }.to_string();
        assert!(said.contains("--after-era 17`"), "{said}");
    }

    #[test]
    fn there_is_no_era_after_the_last_one() {
        assert_eq!(next_era(LAST_ERA - 1, 0), Ok(LAST_ERA));
        assert_eq!(next_era(LAST_ERA, 0), Err(EraError::NoneLeft(LAST_ERA)));
        assert_eq!(next_era(0, LAST_ERA), Err(EraError::NoneLeft(LAST_ERA)));
    }
}
