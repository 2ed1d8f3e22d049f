//! The tables `causeway_audit`, `causeway_audit_seal`, `causeway_audit_unsealed` and `causeway_audit_state`. Both silos
//! have them.

use causeway_proto::{
    failure::{self, code_name},
    relocation::v1::ErrorReason,
};
use causeway_silo::{
    db::{Column, Db, DbError, Dialect, Row, Statement, Tx, count, time_text},
    transact,
};
use chrono::{DateTime, Utc};
use tonic::Code;
use uuid::Uuid;

use crate::{
    Call, Entry, Subject,
    chain::{Link, hash_of},
    entry::StoredLink,
};

/// What the service does by itself when it deletes old rows.
pub const DELETE: &str = "delete old entries";

/// How many rows one transaction seals or deletes.
pub const BATCH: i64 = 500;

/// Appends a row about the current call, which has changed `subject`. Call it in the transaction of the
/// change.
///
/// # Errors
/// If the database refuses.
pub async fn append(tx: &mut Tx, subject: &Subject, now: DateTime<Utc>) -> Result<(), DbError> {
    append_outcome(tx, subject, code_name(Code::Ok), "", now).await
}

/// Appends a row for each of several calls, which says that it has changed its subject. Call it in the transaction of
/// the changes.
///
/// # Errors
/// If the database refuses.
pub async fn append_each(
    tx: &mut Tx,
    calls: impl IntoIterator<Item = (Call, Subject)>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let calls = calls.into_iter();
    let entries =
        calls.map(|(call, subject)| (NewEntry::new(&call, subject, code_name(Code::Ok), "", now), 0));
    insert(tx, &entries.collect::<Vec<_>>()).await
}

/// Appends a row about the current call, which has failed for good. Call it in the transaction that records
/// the failure.
///
/// # Errors
/// If the database refuses.
pub async fn append_failure(
    tx: &mut Tx,
    subject: &Subject,
    reason: ErrorReason,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    append_outcome(tx, subject, code_name(failure::code(reason)), failure::reason_name(reason), now).await
}

async fn append_outcome(
    tx: &mut Tx,
    subject: &Subject,
    outcome: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let entry = NewEntry::new(&Call::current(), subject.clone(), outcome, reason, now);
    insert(tx, &[(entry, 0)]).await
}

/// A row that is not stored yet.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    pub(crate) call: Call,
    subject: Subject,
    outcome: String,
    reason: String,
    time: DateTime<Utc>,
}

impl NewEntry {
    pub(crate) fn new(
        call: &Call,
        subject: Subject,
        outcome: &str,
        reason: &str,
        time: DateTime<Utc>,
    ) -> Self {
        Self { call: call.clone(), subject, outcome: outcome.to_owned(), reason: reason.to_owned(), time }
    }
}

/// Stores rows, which are sealed later. The number with each row says how many calls before it have no row.
pub(crate) async fn insert(tx: &mut Tx, entries: &[(NewEntry, i64)]) -> Result<(), DbError> {
    if entries.is_empty() {
        return Ok(());
    }
    let ids = insert_rows(tx, entries).await?;
    let statement = Statement::new("INSERT INTO causeway_audit_unsealed (audit_id) SELECT r.id FROM ");
    let statement = statement.rows(tx.dialect(), "r", [("id", Column::Ints(ids))]);
    tx.execute(statement).await?;
    Ok(())
}

