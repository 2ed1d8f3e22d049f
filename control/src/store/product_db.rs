//! The product's own table of slugs. In a database of the product, `sentry_organizationslugreservation`
//! defines which region an organization is in, and its workers carry each change that `sentry_controloutbox`
//! names into mappings and replicas. Control writes both in the transactions that change its own
//! reservations, and uses no slug that the product has reserved for another organization.
//!
//! | when | the product's reservation |
//! | --- | --- |
//! | a slug is reserved | is inserted for the organization; a second one of an organization (a rename) as temporary |
//! | it becomes primary | is the only primary one of the organization, and is announced |
//! | it is freed, or becomes an alias | is deleted, which is announced: the product knows one slug of an organization |
//! | the organization is released | so are the mappings and replicas that the workers have made of it |

use std::collections::{HashMap, HashSet};

use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx};
use chrono::{DateTime, Utc};

use super::{
    EQUALS_WITHOUT_REGION_INDEX,
    feed_transaction::FeedTransaction,
    product_tables::{ProductDb, existing, texts, worker_tables},
};
use crate::model::{
    directory::ResolvedOrganization,
    reservation::{Candidates, Owner, Selection},
};

/// A time that has passed: the workers take a message at once.
const AT_ONCE: &str = "CAST('2016-08-01T00:00:00Z' AS timestamp with time zone)";
/// Categories of messages to the workers.
pub(super) const SLUG_RESERVATION: i64 = 27;
pub(super) const AUTH_TOKEN: i64 = 33;

/// An organization to which the product has given another slug than control knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// The id of the organization.
    pub(crate) organization_id: i64,
    /// The name of the region that owns the organization.
    pub(crate) region: String,
    /// Its slug in the product.
    pub(crate) slug: String,
    /// Its primary slug at control.
    pub(crate) previous: String,
}

/// Slugs that the product keeps for the organizations that want them.
#[derive(Debug)]
pub(crate) struct ProductReservations {
    /// Those of the candidates that nobody else has in the product.
    pub(crate) free: Candidates,
    /// The slugs that were not there before.
    inserted: HashSet<String>,
}

