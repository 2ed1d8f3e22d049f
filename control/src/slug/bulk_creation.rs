//! Bulk creation: reserves a slug for each organization of an operation.
//!
//! A small operation is one transaction. A large one is done in parts, so that others can write in between; its states
//! are listed in [`crate::slug`]. Every transaction that gives an organization a slug has the lock of its region's
//! feed, so no organization gets two. If another region wants a slug for the same organization at the same time, its
//! insert violates the unique index on organizations, and the check of its next attempt refuses it.

use causeway_audit::Subject;
use causeway_silo::{
    db::{DbErrorKind, HasDbError as _, count},
    transact,
};
use chrono::{DateTime, Utc};

use super::{
    operation::{ChosenSlug, Incoming, Rounds, SlugOperation},
    reservations::{SlugReservations, locked, refuse_conflict},
};
use crate::{
    Error,
    model::reservation::{Candidates, ResolvedSlug},
    regions::ids,
    store::{
        slug_operation::{self as operations, InProgress, Operation, OperationKey, OperationState},
        slug_reservation as store,
    },
};

/// How often a call begins an operation again because its former reservations are still to be freed, and how often
/// because another region has just reserved a slug for one of its organizations.
const MAX_RESTARTS: usize = 8;

/// How far an operation is when a call asks for it.
enum OperationProgress {
    /// Its slugs, or the rest of them, must be reserved.
    Open,
    /// Its former reservations must be freed first.
    Withdrawing,
    /// It was answered before. `found` leaves the slugs empty; callers that need them read the stored answer.
    Answered(Vec<ChosenSlug>),
}

/// The result of one part of an operation.
enum Part {
    /// These organizations have these slugs.
    Reserved(Vec<(i64, String)>),
    /// One of its organizations has a slug from another operation, or belongs to another region.
    Refused(Error),
    /// Another call has changed the state of the operation.
    ChangedMeanwhile,
}

impl SlugReservations {
    /// Picks a slug for each organization and reserves it until the operation is confirmed or released. Either all
    /// organizations get a slug, or none. The answers are sorted by organization id. Until the operation is released,
    /// the same operation again has the same answer, whatever happened to its reservations.
    ///
    /// # Errors
    /// If the operation names an organization twice, or one that has a slug from another operation or belongs to
    /// another region; or if the operation was used with other content or released.
    pub async fn bulk_create(&self, incoming: Incoming) -> Result<Vec<ResolvedSlug>, Error> {
        let operation = incoming.complete()?;
        causeway_audit::about(Subject::operation(operation.key().operation_id));
        let now = self.env.now();
        let mut restarts = 0;
        let mut clashes = 0;
        let chosen = loop {
            let at_once = operation.len() <= self.feeds.options().changes_a_transaction && restarts == 0;
            let outcome = match at_once {
                true => self.create_at_once(&operation, now).await,
                false => self.create_in_parts(&operation, now).await,
            };
            let chosen = match outcome {
                // Another region reserved a slug for one of the organizations after the check. The next check finds
                // that, and returns the proper error.
                Err(error) if is_unique(&error) && clashes < MAX_RESTARTS => {
                    clashes += 1;
                    self.metrics.conflict();
                    continue;
                }
                outcome => outcome?,
            };
            match chosen {
                Some(chosen) => break chosen,
                None if restarts < MAX_RESTARTS => {
                    restarts += 1;
                    self.withdraw(operation.key(), now).await?;
                }
                None => {
                    let operation_id = operation.key().operation_id;
                    return Err(Error::OperationReleased { operation_id });
                }
            }
        };
        self.env.failpoint("control.bulk_create.committed").await?;
        Ok(operation.answers(chosen))
    }

