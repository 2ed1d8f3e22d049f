//! `causeway_import`: one row for each import, with its parameters, its state and its lease.

use std::collections::BTreeSet;

use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::{
    db::{Column, Db, DbError, Dialect, Row, Statement, Tx, count},
    page::PageRequest,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{lease::no_lease, lease_transaction::LeaseTransaction};
use crate::{
    import::{Approved, Begun, Failure, Import, ImportState, Lease, Parameters, Pause, Waiting},
    limits::ControlBatch,
};

/// Assignments that forget what an import waited for.
macro_rules! no_waiting {
    () => {
        "waiting_reason = NULL, waiting_message = NULL, waiting_since = NULL, waiting_attempts = NULL"
    };
}
pub(super) use no_waiting;

fn unreadable(what: impl std::fmt::Display) -> DbError {
    DbError::inconsistent(format!("a row of causeway_import: {what}"))
}

fn reason(name: &str) -> Result<ErrorReason, DbError> {
    ErrorReason::from_str_name(name).ok_or_else(|| unreadable(format!("unknown reason {name}")))
}

fn state(name: &str) -> Result<ImportState, DbError> {
    ImportState::from_name(name).ok_or_else(|| unreadable(format!("unknown state {name}")))
}

fn filter_text(filter: Option<&BTreeSet<String>>) -> Result<Option<String>, DbError> {
    filter.map(serde_json::to_string).transpose().map_err(unreadable)
}

fn filter_slugs(parameters: &Parameters) -> Result<Option<i64>, DbError> {
    parameters.filter.as_ref().map(|slugs| count(slugs.len())).transpose()
}

/// A size that is stored as a number above zero.
fn size(row: &Row, column: &str) -> Result<u32, DbError> {
    let stored = row.int(column)?;
    let size = u32::try_from(stored).ok().filter(|size| *size > 0);
    size.ok_or_else(|| unreadable(format!("{column} is {stored}")))
}

fn read(row: &Row) -> Result<Import, DbError> {
    let filter: Option<String> = row.opt_text("filter")?;
    let waiting = match row.opt_text("waiting_reason")? {
        None => None,
        Some(name) => Some(Waiting {
            reason: reason(&name)?,
            message: row.text("waiting_message")?,
            since: row.time("waiting_since")?,
            attempts: row.int("waiting_attempts")?,
        }),
    };
    let failure = match row.opt_text("failure_reason")? {
        None => None,
        Some(name) => Some(Failure {
            reason: reason(&name)?,
            message: row.text("failure_message")?,
            state: state(&row.text("failure_state")?)?,
        }),
    };
    let lease = match row.opt_uuid("lease_holder")? {
        None => None,
        Some(holder) => Some(Lease {
            holder,
            place: row.text("lease_place")?,
            acquired_at: row.time("lease_acquired_at")?,
            renewed_at: row.time("lease_renewed_at")?,
            until: row.time("lease_until")?,
        }),
    };
    let pause = match row.opt_time("paused_at")? {
        None => None,
        Some(since) => Some(Pause { since, by: row.opt_text("paused_by")? }),
    };
    Ok(Import {
        id: row.uuid("import_id")?,
        state: state(&row.text("state")?)?,
        parameters: Parameters {
            filter: filter.map(|json| serde_json::from_str(&json)).transpose().map_err(unreadable)?,
            merge_users: row.bool("merge_users")?,
            hide_organizations: row.bool("hide_organizations")?,
            dry_run: row.bool("dry_run")?,
        },
        filter_slugs: row.opt_int("filter_slugs")?,
        size_bytes: row.int("size_bytes")?,
        sha256: row.text("sha256")?,
        upload_sha256: row.text("upload_sha256")?,
        encrypted: row.bool("encrypted")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        ended_at: row.opt_time("ended_at")?,
        records: row.int("records")?,
        planned_for: row.opt_text("planned_for")?,
        slug_attempt: row.int("slug_attempt")?,
        slugs_written: row.bool("slugs_written")?,
        reported: row.bool("reported")?,
        organization_count: row.int("organization_count")?,
        waiting,
        failure,
        lease,
        spool_id: row.opt_uuid("spool_id")?,
        resumes: row.int("resumes")?,
        approvals: row.int("approvals")?,
        begun_by: row.opt_text("begun_by")?,
        pause,
        control_batch: ControlBatch {
            records: size(row, "control_batch_records")?,
            bytes: size(row, "control_batch_bytes")?,
        },
    })
}

/// The columns that [`read`] reads and the number of organizations, without the filter.
macro_rules! columns {
    () => {
        "SELECT i.import_id, i.state, i.merge_users, i.hide_organizations, i.dry_run, i.filter_slugs, i.size_bytes, \
         i.sha256, i.upload_sha256, i.encrypted, i.created_at, i.updated_at, i.records, i.planned_for, i.slug_attempt, \
         i.slugs_written, i.reported, i.waiting_reason, i.waiting_message, i.waiting_since, i.waiting_attempts, \
         i.failure_reason, i.failure_message, i.failure_state, i.lease_holder, i.lease_place, i.lease_acquired_at, \
         i.lease_renewed_at, i.lease_until, i.spool_id, i.resumes, i.approvals, i.begun_by, i.paused_at, i.paused_by, \
         i.control_batch_records, i.control_batch_bytes, i.ended_at, \
         (SELECT count(*) FROM causeway_import_organization o WHERE o.import_id = i.import_id) AS organization_count, "
    };
}

/// Reads imports with all columns; a caller appends the condition.
const SELECT: &str = concat!(columns!(), "i.filter FROM causeway_import i");
/// Reads imports without their filters, each of which may be a megabyte.
const SELECT_WITHOUT_FILTER: &str =
    concat!(columns!(), "CAST(NULL AS text) AS filter FROM causeway_import i");

/// The import with this id, in any state.
pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<Import>, DbError> {
    db.fetch_optional(Statement::new(SELECT).push(" WHERE i.import_id = ").arg(id))
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// Who began an import, in any state: the outer `None` if there is no such import.
pub(crate) async fn begun_by(db: &Db, id: Uuid) -> Result<Option<Option<String>>, DbError> {
    let statement = Statement::new("SELECT begun_by FROM causeway_import WHERE import_id = $1").with(id);
    db.fetch_optional(statement).await?.map(|row| row.opt_text("begun_by")).transpose()
}

/// Imports without their filters, the newest first, except those whose file is still being sent: all, or those that
/// somebody began. The page key is creation time and id.
pub(crate) async fn list(
    db: &Db,
    begun_by: Option<&str>,
    page: &PageRequest<(DateTime<Utc>, Uuid)>,
) -> Result<Vec<Import>, DbError> {
    let mut statement =
        Statement::new(SELECT_WITHOUT_FILTER).push(" WHERE state <> ").arg(ImportState::Receiving.name());
    if let Some(begun_by) = begun_by {
        statement = statement.push(" AND begun_by = ").arg(begun_by);
    }
    if let Some((created_at, id)) = page.after {
        statement =
            statement.push(" AND (created_at, import_id) < (").arg(created_at).push(", ").arg(id).push(")");
    }
    let statement = statement.push(" ORDER BY created_at DESC, import_id DESC LIMIT ").arg(page.rows());
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// The condition that an import has not ended, or has not been reported. Word for word that of the index
/// `causeway_import_unfinished_idx`: SQLite uses the index only for a condition that is written as in the index.
const UNFINISHED: &str = "state IN ('planning', 'writing', 'resolving_slugs', 'finishing', 'checking', 'reverting') \
                          OR (state = 'succeeded' AND NOT reported)";

/// Imports without their filters that have changed since a time, and those that have not ended: at most `most`, those
/// that changed last. Imports whose file is still being sent are left out.
pub(crate) async fn changed_since(db: &Db, since: DateTime<Utc>, most: i64) -> Result<Vec<Import>, DbError> {
    db.fetch_all(changed_since_query(since, most)).await?.iter().map(read).collect()
}

pub(super) fn changed_since_query(since: DateTime<Utc>, most: i64) -> Statement {
    Statement::new(SELECT_WITHOUT_FILTER)
        .push(" WHERE i.import_id IN (SELECT import_id FROM causeway_import WHERE state <> ")
        .arg(ImportState::Receiving.name())
        .push(" AND updated_at >= ")
        .arg(since)
        .push(" UNION SELECT import_id FROM causeway_import WHERE ")
        .push(UNFINISHED)
        .push(") ORDER BY i.updated_at DESC, i.import_id LIMIT ")
        .arg(most)
}

/// The imports that a process has to continue, the oldest first.
pub(crate) async fn unfinished(db: &Db) -> Result<Vec<Import>, DbError> {
    db.fetch_all(unfinished_query()).await?.iter().map(read).collect()
}

pub(super) fn unfinished_query() -> Statement {
    // With the condition on the rows themselves, SQLite reads all imports in the order of their creation.
    Statement::new(SELECT)
        .push(" WHERE i.import_id IN (SELECT import_id FROM causeway_import WHERE ")
        .push(UNFINISHED)
        .push(") ORDER BY i.created_at, i.import_id")
}

/// Notes that a file is being sent, and by whom. Changes nothing if the import exists.
pub(crate) async fn begin(
    tx: &mut Tx,
    id: Uuid,
    parameters: &Parameters,
    begun: Begun<'_>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_import (import_id, state, filter, merge_users, hide_organizations, size_bytes, sha256, created_at, updated_at, \
         records, slug_attempt, slugs_written, reported, spool_id, dry_run, filter_slugs, begun_by, control_batch_records, \
         control_batch_bytes) \
         VALUES ($1, $11, $2, $3, $4, 0, '', $5, $5, 0, 0, $6, $6, $7, $8, $9, $10, $12, $13) ON CONFLICT (import_id) DO NOTHING",
    )
    .with(id)
    .with(filter_text(parameters.filter.as_ref())?)
    .with(parameters.merge_users)
    .with(parameters.hide_organizations)
    .with(now)
    .with(false)
    .with(begun.spool_id)
    .with(parameters.dry_run)
    .with(filter_slugs(parameters)?)
    .with(begun.by)
    .with(ImportState::Receiving.name())
    .with(i64::from(begun.control_batch.records))
    .with(i64::from(begun.control_batch.bytes));
    tx.execute(statement).await?;
    Ok(())
}

/// A received file: size and SHA-256 of the export, SHA-256 of the upload, and whether that was encrypted.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) size_bytes: i64,
    pub(crate) sha256: String,
    pub(crate) upload_sha256: String,
    pub(crate) encrypted: bool,
}

/// Moves the import of a received file to planning; creates the import if needed. `false` if another upload has done
/// that.
pub(crate) async fn receive(
    tx: &mut Tx,
    id: Uuid,
    parameters: &Parameters,
    begun: Begun<'_>,
    received: &Received,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    begin(tx, id, parameters, begun, now).await?;
    let statement = Statement::new(
        "UPDATE causeway_import SET state = $14, filter = $2, merge_users = $3, hide_organizations = $4, size_bytes = $5, \
         sha256 = $6, updated_at = $7, spool_id = $8, upload_sha256 = $9, encrypted = $10, dry_run = $11, \
         filter_slugs = $12, begun_by = $13 \
         WHERE import_id = $1 AND state = $15",
    )
    .with(id)
    .with(filter_text(parameters.filter.as_ref())?)
    .with(parameters.merge_users)
    .with(parameters.hide_organizations)
    .with(received.size_bytes)
    .with(&received.sha256)
    .with(now)
    .with(begun.spool_id)
    .with(&received.upload_sha256)
    .with(received.encrypted)
    .with(parameters.dry_run)
    .with(filter_slugs(parameters)?)
    .with(begun.by)
    .with(ImportState::Planning.name())
    .with(ImportState::Receiving.name());
    Ok(tx.execute(statement).await? == 1)
}

/// Deletes imports whose file was being sent into this spool directory: one import, or all of them when the service
/// starts, because nobody can be sending then.
pub(crate) async fn forget_receiving(tx: &mut Tx, id: Option<Uuid>, spool_id: Uuid) -> Result<(), DbError> {
    let mut statement = Statement::new("DELETE FROM causeway_import WHERE state = ")
        .arg(ImportState::Receiving.name())
        .push(" AND (spool_id IS NULL OR spool_id = ")
        .arg(spool_id)
        .push(")");
    if let Some(id) = id {
        statement = statement.push(" AND import_id = ").arg(id);
    }
    tx.execute(statement).await?;
    Ok(())
}

/// Moves the import from one state to the next. An import in any other state is a defect, because only the lease's
/// holder moves it.
pub(crate) async fn advance(
    lease: &mut LeaseTransaction<'_>,
    from: ImportState,
    to: ImportState,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(concat!(
        "UPDATE causeway_import SET state = $3, updated_at = $4, ended_at = $5, ",
        no_waiting!(),
        " WHERE import_id = $1 AND state = $2"
    ))
    .with(lease.import_id())
    .with(from.name())
    .with(to.name())
    .with(now)
    .with(to.is_final().then_some(now));
    match lease.execute(statement).await? {
        1 => Ok(()),
        _ => Err(unreadable(format!("import {} is not {}", lease.import_id(), from.name()))),
    }
}

/// Notes how many records the file has, and for which tables the import is planned.
pub async fn set_planned(
    lease: &mut LeaseTransaction<'_>,
    records: i64,
    planned_for: &str,
) -> Result<(), DbError> {
    let statement =
        Statement::new("UPDATE causeway_import SET records = $2, planned_for = $3 WHERE import_id = $1")
            .with(lease.import_id())
            .with(records)
            .with(planned_for);
    lease.execute(statement).await?;
    Ok(())
}

/// Notes that the slugs have been written into the organizations.
pub(crate) async fn set_slugs_written(
    lease: &mut LeaseTransaction<'_>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement =
        Statement::new("UPDATE causeway_import SET slugs_written = $2, updated_at = $3 WHERE import_id = $1")
            .with(lease.import_id())
            .with(true)
            .with(now);
    lease.execute(statement).await?;
    Ok(())
}

/// The last chunk of an import whose rows have been announced: its position and first ordinal.
pub(crate) async fn announced(db: &Db, id: Uuid) -> Result<(i64, i64), DbError> {
    let statement = Statement::new(
        "SELECT announced_position, announced_ordinal FROM causeway_import WHERE import_id = $1",
    );
    match db.fetch_optional(statement.with(id)).await? {
        Some(row) => Ok((row.int("announced_position")?, row.int("announced_ordinal")?)),
        None => Ok((0, 0)),
    }
}

/// Records that the rows of all chunks have been announced up to this one.
pub(crate) async fn set_announced(
    lease: &mut LeaseTransaction<'_>,
    (position, min_ordinal): (i64, i64),
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET announced_position = $2, announced_ordinal = $3 WHERE import_id = $1",
    );
    let statement = statement.with(lease.import_id()).with(position).with(min_ordinal);
    lease.execute(statement).await.map(|_| ())
}

