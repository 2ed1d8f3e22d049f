//! The table `causeway_region`: the regions that have registered.

use causeway_silo::db::{Db, DbError, Row, Statement, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::added_region::suspension;
use crate::model::region::{Caller, KnownRegion, Region};

/// Everything that control knows of regions.
const KNOWN: &str = "SELECT a.name, a.added_at, a.added_by, a.suspended_at, a.suspended_by, a.suspension_text, \
    r.address, r.created_at, r.last_seen_at, r.last_contact_at, r.identity, r.certificate_end, \
    f.version AS feed_version, \
    EXISTS (SELECT 1 FROM causeway_region_id_conflict c WHERE c.region = a.name) AS has_id_conflicts FROM causeway_added_region a LEFT JOIN causeway_region r ON r.name = a.name \
    LEFT JOIN causeway_feed f ON f.region = a.name";

fn known(row: &Row) -> Result<KnownRegion, DbError> {
    let registered = match row.opt_text("address")? {
        None => None,
        Some(address) => Some(Region {
            name: row.text("name")?,
            address,
            created_at: row.time("created_at")?,
            last_seen_at: row.time("last_seen_at")?,
            last_contact_at: row.opt_time("last_contact_at")?,
            identity: row.opt_text("identity")?,
            certificate_end: row.opt_time("certificate_end")?,
        }),
    };
    Ok(KnownRegion {
        name: row.text("name")?,
        added_at: row.time("added_at")?,
        added_by: row.opt_text("added_by")?,
        suspension: suspension(row)?,
        registered,
        feed_version: row.opt_int("feed_version")?,
        has_id_conflicts: row.bool("has_id_conflicts")?,
    })
}

/// What a region registers with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registering<'a> {
    /// The name of the region: 1 to 32 lowercase letters, digits and hyphens.
    pub(crate) name: &'a str,
    /// The URL at which its users reach it.
    pub(crate) address: &'a str,
    /// The id of its database.
    pub(crate) instance_id: Uuid,
    /// What the product calls it; empty if it was not given.
    pub(crate) product_name: &'a str,
    /// The caller, whose identity and certificate are stored with the region.
    pub(crate) caller: &'a Caller,
}

/// What becomes of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It is stored. Regions register again and again, mostly without a change but of the time.
    Done {
        /// Whether anything but times has changed.
        changed: bool,
    },
    /// The name belongs to another database, and this one may not take it over.
    OtherDatabase,
    /// The address is another one, and only this identity may change it.
    OtherIdentity(String),
}

/// What is stored of a region that registers again.
struct Stored {
    address: String,
    instance_id: Uuid,
    product_name: Option<String>,
    identity: Option<String>,
    taken_over_by: Option<String>,
}

/// Stores the first registration of a region, or updates an earlier one if the caller may do that.
pub(crate) async fn register(
    tx: &mut Tx,
    region: Registering<'_>,
    now: DateTime<Utc>,
) -> Result<Registered, DbError> {
    let Registering { name, address, instance_id, product_name, caller } = region;
    let insert = Statement::new(
        "INSERT INTO causeway_region (name, address, instance_id, product_name, created_at, last_seen_at, \
         last_contact_at, identity, certificate_end) VALUES ($1, $2, $3, NULLIF($4, ''), $5, $5, $5, $6, $7) \
         ON CONFLICT (name) DO NOTHING",
    )
    .with(name)
    .with(address)
    .with(instance_id)
    .with(product_name)
    .with(now)
    .with(caller.identity.clone())
    .with(caller.certificate_end);
    if tx.execute(insert).await? == 1 {
        return Ok(Registered::Done { changed: true });
    }
    let stored = lock(tx, name).await?;
    let is_same_database = stored.instance_id == instance_id;
    let may_take_over =
        stored.taken_over_by.as_ref().is_some_and(|by| by == "*" || *by == instance_id.to_string());
    if !is_same_database && !may_take_over {
        return Ok(Registered::OtherDatabase);
    }
    let other = match (&stored.identity, &caller.identity) {
        (Some(known), Some(identity)) if known != identity => Some(known),
        _ => None,
    };
    if let Some(known) = other
        && stored.address != address
        && !may_take_over
    {
        return Ok(Registered::OtherIdentity(known.clone()));
    }
    let takes_over = !is_same_database || (other.is_some() && may_take_over);
    let (identity, taken_over_by) = match takes_over {
        true => (caller.identity.clone(), None),
        false => (stored.identity.clone().or_else(|| caller.identity.clone()), stored.taken_over_by.clone()),
    };
    let changed = !is_same_database
        || stored.address != address
        || stored.identity != identity
        || stored.taken_over_by != taken_over_by
        || (!product_name.is_empty() && stored.product_name.as_deref() != Some(product_name));
    let update = Statement::new(
        "UPDATE causeway_region SET address = $2, instance_id = $3, \
         product_name = COALESCE(NULLIF($4, ''), product_name), last_seen_at = $5, last_contact_at = $5, \
         identity = $6, certificate_end = $7, taken_over_by = $8 WHERE name = $1",
    )
    .with(name)
    .with(address)
    .with(instance_id)
    .with(product_name)
    .with(now)
    .with(identity)
    .with(caller.certificate_end)
    .with(taken_over_by);
    tx.execute(update).await?;
    Ok(Registered::Done { changed })
}