    /// Does all of it in one transaction. `None` if something must be withdrawn first, or if the operation was begun in
    /// parts.
    async fn create_at_once(
        &self,
        operation: &SlugOperation,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<ChosenSlug>>, Error> {
        let key = operation.key();
        let outcome = transact!(Error, self.feeds.of(key.region), |feed| {
            let size = count(operation.len())?;
            if operations::insert(feed, key.operation_id, operation.digest(), size, None, now).await? {
                ids::refuse_of_others(feed, key.region, &operation.organization_ids()).await?;
                refuse_conflict(store::conflict(feed, key, operation.organization_ids()).await?)?;
                self.env.failpoint("control.bulk_create.checked").await?;
                let mut rounds = Rounds::new(operation);
                while let Some(candidates) = rounds.next(&self.env)? {
                    rounds.record_winners(store::take_free(feed, key.operation_id, candidates, now).await?);
                }
                let suffix_rounds = rounds.suffix_rounds();
                let mut chosen = rounds.finish();
                let owners = store::owners(feed, operation.taken(&chosen)).await?;
                operation.note_owners(&mut chosen, &owners);
                operations::store_answer(feed, key.operation_id, 0, operation.encode_answer(&chosen)?)
                    .await?;
                causeway_audit::append(feed, &Subject::operation(key.operation_id), now).await?;
                self.env.failpoint("control.bulk_create.prepared").await?;
                Some((chosen, Some(suffix_rounds)))
            } else {
                let before = locked(operations::lock(feed, key.operation_id).await?, key)?;
                match found(operation, &before)? {
                    OperationProgress::Withdrawing => None,
                    // Another control, or this one before a restart, began it in smaller parts. It continues in parts.
                    OperationProgress::Open => None,
                    OperationProgress::Answered(_) => {
                        let kept = operation
                            .decode_answer(&operations::stored_answer(feed, key.operation_id).await?)?;
                        // Older releases of Causeway stored no answers. The region must ask under another id.
                        let kept = kept.ok_or(Error::OperationReleased { operation_id: key.operation_id })?;
                        Some((kept, None))
                    }
                }
            }
        })?;
        Ok(outcome.map(|(chosen, picked)| {
            if let Some(suffix_rounds) = picked {
                self.count(operation, &chosen, suffix_rounds);
            }
            chosen
        }))
    }

    /// Counts a bulk creation that has picked all slugs, for the metrics.
    fn count(&self, operation: &SlugOperation, chosen: &[ChosenSlug], suffix_rounds: u32) {
        self.metrics.picked(suffix_rounds);
        for (reason, count) in operation.reasons(chosen) {
            self.metrics.slugs_given(reason.into(), count);
        }
    }

    /// Does it in parts. `None` if something must be withdrawn first, or if another call has changed the operation's
    /// state meanwhile.
    async fn create_in_parts(
        &self,
        operation: &SlugOperation,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<ChosenSlug>>, Error> {
        let key = operation.key();
        let most = self.feeds.changes_a_transaction();
        let at_once = self.feeds.options().changes_a_transaction;
        if !operations::exists(&self.db, key).await? {
            // A refused operation has no effect. Because of this check, nearly always nothing was written at
            // all.
            for ids in operation.organization_ids().chunks(at_once) {
                transact!(Error, self.db, |tx| {
                    ids::check_not_of_others(tx, key.region, ids).await?;
                })?;
                refuse_conflict(store::conflict_now(&self.db, key, ids.to_vec()).await?)?;
            }
        }
        let (begun, where_it_is) = transact!(Error, self.feeds.of(key.region), |feed| {
            let (size, reserving) = (count(operation.len())?, Some(InProgress::Reserving));
            if operations::insert(feed, key.operation_id, operation.digest(), size, reserving, now).await? {
                // From now on nobody leases one of these ids. Each part checks whether one was leased before.
                ids::raise_above(feed, &operation.organization_ids()).await?;
                (now, OperationProgress::Open)
            } else {
                let before = locked(operations::lock(feed, key.operation_id).await?, key)?;
                let found = match found(operation, &before)? {
                    OperationProgress::Answered(_) => {
                        let kept = operation
                            .decode_answer(&operations::stored_answer(feed, key.operation_id).await?)?;
                        OperationProgress::Answered(
                            kept.ok_or(Error::OperationReleased { operation_id: key.operation_id })?,
                        )
                    }
                    found => found,
                };
                (before.created_at, found)
            }
        })?;
        match where_it_is {
            OperationProgress::Answered(chosen) => return Ok(Some(chosen)),
            OperationProgress::Withdrawing => return Ok(None),
            OperationProgress::Open => {}
        }
        let mut rounds = Rounds::new(operation);
        let mut after = 0;
        loop {
            let before = store::slugs_of_operation(&self.db, key, after, most).await?;
            let Some((last, _)) = before.last() else { break };
            after = *last;
            rounds.record_winners(before);
        }
        while let Some(candidates) = rounds.next(&self.env)? {
            for part in candidates.parts(at_once) {
                match self.reserve(operation, begun, part, now).await? {
                    Part::Reserved(slugs) => rounds.record_winners(slugs),
                    Part::Refused(error) => {
                        self.withdraw(key, now).await?;
                        return Err(error);
                    }
                    // The next attempt finds the new state.
                    Part::ChangedMeanwhile => return Ok(None),
                }
                self.env.failpoint("control.bulk_create.part_committed").await?;
            }
        }
        let suffix_rounds = rounds.suffix_rounds();
        let kept = self.keep(operation, begun, rounds.finish(), now).await?;
        if let Some(chosen) = &kept {
            self.count(operation, chosen, suffix_rounds);
        }
        Ok(kept)
    }

    /// Reserves those slugs of one part of a round that are free.
    async fn reserve(
        &self,
        operation: &SlugOperation,
        begun: DateTime<Utc>,
        candidates: Candidates,
        now: DateTime<Utc>,
    ) -> Result<Part, Error> {
        let key = operation.key();
        transact!(Error, self.feeds.of(key.region), |feed| {
            let Some(before) = operations::lock(feed, key.operation_id).await? else {
                return Ok(Part::ChangedMeanwhile);
            };
            match found(operation, &before)? {
                // The operation was withdrawn and begun again: the reservations that this call knows of are gone.
                OperationProgress::Open if before.created_at != begun => Part::ChangedMeanwhile,
                OperationProgress::Open => {
                    let ids = candidates.organization_ids.clone();
                    let refused = match ids::refuse_of_others(feed, key.region, &ids).await {
                        Ok(()) => refuse_conflict(store::conflict(feed, key, ids.clone()).await?).err(),
                        Err(error @ Error::OrganizationIdTaken { .. }) => Some(error),
                        Err(error) => return Err(error),
                    };
                    match refused {
                        Some(error) => {
                            operations::set_under_way(
                                feed,
                                key.operation_id,
                                Some(InProgress::Withdrawing),
                                now,
                            )
                            .await?;
                            Part::Refused(error)
                        }
                        None => {
                            // The same call, made twice at once, may have reserved some already.
                            let mut slugs = store::own(feed, key.operation_id, ids).await?;
                            let open = candidates.clone().without(&slugs);
                            slugs.extend(store::take_free(feed, key.operation_id, open, now).await?);
                            Part::Reserved(slugs)
                        }
                    }
                }
                OperationProgress::Withdrawing | OperationProgress::Answered(_) => Part::ChangedMeanwhile,
            }
        })
    }

    /// Stores the answer, part by part. After the last part, the operation is reserved.
    async fn keep(
        &self,
        operation: &SlugOperation,
        begun: DateTime<Utc>,
        mut chosen: Vec<ChosenSlug>,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<ChosenSlug>>, Error> {
        let key = operation.key();
        let at_once = self.feeds.options().changes_a_transaction;
        let mut owners = std::collections::HashMap::new();
        for slugs in operation.taken(&chosen).chunks(at_once) {
            owners.extend(store::owners_now(&self.db, self.feeds.product_db(), slugs.to_vec()).await?);
        }
        operation.note_owners(&mut chosen, &owners);
        for (number, part) in (0..).zip(operation.encode_answer(&chosen)?) {
            transact!(Error, self.feeds.of(key.region), |feed| {
                let before = locked(operations::lock(feed, key.operation_id).await?, key)?;
                if before.created_at == begun && matches!(found(operation, &before)?, OperationProgress::Open)
                {
                    operations::store_answer(feed, key.operation_id, number, vec![part.clone()]).await?;
                }
            })?;
        }
        // The same call, made twice at once, may have stored some of the parts. What is stored is the answer.
        let kept = transact!(Error, self.feeds.of(key.region), |feed| {
            let before = locked(operations::lock(feed, key.operation_id).await?, key)?;
            let kept = match found(operation, &before)? {
                OperationProgress::Open if before.created_at == begun => {
                    operations::set_under_way(feed, key.operation_id, None, now).await?;
                    causeway_audit::append(feed, &Subject::operation(key.operation_id), now).await?;
                    operations::stored_answer(feed, key.operation_id).await?
                }
                OperationProgress::Answered(_) => operations::stored_answer(feed, key.operation_id).await?,
                // Another call withdrew it, and perhaps began it again: `bulk_create` tries once more.
                OperationProgress::Open | OperationProgress::Withdrawing => Vec::new(),
            };
            self.env.failpoint("control.bulk_create.prepared").await?;
            kept
        })?;
        operation.decode_answer(&kept).map_err(Into::into)
    }

    /// Frees in parts what an operation without an answer has reserved, then deletes the operation.
    async fn withdraw(&self, key: OperationKey<'_>, now: DateTime<Utc>) -> Result<(), Error> {
        let most = self.feeds.changes_a_transaction();
        loop {
            let gone = transact!(Error, self.feeds.of(key.region), |feed| {
                match operations::lock(feed, key.operation_id).await? {
                    Some(operation)
                        if operation.in_progress == Some(InProgress::Withdrawing)
                            && operation.state == OperationState::Reserved =>
                    {
                        let page = store::page_end(feed, key.operation_id, 0, most).await?;
                        let (last, found) = page.unwrap_or((0, 0));
                        store::delete(feed, key.operation_id, last).await?;
                        let no_answer = operations::forget_answer(feed, key.operation_id).await?;
                        let is_last = found < most && no_answer;
                        if is_last {
                            operations::delete(feed, key.operation_id).await?;
                        } else {
                            operations::set_under_way(
                                feed,
                                key.operation_id,
                                Some(InProgress::Withdrawing),
                                now,
                            )
                            .await?;
                        }
                        is_last
                    }
                    // Another call has done this, or the operation is released.
                    _ => true,
                }
            })?;
            if gone {
                return Ok(());
            }
            self.env.failpoint("control.bulk_create.part_withdrawn").await?;
        }
    }
}

fn is_unique(error: &Error) -> bool {
    error.db_error().is_some_and(|error| error.kind() == DbErrorKind::Unique)
}

/// How far an operation is that was begun before.
fn found(operation: &SlugOperation, before: &Operation) -> Result<OperationProgress, Error> {
    let operation_id = operation.key().operation_id;
    if before.in_progress == Some(InProgress::Withdrawing) {
        return Ok(OperationProgress::Withdrawing);
    }
    if before.digest != operation.digest() {
        return Err(Error::OperationContentDiffers { operation_id });
    }
    if before.state == OperationState::Released {
        return Err(Error::OperationReleased { operation_id });
    }
    Ok(match before.in_progress {
        Some(InProgress::Reserving) => OperationProgress::Open,
        _ => OperationProgress::Answered(Vec::new()),
    })
}