/// Begins another slug attempt: slugs must be requested again, under another operation.
pub(crate) async fn next_slug_attempt(lease: &mut LeaseTransaction<'_>, attempt: i64) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET slug_attempt = $2, slugs_written = $3 WHERE import_id = $1",
    )
    .with(lease.import_id())
    .with(attempt)
    .with(false);
    lease.execute(statement).await?;
    Ok(())
}

/// The id of the last organization that was checked for an owner; 0 if none was.
pub(crate) async fn owners_checked(db: &Db, id: Uuid) -> Result<i64, DbError> {
    let statement =
        Statement::new("SELECT owners_checked FROM causeway_import WHERE import_id = $1").with(id);
    match db.fetch_optional(statement).await? {
        Some(row) => row.int("owners_checked"),
        None => Err(unreadable(format!("import {id} is gone"))),
    }
}

/// Notes the id of the last organization that was checked for an owner.
pub(crate) async fn set_owners_checked(
    lease: &mut LeaseTransaction<'_>,
    organization: i64,
) -> Result<(), DbError> {
    let statement = Statement::new("UPDATE causeway_import SET owners_checked = $2 WHERE import_id = $1")
        .with(lease.import_id())
        .with(organization);
    lease.execute(statement).await?;
    Ok(())
}

/// Notes that control's directory has the organizations as they were after `approvals` approvals. Changes nothing if
/// the import has been approved again since, because its organizations must then be reported again.
pub(crate) async fn set_reported(
    lease: &mut LeaseTransaction<'_>,
    approvals: i64,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(concat!(
        "UPDATE causeway_import SET reported = $2, updated_at = $4, ",
        no_waiting!(),
        " WHERE import_id = $1 AND approvals = $3"
    ))
    .with(lease.import_id())
    .with(true)
    .with(approvals)
    .with(now);
    lease.execute(statement).await?;
    Ok(())
}