/// Stores rows, and returns their numbers.
async fn insert_rows(tx: &mut Tx, entries: &[(NewEntry, i64)]) -> Result<Vec<i64>, DbError> {
    let dialect = tx.dialect();
    let text =
        |of: fn(&NewEntry) -> String| Column::Texts(entries.iter().map(|(entry, _)| of(entry)).collect());
    let opt_id = |of: fn(&Subject) -> Option<Uuid>| {
        let ids = entries.iter().map(|(entry, _)| of(&entry.subject).map(|id| id.to_string()));
        Column::OptTexts(ids.collect())
    };
    let places = (0..entries.len()).map(count).collect::<Result<Vec<_>, _>>()?;
    // Times and ids come as text, and SQLite stores them so.
    let (time, id) = match dialect {
        Dialect::Postgres => (
            "CAST(r.time AS timestamptz)",
            ["request_id", "import_id", "operation_id"].map(|id| format!("CAST(r.{id} AS uuid)")),
        ),
        Dialect::Sqlite => {
            ("r.time", ["request_id", "import_id", "operation_id"].map(|id| format!("r.{id}")))
        }
    };
    let [request_id, import_id, operation_id] = id;
    let statement = Statement::new(
        "INSERT INTO causeway_audit (time, request_id, who, address, call, object, import_id, operation_id, outcome, \
         reason, left_out) SELECT ",
    )
    .push(&format!(
        "{time}, {request_id}, r.who, r.address, r.call, r.object, {import_id}, {operation_id}, r.outcome, r.reason, \
         r.left_out FROM "
    ))
    .rows(
        dialect,
        "r",
        [
            ("place", Column::Ints(places)),
            ("time", text(|entry| time_text(entry.time))),
            ("request_id", text(|entry| entry.call.request_id().to_string())),
            ("who", text(|entry| entry.call.who().to_owned())),
            ("address", text(|entry| entry.call.address().to_owned())),
            ("call", text(|entry| entry.call.name().to_owned())),
            ("object", text(|entry| entry.subject.object().to_owned())),
            ("import_id", opt_id(Subject::import_id)),
            ("operation_id", opt_id(Subject::operation_id)),
            ("outcome", text(|entry| entry.outcome.clone())),
            ("reason", text(|entry| entry.reason.clone())),
            ("left_out", Column::Ints(entries.iter().map(|(_, left_out)| *left_out).collect())),
        ],
    )
    .push(" ORDER BY r.place RETURNING id");
    let ids = tx.fetch_all(statement).await?;
    ids.iter().map(|row| row.int("id")).collect()
}

/// The columns of a row of `causeway_audit a`.
const COLUMNS: &str = "a.id, a.time, a.request_id, a.who, a.address, a.call, a.object, a.import_id, a.operation_id, \
     a.outcome, a.reason, a.left_out";

fn entry(row: &Row) -> Result<Entry, DbError> {
    Ok(Entry {
        id: row.int("id")?,
        time: row.time("time")?,
        request_id: row.uuid("request_id")?,
        who: row.text("who")?,
        address: row.text("address")?,
        call: row.text("call")?,
        object: row.text("object")?,
        import_id: row.opt_uuid("import_id")?,
        operation_id: row.opt_uuid("operation_id")?,
        outcome: row.text("outcome")?,
        reason: row.text("reason")?,
        left_out: row.int("left_out")?,
    })
}

fn link(position: i64, hash: &str) -> Result<Link, DbError> {
    let hash = hash_of(hash).ok_or_else(|| {
        DbError::inconsistent(format!(
            "the audit log has no hash at position {position}: `causeway audit verify` says more"
        ))
    })?;
    Ok(Link { position, hash })
}

/// Which rows to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time; up to the newest row if `None`.
    pub until: Option<DateTime<Utc>>,
    /// Of the caller with exactly this text; of all callers if `None`.
    pub who: Option<String>,
    /// About this object, or part of it if it is an import or operation.
    pub object: Option<String>,
    /// Of the call with this request id; of all calls if `None`.
    pub request_id: Option<Uuid>,
}

