//! The only way to change the reservations of a region: a transaction that holds the lock of its feed.
//!
//! If it writes for the region, it does not begin while the region is suspended, and nobody suspends the region until
//! it ends. It locks the feed when it begins, appends events, and sets the version of the feed when it commits. Then it
//! notifies the task that polls the feeds. Functions that change reservations, operations, renames or the directory
//! take this type, not a plain transaction, so none of these steps can be forgotten.
//!
//! ```no_run
//! # use causeway_control::store::{added_region::BeginError, feed_transaction::RegionFeed, slug_reservation};
//! # async fn free(feed: RegionFeed<'_>) -> Result<(), BeginError> {
//! let mut feed = feed.begin().await?;
//! slug_reservation::delete_slug(&mut feed, "acme").await?;
//! Ok(feed.commit().await?)
//! # }
//! ```
//!
//! A transaction that has not locked the feed does not compile:
//!
//! ```compile_fail
//! # use causeway_control::store::{feed_transaction::RegionFeed, slug_reservation};
//! # async fn free(db: causeway_silo::db::Db) -> Result<(), causeway_silo::db::DbError> {
//! let mut tx = db.begin().await?;
//! slug_reservation::delete_slug(&mut tx, "acme").await?;
//! tx.commit().await
//! # }
//! ```
//!
//! One that has locked it cannot be committed without the feed:
//!
//! ```compile_fail
//! # use causeway_control::store::{added_region::BeginError, feed_transaction::RegionFeed, slug_reservation};
//! # async fn free(feed: RegionFeed<'_>) -> Result<(), BeginError> {
//! let mut feed = feed.begin().await?;
//! slug_reservation::delete_slug(&mut feed, "acme").await?;
//! Ok((*feed).commit().await?)
//! # }
//! ```

use std::ops::{Deref, DerefMut};

use causeway_silo::db::{Column, Db, DbError, Statement, Tx};
use tokio::sync::Notify;

use super::{
    EQUALS_WITHOUT_REGION_INDEX,
    added_region::{self, BeginError},
    era::EMPTY_FEED_VERSION,
    feed::FEED_COLUMNS,
    product_tables::ProductDb,
};
use crate::model::reservation::{Reservation, Selection};

/// What happens to the selected reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// They are new or changed; their rows have the new values.
    Upsert,
    /// They are about to be deleted.
    Remove,
}

/// For whom a transaction changes reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// For a call of the region, or about one of its organizations. It does not begin while the region is suspended.
    Region,
    /// For control itself, which keeps its own tables in order.
    Control,
}

/// The feed of one region. Transactions begin on it.
#[derive(Debug, Clone, Copy)]
pub struct RegionFeed<'a> {
    db: &'a Db,
    region: &'a str,
    changed: &'a Notify,
    product_db: Option<&'a ProductDb>,
    writer: Writer,
}

impl<'a> RegionFeed<'a> {
    /// The feed of a region that has registered. `changed` is notified after each commit that appended events. `product_db`
    /// are those of a database that is the product's.
    pub(crate) fn new(
        db: &'a Db,
        region: &'a str,
        changed: &'a Notify,
        product_db: Option<&'a ProductDb>,
        writer: Writer,
    ) -> Self {
        Self { db, region, changed, product_db, writer }
    }

    /// Begins a transaction. Until it ends, it is the only one that changes reservations of the region.
    ///
    /// # Errors
    /// If the region is suspended and this writes for it, or the database fails or refuses a lock.
    pub async fn begin(self) -> Result<FeedTransaction<'a>, BeginError> {
        let mut tx = self.db.begin().await?;
        let version = lock(&mut tx, self.region).await?;
        if self.writer == Writer::Region {
            added_region::lock_to_write(&mut tx, self.region).await?;
        }
        Ok(FeedTransaction { tx, feed: self, locked_at: version, version })
    }
}

/// A transaction that holds the lock of a region's feed. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct FeedTransaction<'a> {
    tx: Tx,
    feed: RegionFeed<'a>,
    /// The version of the feed when it was locked.
    locked_at: i64,
    /// The version of the last event that this transaction has appended.
    version: i64,
}

impl<'a> FeedTransaction<'a> {
    /// The region of the feed.
    #[must_use]
    pub fn region(&self) -> &'a str {
        self.feed.region
    }

    /// The product's own tables, which follow each change of reservations.
    pub(crate) fn product_db(&self) -> Option<&'a ProductDb> {
        self.feed.product_db
    }

    /// The version of the feed, with what this transaction has appended.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Appends an event for each of these reservations, with the current values of its row.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn append_upserts(&mut self, of: Selection<'_>) -> Result<(), DbError> {
        self.append(of, EventKind::Upsert).await
    }

    /// Appends a removal for each of these reservations. Call this before deleting their rows.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn append_removals(&mut self, of: Selection<'_>) -> Result<(), DbError> {
        self.append(of, EventKind::Remove).await
    }

    async fn append(&mut self, of: Selection<'_>, change: EventKind) -> Result<(), DbError> {
        self.version = append(&mut self.tx, self.feed.region, self.version, of, change).await?;
        Ok(())
    }

    /// Appends the removal of a reservation whose row is already deleted.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn append_removed(&mut self, removed: &Reservation) -> Result<(), DbError> {
        append_removed(&mut self.tx, self.version + 1, removed).await?;
        self.version += 1;
        Ok(())
    }

    /// Sets the version of the feed and commits.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn commit(mut self) -> Result<(), DbError> {
        let has_appended = self.version > self.locked_at;
        if has_appended {
            advance(&mut self.tx, self.feed.region, self.version).await?;
        }
        self.tx.commit().await?;
        if has_appended {
            self.feed.changed.notify_one();
        }
        Ok(())
    }
}