impl ProductDb {
    /// Reserves those of the candidates that are free in the product, in the order of the slugs.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn hold(
        &self,
        feed: &mut FeedTransaction<'_>,
        candidates: Candidates,
        now: DateTime<Utc>,
    ) -> Result<ProductReservations, DbError> {
        let dialect = feed.dialect();
        let rows = |candidates: &Candidates| {
            let ids = Column::Ints(candidates.organization_ids.clone());
            [("organization_id", ids), ("slug", Column::Texts(candidates.slugs.clone()))]
        };
        let insert = Statement::new(
            "INSERT INTO sentry_organizationslugreservation \
             (slug, organization_id, user_id, region_name, reservation_type, date_added) \
             SELECT r.slug, r.organization_id, -1, ",
        );
        let insert = region_name(insert, feed.region())
            .push(
                ", CASE WHEN EXISTS (SELECT 1 FROM sentry_organizationslugreservation p \
                 WHERE p.organization_id = r.organization_id AND p.reservation_type = 0) THEN 1 ELSE 0 END, ",
            )
            .arg(now)
            .push(" FROM ")
            .rows(dialect, "r", rows(&candidates))
            .push(" ORDER BY r.slug ON CONFLICT DO NOTHING RETURNING slug");
        let inserted = texts(&feed.fetch_all(insert).await?, "slug")?;
        let mine = Statement::new("SELECT r.slug AS slug FROM ")
            .rows(dialect, "r", rows(&candidates))
            .push(" JOIN sentry_organizationslugreservation b ON b.slug = r.slug AND b.organization_id = r.organization_id");
        let mine = texts(&feed.fetch_all(mine).await?, "slug")?;
        Ok(ProductReservations { free: candidates.only(&mine), inserted })
    }

    /// Gives back those of the slugs just reserved that control gave to no organization.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn give_back(
        &self,
        feed: &mut FeedTransaction<'_>,
        mut reserved: ProductReservations,
        given: &[(i64, String)],
    ) -> Result<(), DbError> {
        for (_, slug) in given {
            reserved.inserted.remove(slug);
        }
        if reserved.inserted.is_empty() {
            return Ok(());
        }
        let dialect = feed.dialect();
        let slugs = Column::Texts(reserved.inserted.into_iter().collect());
        let statement = Statement::new(
            "DELETE FROM sentry_organizationslugreservation WHERE slug IN (SELECT r.slug FROM ",
        )
        .rows(dialect, "r", [("slug", slugs)])
        .push(")");
        feed.execute(statement).await.map(|_| ())
    }

    /// Makes the selected reservations that are primary the primary ones in the product, and announces them.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn settle(
        &self,
        feed: &mut FeedTransaction<'_>,
        of: &Selection<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), DbError> {
        let others = Statement::new(
            "DELETE FROM sentry_organizationslugreservation b USING causeway_organization_slug_reservation s \
             WHERE b.organization_id = s.organization_id AND b.slug <> s.slug AND b.reservation_type = 0 \
             AND s.type = 'primary' AND ",
        );
        announce(feed, selected(others, feed, of)).await?;
        let primary = Statement::new(
            "UPDATE sentry_organizationslugreservation b SET reservation_type = 0 \
             FROM causeway_organization_slug_reservation s \
             WHERE b.organization_id = s.organization_id AND b.slug = s.slug AND s.type = 'primary' AND ",
        );
        announce(feed, selected(primary, feed, of)).await?;
        // Reserved by a release that did not know the product's tables.
        announce(feed, missing(feed, of, now)).await
    }

    /// Deletes what the product has of the selected reservations, and announces it. Call this before they are deleted.
    /// What the product itself has reserved as the primary slug of an organization stays: [`settle`](Self::settle)
    /// replaces it.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn free(
        &self,
        feed: &mut FeedTransaction<'_>,
        of: &Selection<'_>,
    ) -> Result<(), DbError> {
        let gone = Statement::new(
            "DELETE FROM sentry_organizationslugreservation b USING causeway_organization_slug_reservation s \
             WHERE b.organization_id = s.organization_id AND b.slug = s.slug \
             AND (b.user_id = -1 OR b.reservation_type <> 0) AND ",
        );
        announce(feed, selected(gone, feed, of)).await
    }

    /// Deletes all that the product has reserved for organizations of the region that are gone, under whatever slug, and
    /// what its workers have made of them. Call this before control's reservations are deleted.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn forget(
        &self,
        feed: &mut FeedTransaction<'_>,
        organization_ids: &[i64],
    ) -> Result<(), DbError> {
        let ours = |statement: Statement, feed: &FeedTransaction<'_>| {
            let statement = statement.push(
                "organization_id IN (SELECT s.organization_id FROM causeway_organization_slug_reservation s WHERE ",
            );
            selected(statement, feed, &Selection::Organizations(organization_ids)).push(")")
        };
        let gone = Statement::new(
            "DELETE FROM sentry_organizationslugreservation b WHERE (b.user_id = -1 OR b.reservation_type <> 0) AND b.",
        );
        let gone = ours(gone, feed);
        announce(feed, gone).await?;
        for table in existing(&feed.fetch_all(worker_tables()).await?)? {
            // An organization that the product made is the product's to forget.
            let statement = Statement::new("DELETE FROM ").push(table).push(" t WHERE NOT EXISTS (SELECT 1 FROM sentry_organizationslugreservation b WHERE b.organization_id = t.organization_id) AND t.");
            let statement = ours(statement, feed);
            feed.execute(statement).await?;
        }
        Ok(())
    }

    /// Deletes at most `most` rows that the workers have written for organizations that are gone from the region, and returns
    /// how many. [`forget`](Self::forget) deletes the rest with the reservations: an organization may have very many
    /// members.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn delete_worker_rows(
        &self,
        feed: &mut FeedTransaction<'_>,
        organization_ids: &[i64],
        most: i64,
    ) -> Result<u64, DbError> {
        let mut deleted = 0;
        for table in existing(&feed.fetch_all(worker_tables()).await?)? {
            let left = most - deleted;
            // What the product has reserved stays its own: see `forget`.
            let of_workers = Statement::new("DELETE FROM ").push(table).push(" WHERE id IN (SELECT t.id FROM ").push(table).push(
                " t WHERE NOT EXISTS (SELECT 1 FROM sentry_organizationslugreservation b \
                 WHERE b.organization_id = t.organization_id AND NOT COALESCE(b.user_id = -1 OR b.reservation_type <> 0, false)) \
                 AND t.organization_id IN (SELECT s.organization_id FROM causeway_organization_slug_reservation s WHERE ",
            );
            let of_workers = selected(of_workers, feed, &Selection::Organizations(organization_ids))
                .push(") LIMIT ")
                .arg(left);
            deleted += feed.execute(of_workers.push(")")).await?.cast_signed();
            if deleted >= most {
                break;
            }
        }
        Ok(deleted.cast_unsigned())
    }

    /// Organizations that the product has renamed, with ids above `after`, in the order of their ids; at most `most`.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn renamed(&self, db: &Db, after: i64, most: i64) -> Result<Vec<Renamed>, DbError> {
        let statement = Statement::new(
            "SELECT s.organization_id, s.region, b.slug, s.slug AS previous FROM causeway_organization_slug_reservation s \
             JOIN sentry_organizationslugreservation b ON b.organization_id = s.organization_id AND b.reservation_type = 0 \
             WHERE s.type = 'primary' AND s.slug <> b.slug AND s.organization_id > $1 ORDER BY s.organization_id LIMIT $2",
        );
        let renamed = |row: &Row| {
            Ok(Renamed {
                organization_id: row.int("organization_id")?,
                region: row.text("region")?,
                slug: row.text("slug")?,
                previous: row.text("previous")?,
            })
        };
        db.fetch_all(statement.with(after).with(most)).await?.iter().map(renamed).collect()
    }

    /// Whether a rename of the product is still as it was found.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn is_renamed(
        &self,
        feed: &mut FeedTransaction<'_>,
        renamed: &Renamed,
    ) -> Result<bool, DbError> {
        let statement = Statement::new(
            "SELECT b.id FROM causeway_organization_slug_reservation s JOIN sentry_organizationslugreservation b \
             ON b.organization_id = s.organization_id AND b.reservation_type = 0 WHERE s.type = 'primary' \
             AND s.organization_id = $1 AND s.region = $2 AND s.slug = $3 AND b.slug = $4",
        )
        .with(renamed.organization_id)
        .with(renamed.region.as_str())
        .with(renamed.previous.as_str())
        .with(renamed.slug.as_str());
        Ok(feed.fetch_optional(statement).await?.is_some())
    }

    /// Announces new auth tokens of organizations.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn announce_tokens(
        &self,
        tx: &mut Tx,
        region: &str,
        ids: Vec<i64>,
    ) -> Result<(), DbError> {
        let dialect = tx.dialect();
        let statement = messages(Statement::new(""), AUTH_TOKEN, region)
            .push("sentry_orgauthtoken c JOIN ")
            .rows(dialect, "r", [("id", Column::Ints(ids))])
            .push(" ON r.id = c.id");
        tx.execute(statement).await.map(|_| ())
    }
}