/// Rows that match, the newest first, each with its place in the chain if it has one. `after` is time and number of the
/// last row of the page before.
///
/// # Errors
/// If the database cannot be queried.
pub async fn list(
    db: &Db,
    filter: &Filter,
    after: Option<(DateTime<Utc>, i64)>,
    rows: i64,
) -> Result<Vec<(Entry, Option<StoredLink>)>, DbError> {
    let mut statement = Statement::new("SELECT ").push(COLUMNS).push(
        ", s.position, s.hash FROM causeway_audit a LEFT JOIN causeway_audit_seal s ON s.audit_id = a.id WHERE 1 = 1",
    );
    if let Some(since) = filter.since {
        statement = statement.push(" AND a.time >= ").arg(since);
    }
    if let Some(until) = filter.until {
        statement = statement.push(" AND a.time < ").arg(until);
    }
    if let Some(who) = &filter.who {
        statement = statement.push(" AND a.who = ").arg(who);
    }
    if let Some(object) = &filter.object {
        statement = statement.push(" AND (a.object = ").arg(object);
        let id = |prefix| object.strip_prefix(prefix).and_then(|id| Uuid::try_parse(id).ok());
        if let Some(id) = id("import/") {
            statement = statement.push(" OR a.import_id = ").arg(id);
        } else if let Some(id) = id("operation/") {
            statement = statement.push(" OR a.operation_id = ").arg(id);
        }
        statement = statement.push(")");
    }
    if let Some(id) = filter.request_id {
        statement = statement.push(" AND a.request_id = ").arg(id);
    }
    if let Some((time, id)) = after {
        statement = statement.push(" AND (a.time, a.id) < (").arg(time).push(", ").arg(id).push(")");
    }
    let statement = statement.push(" ORDER BY a.time DESC, a.id DESC LIMIT ").arg(rows);
    let listed = |row: &Row| {
        let place = match (row.opt_int("position")?, row.opt_text("hash")?) {
            (Some(position), Some(hash)) => Some(StoredLink { position, hash }),
            _ => None,
        };
        Ok((entry(row)?, place))
    };
    db.fetch_all(statement).await?.iter().map(listed).collect()
}

/// The last position that was deleted because of its age.
///
/// # Errors
/// If the database cannot be queried.
pub async fn base(db: &Db) -> Result<Link, DbError> {
    let row = db.fetch_optional(Statement::new(BASE)).await?;
    base_of(&row.ok_or_else(|| DbError::inconsistent("causeway_audit_state has no row"))?)
}

const BASE: &str = "SELECT base_position, base_hash FROM causeway_audit_state WHERE id = 1";

fn base_of(row: &Row) -> Result<Link, DbError> {
    link(row.int("base_position")?, &row.text("base_hash")?)
}

/// A position of the chain as the database has it: its hash as text, and its row if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The position in the chain, counted from 1.
    pub position: i64,
    /// The hash, which is 64 hex digits if nobody has changed it.
    pub hash: String,
    /// The row of the log at this position; `None` if somebody has deleted it.
    pub entry: Option<Entry>,
}

/// The chain after a position, in ascending order.
///
/// # Errors
/// If the database cannot be queried.
pub async fn seals(db: &Db, after: i64, rows: i64) -> Result<Vec<Sealed>, DbError> {
    let statement = Statement::new("SELECT s.position, s.hash, a.id AS found, ")
        .push(COLUMNS)
        .push(
            " FROM causeway_audit_seal s LEFT JOIN causeway_audit a ON a.id = s.audit_id WHERE s.position > ",
        )
        .arg(after)
        .push(" ORDER BY s.position LIMIT ")
        .arg(rows);
    let sealed = |row: &Row| {
        let entry = match row.opt_int("found")? {
            Some(_) => Some(entry(row)?),
            None => None,
        };
        Ok(Sealed { position: row.int("position")?, hash: row.text("hash")?, entry })
    };
    db.fetch_all(statement).await?.iter().map(sealed).collect()
}

/// How many rows are to be sealed, and how many are neither sealed nor to be.
///
/// # Errors
/// If the database cannot be queried.
pub async fn unsealed(db: &Db) -> Result<(i64, i64), DbError> {
    let statement = Statement::new(
        "SELECT count(u.audit_id) AS waiting, count(*) - count(u.audit_id) AS loose FROM causeway_audit a \
         LEFT JOIN causeway_audit_unsealed u ON u.audit_id = a.id \
         WHERE NOT EXISTS (SELECT 1 FROM causeway_audit_seal s WHERE s.audit_id = a.id)",
    );
    match db.fetch_optional(statement).await? {
        Some(row) => Ok((row.int("waiting")?, row.int("loose")?)),
        None => Ok((0, 0)),
    }
}