/// Locks imports that have succeeded until the transaction ends: this import, or those of these organizations. Returns
/// how many it has locked.
pub(crate) async fn lock_succeeded(tx: &mut Tx, of: &Approved) -> Result<u64, DbError> {
    let statement = Statement::new("UPDATE causeway_import SET approvals = approvals WHERE state = ")
        .arg(ImportState::Succeeded.name());
    tx.execute(imports_of(tx.dialect(), statement, of)).await
}

/// Notes that organizations of imports were made visible, so that the imports are reported to control's directory
/// again.
pub(crate) async fn note_approval(tx: &mut Tx, of: &Approved, now: DateTime<Utc>) -> Result<(), DbError> {
    let statement = Statement::new("UPDATE causeway_import SET approvals = approvals + 1, reported = ")
        .arg(false)
        .push(", updated_at = ")
        .arg(now)
        .push(" WHERE state = ")
        .arg(ImportState::Succeeded.name());
    tx.execute(imports_of(tx.dialect(), statement, of)).await?;
    Ok(())
}

/// The imports that `of` concerns and that have succeeded.
pub(crate) async fn succeeded(tx: &mut Tx, of: &Approved) -> Result<Vec<Uuid>, DbError> {
    let statement = Statement::new("SELECT import_id FROM causeway_import WHERE state = ")
        .arg(ImportState::Succeeded.name());
    let statement = imports_of(tx.dialect(), statement, of).push(" ORDER BY import_id");
    tx.fetch_all(statement).await?.iter().map(|row| row.uuid("import_id")).collect()
}