/// Who has these slugs in the product.
pub(crate) fn owners_of(dialect: Dialect, slugs: Vec<String>) -> Statement {
    Statement::new(
        "SELECT b.slug AS slug, b.region_name AS region, b.organization_id AS organization_id FROM ",
    )
    .rows(dialect, "r", [("slug", Column::Texts(slugs))])
    .push(" JOIN sentry_organizationslugreservation b ON b.slug = r.slug")
}

/// The organizations that have these slugs in the product. The addresses of the regions are empty.
///
/// # Errors
/// If the database cannot be queried.
pub(crate) async fn resolved(db: &Db, slugs: Vec<String>) -> Result<Vec<ResolvedOrganization>, DbError> {
    let rows = db.fetch_all(owners_of(db.dialect(), slugs)).await?;
    let resolved = |row: &Row| {
        Ok(ResolvedOrganization {
            slug: row.text("slug")?,
            canonical_slug: row.text("slug")?,
            organization_id: row.int("organization_id")?,
            region: row.text("region")?,
            region_address: String::new(),
        })
    };
    rows.iter().map(resolved).collect()
}

/// Adds the owners that only the product knows.
pub(crate) fn add_owners(owners: &mut HashMap<String, Owner>, rows: &[Row]) -> Result<(), DbError> {
    for row in rows {
        let owner = Owner { region: row.text("region")?, organization_id: row.int("organization_id")? };
        owners.entry(row.text("slug")?).or_insert(owner);
    }
    Ok(())
}