/// Locks the state: until the transaction ends, nobody else adds to the chain or deletes from it. Returns where the
/// chain begins.
async fn lock(tx: &mut Tx) -> Result<Link, DbError> {
    let mut statement = Statement::new(BASE);
    if tx.dialect() == Dialect::Postgres {
        // The lock is all that this transaction needs. With a stricter isolation, it would lose against those who
        // append rows, or they against it.
        tx.execute(Statement::new("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")).await?;
        statement = statement.push(" FOR UPDATE");
    }
    base_of(&tx.fetch_one(statement).await?)
}

/// Adds rows that are committed to the chain, at most [`BATCH`]. Returns how many it has added. Several processes may
/// do this at once.
///
/// # Errors
/// If the database fails.
pub async fn seal(db: &Db) -> Result<i64, DbError> {
    let any = Statement::new("SELECT audit_id FROM causeway_audit_unsealed LIMIT 1");
    if db.fetch_optional(any).await?.is_none() {
        return Ok(0);
    }
    transact!(DbError, db, |tx| {
        let base = lock(tx).await?;
        let mut head = head_of(tx, base).await?;
        let statement = Statement::new("SELECT ")
            .push(COLUMNS)
            .push(
                " FROM causeway_audit_unsealed u JOIN causeway_audit a ON a.id = u.audit_id ORDER BY u.audit_id LIMIT ",
            )
            .arg(BATCH);
        let rows = tx.fetch_all(statement).await?;
        let (mut positions, mut ids, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let entry = entry(row)?;
            head = next(head, &entry)?;
            positions.push(head.position);
            ids.push(entry.id);
            hashes.push(hex::encode(head.hash));
        }
        let count = causeway_silo::db::count(ids.len())?;
        if count > 0 {
            let dialect = tx.dialect();
            let statement = Statement::new(
                "INSERT INTO causeway_audit_seal (position, audit_id, hash) SELECT r.position, r.id, r.hash FROM ",
            )
            .rows(
                dialect,
                "r",
                [
                    ("position", Column::Ints(positions)),
                    ("id", Column::Ints(ids.clone())),
                    ("hash", Column::Texts(hashes)),
                ],
            );
            tx.execute(statement).await?;
            let statement =
                Statement::new("DELETE FROM causeway_audit_unsealed WHERE audit_id IN (SELECT r.id FROM ")
                    .rows(dialect, "r", [("id", Column::Ints(ids))])
                    .push(")");
            tx.execute(statement).await?;
        }
        count
    })
}

/// The end of a chain that begins after `base`.
async fn head_of(tx: &mut Tx, base: Link) -> Result<Link, DbError> {
    let last = "SELECT position, hash FROM causeway_audit_seal ORDER BY position DESC LIMIT 1";
    match tx.fetch_optional(Statement::new(last)).await? {
        Some(row) => link(row.int("position")?, &row.text("hash")?),
        None => Ok(base),
    }
}

/// The place of a row after `head`.
fn next(head: Link, entry: &Entry) -> Result<Link, DbError> {
    let position = head.position.checked_add(1).ok_or_else(|| {
        DbError::inconsistent("the audit log has no further position: `causeway audit verify` says more")
    })?;
    Ok(Link { position, hash: entry.hash(&head.hash, position) })
}

/// Whether the chain says that it begins after `base`. If it does not, somebody else has moved the beginning, and a new
/// row about it would hide that.
async fn has_recorded(tx: &mut Tx, base: Link) -> Result<bool, DbError> {
    let statement = Statement::new(
        "SELECT 1 AS one FROM causeway_audit a JOIN causeway_audit_seal s ON s.audit_id = a.id \
         WHERE a.object = $1 AND a.call = $2 LIMIT 1",
    )
    .with(Subject::beginning(base).object())
    .with(DELETE);
    Ok(tx.fetch_optional(statement).await?.is_some())
}