impl Deref for FeedTransaction<'_> {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for FeedTransaction<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

/// Deletes the oldest events of a region up to version `up_to`, at most `most`, and returns how many. Events above the
/// `oldest` of the feed are always there.
pub(crate) async fn prune(feed: &mut FeedTransaction<'_>, up_to: i64, most: i64) -> Result<u64, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_feed SET oldest = CASE WHEN oldest + $3 < $2 THEN oldest + $3 ELSE $2 END \
         WHERE region = $1 AND oldest < $2 RETURNING oldest",
    )
    .with(feed.region())
    .with(up_to)
    .with(most);
    let Some(row) = feed.fetch_optional(statement).await? else { return Ok(0) };
    let statement = Statement::new("DELETE FROM causeway_feed_event WHERE region = $1 AND version <= $2")
        .with(feed.region())
        .with(row.int("oldest")?);
    feed.execute(statement).await
}

/// Locks the feed: until this transaction ends, no other one changes reservations of the region. Returns the version of
/// the feed.
async fn lock(tx: &mut Tx, region: &str) -> Result<i64, DbError> {
    let statement = Statement::new("INSERT INTO causeway_feed (region, version, oldest) VALUES (")
        .arg(region)
        .push(", ")
        .push(EMPTY_FEED_VERSION)
        .push(", ")
        .push(EMPTY_FEED_VERSION)
        .push(") ON CONFLICT (region) DO UPDATE SET version = causeway_feed.version RETURNING version");
    tx.fetch_one(statement).await?.int("version")
}

/// Sets the version of the feed. The transaction holds its lock.
async fn advance(tx: &mut Tx, region: &str, version: i64) -> Result<(), DbError> {
    let statement =
        Statement::new("UPDATE causeway_feed SET version = $2 WHERE region = $1").with(region).with(version);
    tx.execute(statement).await.map(|_| ())
}

/// Appends an event for each of the reservations, after version `after`, and returns the version of the last event.
/// Primary reservations come first, so that no reader ever sees an organization without one.
async fn append(
    tx: &mut Tx,
    region: &str,
    after: i64,
    of: Selection<'_>,
    change: EventKind,
) -> Result<i64, DbError> {
    let dialect = tx.dialect();
    let statement = Statement::new(
        "INSERT INTO causeway_feed_event \
         (region, version, slug, organization_id, type, canonical_slug, operation_id, wanted) SELECT s.region, ",
    )
    .arg(after)
    .push(
        " + row_number() OVER (ORDER BY CASE s.type WHEN 'primary' THEN 0 ELSE 1 END, s.slug), \
         s.slug, s.organization_id, ",
    );
    let statement = match change {
        EventKind::Upsert => statement.push(FEED_COLUMNS),
        EventKind::Remove => {
            statement.push("CAST(NULL AS text), CAST(NULL AS text), s.operation_id, ").arg(false)
        }
    };
    let statement = statement.push(" FROM causeway_organization_slug_reservation s");
    let statement = match of {
        Selection::Organizations(ids) => statement
            .push(" JOIN ")
            .rows(dialect, "r", [("organization_id", Column::Ints(ids.to_vec()))])
            .push(" ON r.organization_id = s.organization_id WHERE s.region")
            .push(EQUALS_WITHOUT_REGION_INDEX)
            .arg(region),
        Selection::Operation(operation_id, after, last) => statement
            .push(" WHERE s.region = ")
            .arg(region)
            .push(" AND s.operation_id = ")
            .arg(operation_id)
            .push(" AND s.organization_id > ")
            .arg(after)
            .push(" AND s.organization_id <= ")
            .arg(last),
        Selection::Slug(slug) => {
            statement.push(" WHERE s.region = ").arg(region).push(" AND s.slug = ").arg(slug)
        }
    };
    let appended = tx.execute(statement).await?;
    after
        .checked_add_unsigned(appended)
        .ok_or_else(|| DbError::inconsistent("the feed of a region has more events than it can number"))
}

/// Appends the removal of a reservation whose row is gone.
async fn append_removed(tx: &mut Tx, version: i64, removed: &Reservation) -> Result<(), DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_feed_event \
         (region, version, slug, organization_id, type, canonical_slug, operation_id, wanted) \
         VALUES ($1, $2, $3, $4, NULL, NULL, $5, $6)",
    )
    .with(removed.region.as_str())
    .with(version)
    .with(removed.slug.as_str())
    .with(removed.organization_id)
    .with(removed.operation_id)
    .with(false);
    tx.execute(statement).await.map(|_| ())
}