fn imports_of(dialect: Dialect, statement: Statement, of: &Approved) -> Statement {
    match of {
        Approved::Import(id) => statement.push(" AND import_id = ").arg(*id),
        Approved::Organizations(ids) => statement
            .push(
                " AND import_id IN (SELECT i.import_id FROM causeway_import_organization i WHERE i.organization_id IN \
                 (SELECT r.id FROM ",
            )
            .rows(dialect, "r", [("id", Column::Ints(ids.iter().copied().collect()))])
            .push("))"),
    }
}

/// Notes what the import waits for; with `None`, that it no longer waits. Only the holder of its lease can do that.
pub(crate) async fn set_waiting(
    tx: &mut Tx,
    id: Uuid,
    holder: Uuid,
    waiting: Option<&Waiting>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET waiting_reason = $2, waiting_message = $3, waiting_since = $4, waiting_attempts = $5, updated_at = $6 \
         WHERE import_id = $1 AND lease_holder = $7",
    )
    .with(id)
    .with(waiting.map(|waiting| waiting.reason.as_str_name()))
    .with(waiting.map(|waiting| waiting.message.as_str()))
    .with(waiting.map(|waiting| waiting.since))
    .with(waiting.map(|waiting| waiting.attempts))
    .with(now)
    .with(holder);
    tx.execute(statement).await?;
    Ok(())
}