/// Writes into the chain itself that it begins after `base` from now on: whoever moves the beginning in the database
/// would have to write such a row as well. It does not wait to be sealed, so that each state of the database has the
/// row about its own beginning.
async fn record_beginning(
    tx: &mut Tx,
    head: Link,
    base: Link,
    call: &Call,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let new = NewEntry::new(call, Subject::beginning(base), code_name(Code::Ok), "", now);
    let [id] = insert_rows(tx, &[(new, 0)]).await?[..] else {
        return Err(DbError::inconsistent("one row of the audit log became several"));
    };
    let statement =
        Statement::new("SELECT ").push(COLUMNS).push(" FROM causeway_audit a WHERE a.id = ").arg(id);
    let sealed = next(head, &entry(&tx.fetch_one(statement).await?)?)?;
    let statement =
        Statement::new("INSERT INTO causeway_audit_seal (position, audit_id, hash) VALUES ($1, $2, $3)")
            .with(sealed.position)
            .with(id)
            .with(hex::encode(sealed.hash));
    tx.execute(statement).await?;
    Ok(())
}

/// Deletes the oldest rows of the chain that are older than `horizon`, at most [`BATCH`], lets the chain begin after
/// them, and adds a row that says so. Returns how many it has deleted. `call` is the work of the service, called [`DELETE`].
///
/// # Errors
/// If the database fails, or a row is gone that the chain has.
pub async fn delete_older(
    db: &Db,
    horizon: DateTime<Utc>,
    call: &Call,
    now: DateTime<Utc>,
) -> Result<i64, DbError> {
    let oldest = "SELECT a.time FROM causeway_audit_seal s JOIN causeway_audit a ON a.id = s.audit_id \
                  ORDER BY s.position LIMIT 1";
    match db.fetch_optional(Statement::new(oldest)).await? {
        Some(row) if row.time("time")? < horizon => {}
        _ => return Ok(0),
    }
    transact!(DbError, db, |tx| {
        let base = lock(tx).await?;
        if base.position > 0 && !has_recorded(tx, base).await? {
            return Err(DbError::inconsistent(format!(
                "the audit log does not say that it begins after position {}: `causeway audit verify` says more",
                base.position
            )));
        }
        let statement = Statement::new(
            "SELECT s.position, s.hash, a.time FROM causeway_audit_seal s \
             LEFT JOIN causeway_audit a ON a.id = s.audit_id ORDER BY s.position LIMIT ",
        )
        .arg(BATCH);
        let mut last = base;
        for row in tx.fetch_all(statement).await? {
            let position = row.int("position")?;
            if last.position.checked_add(1) != Some(position) {
                return Err(DbError::inconsistent(format!(
                    "the audit log lacks what follows position {}: `causeway audit verify` says more",
                    last.position
                )));
            }
            let time = row.opt_time("time")?.ok_or_else(|| {
                DbError::inconsistent(format!(
                    "the audit log lacks the entry at position {position}: `causeway audit verify` says more"
                ))
            })?;
            if time >= horizon {
                break;
            }
            last = link(position, &row.text("hash")?)?;
        }
        if last.position > base.position {
            let head = head_of(tx, base).await?;
            record_beginning(tx, head, last, call, now).await?;
            let statement = Statement::new(
                "UPDATE causeway_audit_state SET base_position = $1, base_hash = $2 WHERE id = 1",
            )
            .with(last.position)
            .with(hex::encode(last.hash));
            tx.execute(statement).await?;
            let statement = Statement::new(
                "DELETE FROM causeway_audit WHERE id IN \
                 (SELECT s.audit_id FROM causeway_audit_seal s WHERE s.position <= $1)",
            )
            .with(last.position);
            tx.execute(statement).await?;
            let statement =
                Statement::new("DELETE FROM causeway_audit_seal WHERE position <= $1").with(last.position);
            tx.execute(statement).await?;
        }
        last.position - base.position
    })
}
