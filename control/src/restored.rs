//! Puts a control back into service whose database is an old copy: it begins a new era.
//!
//! What was committed after the copy was made is forgotten, but callers still have it. So nothing that may have been given
//! out then is given out again:
//!
//! - the feeds jump to versions that no reader has had, so that each reader gets a snapshot;
//! - the counters of leased ids jump above all ids that may have been leased;
//! - the ids of control's own tables, such as users, jump too, because rows of regions refer to them.
//!
//! An operator says so before control serves ([`begin_era`]). If that was forgotten, the first region that has read more
//! of its feed than control has shows it ([`Feeds::watch`](crate::feed::Feeds::watch)), and control begins the era then.
//! Ids that were leased in between may be those of another region; registrations report these.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the commit | the new era, all of it | control serves |
//! | anything before | nothing | the operator, or the region, asks again |

use causeway_audit::{Call, Subject};
use causeway_proto::era::VERSIONS_OF_AN_ERA;
use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema,
    writer::skip_own_ids,
};
use causeway_silo::{
    db::{self, Db, DbError, Tx},
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

/// Begins the next era of control's database, before control serves it, and returns the number of the era. Brings the
/// schema up to date first, as control does at its start.
///
/// # Errors
/// If the database cannot be used, or is not that of a control.
pub async fn begin_era(
    database_url: &db::DatabaseUrl,
    options: &db::Options,
    env: Environment,
) -> Result<i64, StartError> {
    let db = Db::connect(database_url.secret(), options).await?;
    let catalog = Catalog::load()?;
    let db = schema::prepare(db, &catalog, store::MIGRATIONS).await?;
    let call = Call::own(env.uuid(), "control", RESTORED);
    let now = env.now();
    let era: Result<i64, DbError> = causeway_audit::scope(call, async {
        transact!(DbError, db, |tx| { begin_next(tx, &catalog, 0, now).await? })
    })
    .await;
    db.close().await;
    Ok(era?)
}

/// The same in a transaction; the era is `at_least` this one.
pub(crate) async fn begin_next(
    tx: &mut Tx,
    catalog: &Catalog,
    at_least: i64,
    now: DateTime<Utc>,
) -> Result<i64, DbError> {
    let era = era::next(tx, at_least).await?;
    era::move_feeds(tx, era).await?;
    let mut leased: Vec<&str> =
        catalog.models().iter().filter(|model| model.leases_ids()).map(|model| model.name.as_str()).collect();
    // All who lock several counters do it in this order.
    leased.sort_unstable();
    for model in leased {
        let counter = id_lease::lock_counter(tx, model).await?;
        if let Some(last) = era::note_lost_ids(tx, model, counter, VERSIONS_OF_AN_ERA).await? {
            id_lease::move_counter(tx, model, last).await?;
        }
    }
    for model in catalog.models().iter().filter(|model| model.silo == Silo::Control && !model.leases_ids()) {
        skip_own_ids(tx, model, OWN_IDS).await?;
    }
    causeway_audit::append(tx, &Subject::default(), now).await?;
    Ok(era)
}