/// The product's name for a region. If the region has not reported it since it was upgraded, it is the
/// region's own name, or the product's name of a single region if the region has the same database: then the
/// schema of the region exists there.
pub(super) fn region_name(statement: Statement, region: &str) -> Statement {
    statement
        .push(
            "(SELECT COALESCE(g.product_name, CASE WHEN EXISTS (SELECT 1 FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'causeway_region' \
             AND c.relname = 'causeway_migration') \
             AND NOT EXISTS (SELECT 1 FROM causeway_region o WHERE o.name <> g.name) \
             THEN '--monolith--' ELSE g.name END) \
             FROM causeway_region g WHERE g.name = ",
        )
        .arg(region)
        .push(")")
}

/// A statement that inserts the selected primary reservations of organizations of which the product has none. One whose
/// slug is another organization's in the product stays missing.
pub(super) fn missing(feed: &FeedTransaction<'_>, of: &Selection<'_>, now: DateTime<Utc>) -> Statement {
    let statement = Statement::new(
        "INSERT INTO sentry_organizationslugreservation AS b \
         (slug, organization_id, user_id, region_name, reservation_type, date_added) SELECT s.slug, s.organization_id, -1, ",
    );
    let statement = region_name(statement, feed.region()).push(", 0, ").arg(now).push(
        " FROM causeway_organization_slug_reservation s WHERE s.type = 'primary' \
         AND NOT EXISTS (SELECT 1 FROM sentry_organizationslugreservation o \
         WHERE o.organization_id = s.organization_id AND o.reservation_type = 0) AND ",
    );
    selected(statement, feed, of).push(" ON CONFLICT DO NOTHING")
}

/// Completes the condition of a statement: which reservations `s` it is about.
pub(super) fn selected(statement: Statement, feed: &FeedTransaction<'_>, of: &Selection<'_>) -> Statement {
    let dialect = feed.dialect();
    match of {
        Selection::Operation(operation_id, after, last) => statement
            .push("s.region = ")
            .arg(feed.region())
            .push(" AND s.operation_id = ")
            .arg(*operation_id)
            .push(" AND s.organization_id > ")
            .arg(*after)
            .push(" AND s.organization_id <= ")
            .arg(*last),
        Selection::Organizations(ids) => statement
            .push("s.organization_id IN (SELECT r.organization_id FROM ")
            .rows(dialect, "r", [("organization_id", Column::Ints(ids.to_vec()))])
            .push(") AND s.region")
            .push(EQUALS_WITHOUT_REGION_INDEX)
            .arg(feed.region()),
        Selection::Slug(slug) => {
            statement.push("s.region = ").arg(feed.region()).push(" AND s.slug = ").arg(*slug)
        }
    }
}

/// Appends messages to the workers: one for each row of the table `c`, which is still to be appended.
pub(super) fn messages(statement: Statement, category: i64, region: &str) -> Statement {
    let statement = statement
        .push(
            "INSERT INTO sentry_controloutbox (shard_scope, shard_identifier, object_identifier, category, scheduled_from, \
             scheduled_for, region_name) SELECT 0, c.organization_id, c.id, ",
        )
        .arg(category)
        .push(", ")
        .push(AT_ONCE)
        .push(", ")
        .push(AT_ONCE)
        .push(", ");
    region_name(statement, region).push(" FROM ")
}

/// Executes a statement that changes reservations `b` of the product, and announces each of them to its
/// workers.
async fn announce(feed: &mut FeedTransaction<'_>, change: Statement) -> Result<(), DbError> {
    let change = change.within("WITH changed AS (", " RETURNING b.id, b.organization_id) ");
    let statement = messages(change, SLUG_RESERVATION, feed.region()).push("changed c");
    feed.execute(statement).await.map(|_| ())
}