/// Reads and locks a region that has registered.
async fn lock(tx: &mut Tx, name: &str) -> Result<Stored, DbError> {
    // An update that changes nothing is a lock in both databases.
    let statement = Statement::new(
        "UPDATE causeway_region SET name = name WHERE name = $1 \
         RETURNING address, instance_id, product_name, identity, taken_over_by",
    )
    .with(name);
    let row = tx.fetch_one(statement).await?;
    Ok(Stored {
        address: row.text("address")?,
        instance_id: row.uuid("instance_id")?,
        product_name: row.opt_text("product_name")?,
        identity: row.opt_text("identity")?,
        taken_over_by: row.opt_text("taken_over_by")?,
    })
}

/// The least time between two notes that a region has been heard from.
pub(crate) const NOTE_CONTACT: TimeDelta = TimeDelta::seconds(10);

/// Notes that a region has been heard from, unless that was noted less than [`NOTE_CONTACT`] ago.
pub(crate) async fn note_contact(tx: &mut Tx, name: &str, now: DateTime<Utc>) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_region SET last_contact_at = $2 \
         WHERE name = $1 AND (last_contact_at IS NULL OR last_contact_at <= $3)",
    )
    .with(name)
    .with(now)
    .with(now - NOTE_CONTACT);
    tx.execute(statement).await.map(|_| ())
}

/// Lets another instance take over the name of a region: `instance_id`, or if that is `None`, the first one that
/// registers. Returns `false` if no region of that name has registered.
pub(crate) async fn allow_take_over(
    tx: &mut Tx,
    name: &str,
    instance_id: Option<Uuid>,
) -> Result<bool, DbError> {
    let statement = Statement::new("UPDATE causeway_region SET taken_over_by = $2 WHERE name = $1")
        .with(name)
        .with(instance_id.map_or_else(|| "*".to_owned(), |id| id.to_string()));
    Ok(tx.execute(statement).await? == 1)
}

fn one(name: &str) -> Statement {
    Statement::new(KNOWN).push(" WHERE a.name = ").arg(name)
}

/// Reads one region; `None` if nobody has added one of that name.
pub(crate) async fn get(db: &Db, name: &str) -> Result<Option<KnownRegion>, DbError> {
    db.fetch_optional(one(name)).await?.as_ref().map(known).transpose()
}

/// The same as this transaction sees it.
pub(crate) async fn get_in(tx: &mut Tx, name: &str) -> Result<Option<KnownRegion>, DbError> {
    tx.fetch_optional(one(name)).await?.as_ref().map(known).transpose()
}

/// Whether the database of a region has this instance id; `None` if there is no such region.
pub(crate) async fn is_instance(db: &Db, name: &str, instance_id: Uuid) -> Result<Option<bool>, DbError> {
    let statement = Statement::new("SELECT instance_id FROM causeway_region WHERE name = $1").with(name);
    let Some(row) = db.fetch_optional(statement).await? else { return Ok(None) };
    Ok(Some(row.uuid("instance_id")? == instance_id))
}

/// Regions after `after`, sorted by name.
pub(crate) async fn list(db: &Db, after: Option<&str>, rows: i64) -> Result<Vec<KnownRegion>, DbError> {
    let statement = Statement::new(KNOWN)
        .push(" WHERE a.name > ")
        .arg(after.unwrap_or_default())
        .push(" ORDER BY a.name LIMIT ")
        .arg(rows);
    db.fetch_all(statement).await?.iter().map(known).collect()
}
