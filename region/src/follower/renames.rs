//! Renames that control wants: does them, reports their outcome to control, and takes back those that control has given
//! up.

use std::collections::HashMap;

use causeway_audit::{Call, Subject};
use causeway_proto::{control::v1::SlugRefusal, relocation::v1::ErrorReason};
use causeway_silo::{
    db::{DbError, Tx, outside},
    transact,
};
use chrono::{DateTime, Utc};

use super::Follower;
use crate::{
    error::Error,
    replica::{Answer, SlugChange},
    store::{
        organization::{self, constraint},
        replica,
    },
};

/// How many answers are read at once. Control is asked about each of them.
const ANSWERED: i64 = 100;

impl Follower {
    /// Reports to control what has become of renames, until control has answered.
    pub(super) async fn answer(&self) {
        let context = self.context();
        let mut attempts = 0;
        loop {
            match self.answer_all().await {
                Ok(()) => {
                    attempts = 0;
                    tokio::select! {
                        () = self.0.to_answer.notified() => {}
                        () = context.lifecycle.stopping() => return,
                    }
                }
                Err(error) if error.is_stop() => return,
                Err(error) => {
                    attempts += 1;
                    tracing::warn!(%error, attempts, "control has not heard what became of a rename; tried again");
                    if context.pause(attempts).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn answer_all(&self) -> Result<(), Error> {
        loop {
            let due = replica::answers(&self.context().db, ANSWERED).await?;
            if due.is_empty() {
                return Ok(());
            }
            let mut answered = Vec::with_capacity(due.len());
            let outcome = self.send_answers(&due, &mut answered).await;
            // Also if control has not answered for all.
            self.note_answered(&answered).await?;
            outcome?;
        }
    }

    /// Reports the outcome of renames to control, one after the other. Adds to `answered` those that it has answered, and
    /// whether it has given the rename up that the region has done.
    async fn send_answers<'a>(
        &self,
        due: &'a [Answer],
        answered: &mut Vec<(&'a Answer, bool)>,
    ) -> Result<(), Error> {
        let context = self.context();
        for answer in due {
            let heard = match &answer.refusal {
                None => context.ask(context.control.confirm_slugs(answer.operation_id)).await.map(drop),
                Some((reason, message)) => {
                    let refusal = SlugRefusal { reason: (*reason).into(), message: message.clone() };
                    context.ask(context.control.refuse_slug(answer.operation_id, refusal)).await
                }
            };
            let given_up = match heard {
                Ok(()) => false,
                Err(Error::Control(error))
                    if matches!(
                        error.reason(),
                        Some(
                            ErrorReason::OperationReleased
                                | ErrorReason::OperationNotFound
                                | ErrorReason::OperationConfirmed
                        )
                    ) =>
                {
                    error.reason() != Some(ErrorReason::OperationConfirmed) && answer.refusal.is_none()
                }
                Err(error) => return Err(error),
            };
            context.env.failpoint("region.rename.answered").await?;
            answered.push((answer, given_up));
        }
        Ok(())
    }

    /// Deletes answers that control has received, and takes back the renames that it has given up.
    async fn note_answered(&self, answered: &[(&Answer, bool)]) -> Result<(), Error> {
        if answered.is_empty() {
            return Ok(());
        }
        let context = self.context();
        let given_up = || answered.iter().filter(|(_, given_up)| *given_up).map(|(answer, _)| *answer);
        transact!(Error, context.db, |tx| {
            if given_up().next().is_some() {
                // Nothing of the feed comes in between: another rename may give it yet another slug.
                replica::lock_cursor(tx).await?;
            }
            let mut put_back_now = Vec::new();
            // One after the other, because two of them may be about one organization. Each was given up by a person.
            for answer in given_up() {
                if put_back(tx, answer).await? {
                    put_back_now.push(answer);
                }
            }
            let now = context.env.now();
            record_renames(tx, &context.region, put_back_now.iter().copied(), now).await?;
            let renamed = put_back_now.iter().map(|answer| answer.organization_id).collect();
            context.announce_organizations(tx, renamed).await?;
            let ids = answered.iter().map(|(answer, _)| answer.operation_id).collect();
            replica::forget_answers(tx, ids).await?;
            context.env.failpoint("region.rename.prepared").await?;
        })?;
        Ok(context.env.failpoint("region.rename.noted").await?)
    }
}

/// Gives organizations the slugs that control wants them to have, as far as they can have them.
pub(super) async fn rename(
    tx: &mut Tx,
    to_rename: &[&SlugChange],
    now: DateTime<Utc>,
) -> Result<Vec<Answer>, Error> {
    if to_rename.is_empty() {
        return Ok(Vec::new());
    }
    // A snapshot may repeat what has been decided.
    let decided = replica::decided(tx, to_rename.iter().map(|change| change.operation_id).collect()).await?;
    let to_rename: Vec<&SlugChange> =
        to_rename.iter().copied().filter(|change| !decided.contains(&change.operation_id)).collect();
    let ids: Vec<i64> = to_rename.iter().map(|change| change.organization_id).collect();
    let slugs: Vec<String> = to_rename.iter().map(|change| change.slug.clone()).collect();
    let ready: HashMap<i64, bool> = organization::ready(tx, ids.clone()).await?;
    let owners = organization::owners(tx, slugs).await?;
    let refusal = |change: &SlugChange| match (ready.get(&change.organization_id), owners.get(&change.slug)) {
        (None, _) => Some((
            ErrorReason::OrganizationNotFound,
            format!("the region has no organization {}", change.organization_id),
        )),
        (Some(false), _) => Some((
            ErrorReason::OrganizationNotReady,
            format!("the import of organization {} has not succeeded", change.organization_id),
        )),
        (_, Some(owner)) if *owner != change.organization_id => {
            Some((ErrorReason::SlugTakenInRegion, taken_in_region(*owner, &change.slug)))
        }
        _ => None,
    };
    let mut answers: Vec<Answer> = to_rename
        .iter()
        .map(|change| Answer {
            operation_id: change.operation_id,
            organization_id: change.organization_id,
            slug: change.slug.clone(),
            previous_slug: change.canonical_slug.clone(),
            refusal: refusal(change),
        })
        .collect();
    let mut renaming: Vec<&mut Answer> = answers.iter_mut().filter(|it| it.refusal.is_none()).collect();
    let slugs: Vec<(i64, String)> =
        renaming.iter().map(|answer| (answer.organization_id, answer.slug.clone())).collect();
    let refused = organization::set_slugs(tx, &slugs).await?;
    // Another writer may have taken a slug since.
    let owners = match refused.is_empty() {
        true => HashMap::new(),
        false => organization::owners(tx, slugs.into_iter().map(|(_, slug)| slug).collect()).await?,
    };
    for (_, slug, why) in refused {
        let answer = renaming.get_mut(why.index).ok_or_else(outside)?;
        let message = match owners.get(&slug).filter(|owner| **owner != answer.organization_id) {
            Some(owner) => taken_in_region(*owner, &slug),
            None => format!("in the region, the slug {slug} breaks {}", constraint(&why)),
        };
        answer.refusal = Some((ErrorReason::SlugTakenInRegion, message));
    }
    replica::insert_answers(tx, &answers, now).await?;
    Ok(answers)
}

fn taken_in_region(owner: i64, slug: &str) -> String {
    format!("organization {owner} of the region has the slug {slug}, which control does not know")
}

/// Records that the region has renamed organizations, because control wants it or has given it up. The operation of each
/// is that of the call to control, which has the same id in control's log.
pub(super) async fn record_renames(
    tx: &mut Tx,
    region: &str,
    answers: impl Iterator<Item = &Answer>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let calls = answers.map(|answer| {
        let subject = Subject::organization(answer.organization_id).with_operation(answer.operation_id);
        (Call::own(answer.operation_id, region, "rename"), subject)
    });
    causeway_audit::append_each(tx, calls.collect::<Vec<_>>(), now).await
}

/// Takes back a rename that control has given up, unless the organization has yet another slug by now, or the same one by
/// another operation. Returns whether it did.
async fn put_back(tx: &mut Tx, answer: &Answer) -> Result<bool, DbError> {
    let Answer { operation_id, organization_id, slug, previous_slug, .. } = answer;
    // Another rename may have been confirmed since: then the organization is known by neither of the two.
    let known = replica::primaries(tx, vec![*organization_id]).await?.remove(organization_id);
    let Some(previous) = known.as_ref().or(previous_slug.as_ref()) else { return Ok(false) };
    let owners = organization::owners(tx, vec![slug.clone(), previous.clone()]).await?;
    if owners.get(slug) != Some(organization_id)
        || replica::is_used_by_other_operation(tx, slug, *organization_id, *operation_id).await?
    {
        return Ok(false);
    }
    if let Some(owner) = owners.get(previous) {
        tracing::error!(%operation_id, organization_id, slug, previous, owner, "a rename was given up, and the old slug is taken in this region; the organization keeps the new one, which control does not know");
        return Ok(false);
    }
    let refused = organization::set_slugs(tx, &[(*organization_id, previous.clone())]).await?;
    if let Some((.., why)) = refused.first() {
        let constraint = constraint(why);
        tracing::error!(%operation_id, organization_id, slug, previous, constraint, "a rename was given up, and the database refuses the old slug; the organization keeps the new one, which control does not know");
        return Ok(false);
    }
    tracing::warn!(%operation_id, organization_id, slug, previous, "a rename was given up; the organization has its old slug back");
    Ok(true)
}
