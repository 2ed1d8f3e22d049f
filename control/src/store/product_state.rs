//! What the product's own tables have of organizations, for a comparison with what they should have; and how what is
//! missing is written again.

use std::collections::BTreeMap;

use causeway_silo::db::{Column, Db, DbError, Row, Statement, digest_of};
use chrono::{DateTime, Utc};

use super::{
    feed_transaction::FeedTransaction,
    product_db::{AUTH_TOKEN, SLUG_RESERVATION, messages, missing, region_name, selected},
    product_tables::{ProductDb, existing, worker_tables},
};
use crate::model::{
    directory::{ProductMapping, ProductRows, ProductState},
    reservation::Selection,
};

/// The tables that the workers keep up to date from messages of regions. Without them there is nothing to compare.
const MAPPINGS: [&str; 2] = ["sentry_organizationmapping", "sentry_organizationmembermapping"];

/// Rows of an organization that are compared with those of the region.
struct Compared {
    name: &'static str,
    table: &'static str,
    /// The columns that are compared, in the order in which the region compares its own.
    columns: &'static [&'static str],
    /// Which rows of the table.
    condition: &'static str,
}

/// Those that the workers keep up to date, and the auth tokens, which they copy into the region.
const COMPARED: [Compared; 4] = [
    Compared {
        name: "members",
        table: "sentry_organizationmembermapping",
        columns: &["n.organizationmember_id", "n.user_id", "n.role"],
        condition: " AND n.organizationmember_id IS NOT NULL",
    },
    Compared { name: "teams", table: "sentry_teamreplica", columns: &["n.team_id", "n.slug"], condition: "" },
    Compared {
        name: "team_members",
        table: "sentry_organizationmember_teamsreplica",
        columns: &[
            "n.organizationmemberteam_id",
            "n.team_id",
            "n.organizationmember_id",
            "n.is_active",
            "n.role",
        ],
        condition: "",
    },
    Compared {
        name: "tokens",
        table: "sentry_orgauthtoken",
        columns: &["n.id", "n.token_hashed"],
        condition: "",
    },
];