/// Ends the import with a failure.
pub(crate) async fn fail(
    lease: &mut LeaseTransaction<'_>,
    failure: &Failure,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    advance(lease, failure.state, ImportState::Failed, now).await?;
    let statement =
        Statement::new("UPDATE causeway_import SET failure_reason = $2, failure_message = $3, failure_state = $4 WHERE import_id = $1")
            .with(lease.import_id())
            .with(failure.reason.as_str_name())
            .with(&failure.message)
            .with(failure.state.name());
    lease.execute(statement).await?;
    Ok(())
}

/// Moves a failed import back to the state in which it failed. `false` if it has not failed.
pub(crate) async fn resume(tx: &mut Tx, import: &Import, now: DateTime<Utc>) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET state = failure_state, failure_reason = NULL, failure_message = NULL, failure_state = NULL, \
         resumes = resumes + 1, updated_at = $2, ended_at = NULL WHERE import_id = $1 AND state = $3",
    )
    .with(import.id)
    .with(now)
    .with(ImportState::Failed.name());
    Ok(tx.execute(statement).await? == 1)
}

/// Begins to revert an import in any state. `false` if that was begun before, or if the file is still being sent.
///
/// This frees the lease. The new state refuses whatever the former holder still tries to commit, and nobody
/// waits for the lease of a dead holder to expire.
pub(crate) async fn begin_revert(tx: &mut Tx, id: Uuid, now: DateTime<Utc>) -> Result<bool, DbError> {
    let statement = Statement::new(concat!(
        "UPDATE causeway_import SET state = $3, updated_at = $2, ended_at = NULL, ",
        no_waiting!(),
        ", ",
        no_lease!(),
        " WHERE import_id = $1 AND state NOT IN ($3, $4, $5)"
    ))
    .with(id)
    .with(now)
    .with(ImportState::Reverting.name())
    .with(ImportState::Reverted.name())
    .with(ImportState::Receiving.name());
    Ok(tx.execute(statement).await? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_unfinished_imports_has_the_condition_that_asks_for_them() {
        let states: BTreeSet<&str> = UNFINISHED
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(states, _)| states.split(", ").map(|state| state.trim_matches('\'')).collect())
            .unwrap_or_default();
        let unfinished =
            ImportState::ALL.iter().filter(|state| state.is_unfinished()).map(|state| state.name());
        assert_eq!(states, unfinished.collect());
        assert!(UNFINISHED.contains(&format!("state = '{}'", ImportState::Succeeded.name())), "{UNFINISHED}");
        for migration in [
            include_str!("../../../migrations/region/postgres/0044_reports.sql"),
            include_str!("../../../migrations/region/sqlite/0044_reports.sql"),
        ] {
            assert!(migration.contains(&format!("WHERE {UNFINISHED};")), "{migration}");
        }
    }
}