impl ProductDb {
    /// What the product has of these organizations of a region; nothing if it is too old to have mappings.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn state(
        &self,
        db: &Db,
        region: &str,
        organization_ids: Vec<i64>,
    ) -> Result<BTreeMap<i64, ProductState>, DbError> {
        let worker_tables = existing(&db.fetch_all(worker_tables()).await?)?;
        if !MAPPINGS.iter().all(|table| worker_tables.contains(table)) {
            return Ok(BTreeMap::new());
        }
        let is_there =
            |compared: &&Compared| compared.name == "tokens" || worker_tables.contains(&compared.table);
        let compared: Vec<&Compared> = COMPARED.iter().filter(is_there).collect();
        let mut statement = region_name(Statement::new("WITH here AS (SELECT "), region).push(
            " AS name) SELECT r.organization_id, b.slug, NULLIF(b.region_name, here.name) AS other_region, \
             m.slug AS mapped_slug, m.name AS mapped_name, CAST(m.status AS bigint) AS mapped_status, \
             NULLIF(m.region_name, here.name) AS mapped_region, EXISTS (SELECT 1 FROM sentry_controloutbox o \
             WHERE o.region_name = here.name AND o.shard_scope = 0 AND o.shard_identifier = r.organization_id) AS waiting",
        );
        for Compared { name, .. } in &compared {
            statement =
                statement.push(&format!(", {name}.count AS {name}_count, {name}.digest AS {name}_digest"));
        }
        let statement = statement.push(" FROM ");
        let mut statement =
            statement.rows(db.dialect(), "r", [("organization_id", Column::Ints(organization_ids))]).push(
                " CROSS JOIN here \
                 LEFT JOIN sentry_organizationslugreservation b ON b.organization_id = r.organization_id \
                 AND b.reservation_type = 0 \
                 LEFT JOIN sentry_organizationmapping m ON m.organization_id = r.organization_id",
            );
        for Compared { name, table, columns, condition } in &compared {
            statement = statement.push(&format!(
                " CROSS JOIN LATERAL (SELECT {} FROM {table} n WHERE n.organization_id = r.organization_id{condition}) {name}",
                digest_of(columns)
            ));
        }
        let rows = |row: &Row, name: &str| {
            if !compared.iter().any(|compared| compared.name == name) {
                return Ok(None);
            }
            let (count, digest) = (row.int(&format!("{name}_count"))?, row.text(&format!("{name}_digest"))?);
            Ok::<_, DbError>(Some(ProductRows { count, digest }))
        };
        let state = |row: &Row| {
            let mapping = row.opt_text("mapped_slug")?.map(|slug| -> Result<_, DbError> {
                Ok(ProductMapping {
                    slug,
                    name: row.text("mapped_name")?,
                    status: row.opt_int("mapped_status")?,
                    other_region: row.opt_text("mapped_region")?,
                })
            });
            let state = ProductState {
                slug: row.opt_text("slug")?,
                other_region: row.opt_text("other_region")?,
                waiting: row.bool("waiting")?,
                mapping: mapping.transpose()?,
                members: rows(row, "members")?,
                teams: rows(row, "teams")?,
                team_members: rows(row, "team_members")?,
                tokens: rows(row, "tokens")?,
            };
            Ok((row.int("organization_id")?, state))
        };
        db.fetch_all(statement).await?.iter().map(state).collect()
    }

    /// The slug to which the product itself is renaming an organization; `None` if it is not. The product allows one rename
    /// at a time.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn renaming(
        &self,
        feed: &mut FeedTransaction<'_>,
        organization_id: i64,
    ) -> Result<Option<String>, DbError> {
        let statement = Statement::new(
            "SELECT b.slug FROM sentry_organizationslugreservation b WHERE b.organization_id = $1 AND b.reservation_type = 1 \
             AND NOT EXISTS (SELECT 1 FROM causeway_organization_slug_reservation s \
             WHERE s.slug = b.slug AND s.organization_id = b.organization_id)",
        );
        let row = feed.fetch_optional(statement.with(organization_id)).await?;
        row.map(|row| row.text("slug")).transpose()
    }

    /// Writes the primary reservations of organizations where the product has none or has them for another region, and
    /// announces all of them, and their auth tokens. Returns the organizations of which the product still has none, and who has their slugs there.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn restore(
        &self,
        feed: &mut FeedTransaction<'_>,
        organization_ids: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<TakenInProduct>, DbError> {
        let of = Selection::Organizations(organization_ids);
        let ours = " FROM causeway_organization_slug_reservation s WHERE b.organization_id = s.organization_id \
                    AND b.slug = s.slug AND s.type = 'primary'";
        let moved = Statement::new("UPDATE sentry_organizationslugreservation b SET region_name = ");
        let moved = region_name(moved, feed.region()).push(ours).push(" AND b.region_name <> ");
        let moved = region_name(moved, feed.region()).push(" AND ");
        let primary = Statement::new("UPDATE sentry_organizationslugreservation b SET reservation_type = 0")
            .push(ours)
            .push(
                " AND NOT EXISTS (SELECT 1 FROM sentry_organizationslugreservation o \
                 WHERE o.organization_id = s.organization_id AND o.reservation_type = 0) AND ",
            );
        let announced = messages(Statement::new(""), SLUG_RESERVATION, feed.region()).push(
            "sentry_organizationslugreservation c JOIN causeway_organization_slug_reservation s \
             ON s.organization_id = c.organization_id AND s.slug = c.slug WHERE s.type = 'primary' AND ",
        );
        let (moved, primary) = (selected(moved, feed, &of), selected(primary, feed, &of));
        let (missing, announced) = (missing(feed, &of, now), selected(announced, feed, &of));
        // What the workers copy into the region besides.
        let tokens =
            messages(Statement::new(""), AUTH_TOKEN, feed.region()).push("sentry_orgauthtoken c JOIN ");
        let tokens = tokens
            .rows(feed.dialect(), "r", [("organization_id", Column::Ints(organization_ids.to_vec()))])
            .push(" ON r.organization_id = c.organization_id");
        for statement in [moved, primary, missing, announced, tokens] {
            feed.execute(statement).await?;
        }
        let left = Statement::new(
            "SELECT s.organization_id, s.slug, t.organization_id AS owner, t.region_name AS region \
             FROM causeway_organization_slug_reservation s \
             JOIN sentry_organizationslugreservation t ON t.slug = s.slug AND t.organization_id <> s.organization_id \
             WHERE s.type = 'primary' AND NOT EXISTS (SELECT 1 FROM sentry_organizationslugreservation b \
             WHERE b.organization_id = s.organization_id AND b.reservation_type = 0) AND ",
        );
        let left = selected(left, feed, &of);
        let taken = |row: &Row| {
            Ok(TakenInProduct {
                organization_id: row.int("organization_id")?,
                slug: row.text("slug")?,
                owner: row.int("owner")?,
                region: row.text("region")?,
            })
        };
        feed.fetch_all(left).await?.iter().map(taken).collect()
    }
}

/// A slug of an organization that the product has reserved for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenInProduct {
    /// The organization that has it at control.
    pub(crate) organization_id: i64,
    /// The slug, which control has for one organization and the product for the other.
    pub(crate) slug: String,
    /// The organization that has it in the product.
    pub(crate) owner: i64,
    /// The region of the organization that has it, as the product calls it.
    pub(crate) region: String,
}
