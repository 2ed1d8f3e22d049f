//! The two streams of a bulk creation: control receives the organizations, then sends the answers.

use std::{iter, time::Duration};

use causeway_proto::{
    control::v1::{
        BulkCreateEnd, BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest,
        BulkCreateOrganizationSlugReservationsResponse, BulkCreateSummary, ResolvedSlug, SlugVerdict,
        bulk_create_organization_slug_reservations_request::Part,
    },
    whole::OrganizationDigest,
};
use causeway_silo::db::count;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{convert::wanted_slug, uuid};
use crate::{
    Error,
    model::reservation::{self, SlugReason},
    slug::{bulk_intake::IntakeSlot, operation::Incoming, reservations::SlugReservations},
};

/// The most answers in one message. With the longest slugs, they take less than half of the message limit.
const ANSWERS: usize = 4000;

/// How long a caller may take to send the header. Until then the call occupies no place, and control stores nothing of it.
const HEADER: Duration = Duration::from_secs(10);
/// The least organizations a second, beyond the time that a caller may be silent. A region sends a hundred thousand.
const RATE: usize = 100;

/// How long a caller may take for its stream: as long as it may be silent, and a second more for each [`RATE`]
/// organizations. Otherwise a caller that sends one at a time would keep its place for ever.
#[derive(Debug)]
struct Pace {
    idle: Duration,
    /// Time spent on waiting for messages.
    waited: Duration,
    organizations: usize,
}

impl Pace {
    fn new(idle: Duration) -> Self {
        Self { idle, waited: Duration::ZERO, organizations: 0 }
    }

    /// How long to wait for the next message. `None` if the stream is too slow by now.
    fn patience(&self) -> Option<Duration> {
        let for_all = self.organizations.checked_div(RATE).and_then(|seconds| u64::try_from(seconds).ok());
        let whole = self.idle.saturating_add(Duration::from_secs(for_all.unwrap_or(u64::MAX)));
        whole.checked_sub(self.waited).filter(|left| !left.is_zero()).map(|left| left.min(self.idle))
    }
}

/// The parts of one call as they arrive.
struct Parts {
    parts: Streaming<BulkCreateOrganizationSlugReservationsRequest>,
    pace: Pace,
}

impl Parts {
    /// The next message.
    ///
    /// # Errors
    /// If it does not arrive in time.
    async fn message(&mut self) -> Result<Option<BulkCreateOrganizationSlugReservationsRequest>, Status> {
        let Some(patience) = self.pace.patience() else {
            return Err(Error::StreamTooSlow { rate: RATE }.into());
        };
        let began = Instant::now();
        let message = timeout(patience, self.parts.message()).await;
        self.pace.waited = self.pace.waited.saturating_add(began.elapsed());
        match message {
            Ok(message) => message,
            Err(_) if patience < self.pace.idle => Err(Error::StreamTooSlow { rate: RATE }.into()),
            Err(_) => Err(Error::StreamStalled(patience).into()),
        }
    }

    /// The next part.
    ///
    /// # Errors
    /// If the stream has ended: the transport does not say whether the caller ended it or it was cut off.
    async fn next(&mut self) -> Result<Option<Part>, Status> {
        match self.message().await? {
            Some(message) => Ok(message.part),
            None => Err(Error::StreamIncomplete.into()),
        }
    }

    async fn header(&mut self) -> Result<BulkCreateHeader, Status> {
        let limit = HEADER.min(self.pace.idle);
        let header = timeout(limit, self.next()).await.map_err(|_| Error::StreamStalled(limit))?;
        match header? {
            Some(Part::Header(header)) => Ok(header),
            _ => Err(Error::invalid("header", "must be the first message").into()),
        }
    }

    /// Refuses a message after the end part.
    async fn is_over(&mut self) -> Result<(), Status> {
        match self.message().await? {
            None => Ok(()),
            Some(_) => Err(Error::invalid("end", "must be the last message").into()),
        }
    }
}

/// Receives a whole bulk creation, and returns it with its place. A stream that ends early has no effect,
/// because control writes nothing before the end part has arrived.
pub(super) async fn receive(
    reservations: &SlugReservations,
    parts: Streaming<BulkCreateOrganizationSlugReservationsRequest>,
) -> Result<(Incoming, IntakeSlot), Status> {
    let mut parts = Parts { parts, pace: Pace::new(reservations.intake.idle()) };
    // A place is given only after the header, so that callers without a header do not take places from
    // others.
    let waiting = reservations.intake.wait_for_header()?;
    let header = parts.header().await?;
    parts.pace.waited = Duration::ZERO;
    let operation_id = uuid("header.operation_id", &header.operation_id)?;
    let mut incoming = reservations.begin(&header.region, operation_id).await?;
    let mut place = reservations.intake.enter(&header.region)?;
    drop(waiting);
    let mut sent = OrganizationDigest::default();
    loop {
        match parts.next().await? {
            Some(Part::Batch(batch)) if batch.requests.is_empty() => {
                return Err(Error::invalid("batch.requests", "must have at least one").into());
            }
            Some(Part::Batch(batch)) => {
                sent.add(&batch.requests);
                let organizations: Vec<_> = batch.requests.into_iter().map(wanted_slug).collect();
                parts.pace.organizations = parts.pace.organizations.saturating_add(organizations.len());
                place.grow(&organizations)?;
                incoming.add(organizations)?;
            }
            Some(Part::End(end)) => {
                check(&end, &sent.end())?;
                parts.is_over().await?;
                return Ok((incoming, place));
            }
            Some(Part::Header(_)) | None => {
                return Err(
                    Error::invalid("batch", "must be every message but the first and the last").into()
                );
            }
        }
    }
}

/// Sends the answers as the caller takes them. If the caller takes none for too long, the stream ends without a
/// summary, which shows that answers are missing. The call keeps its place until the stream ends.
pub(super) fn send(
    reservations: &SlugReservations,
    given: Vec<reservation::ResolvedSlug>,
    place: IntakeSlot,
) -> ReceiverStream<Result<BulkCreateOrganizationSlugReservationsResponse, Status>> {
    let (sender, receiver) = mpsc::channel(1);
    let idle = reservations.intake.idle();
    tokio::spawn(async move {
        let _place = place;
        for answer in answers(given) {
            if sender.send_timeout(answer, idle).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Refuses an end part that does not match the organizations that arrived.
fn check(end: &BulkCreateEnd, came: &BulkCreateEnd) -> Result<(), Error> {
    if end.organization_count != came.organization_count {
        let description = format!("is {}, and {} came", end.organization_count, came.organization_count);
        return Err(Error::invalid("end.organization_count", description));
    }
    if end.sha256 != came.sha256 {
        return Err(Error::invalid("end.sha256", "is not that of the organizations that came"));
    }
    Ok(())
}

pub(super) fn verdict(reason: SlugReason) -> SlugVerdict {
    match reason {
        SlugReason::Free => SlugVerdict::Free,
        SlugReason::Normalized => SlugVerdict::Normalized,
        SlugReason::Taken => SlugVerdict::Taken,
        SlugReason::ReservedWord => SlugVerdict::ReservedWord,
        SlugReason::Invalid => SlugVerdict::Invalid,
    }
}

pub(super) fn resolved(answer: reservation::ResolvedSlug) -> ResolvedSlug {
    let (taken_by_region, taken_by_organization_id) =
        answer.taken_by.map(|owner| (owner.region, owner.organization_id)).unwrap_or_default();
    ResolvedSlug {
        organization_id: answer.organization_id,
        verdict: verdict(answer.reason).into(),
        // Empty if it is the wanted slug, as in nearly all answers.
        candidate: if answer.candidate == answer.wanted_slug { String::new() } else { answer.candidate },
        wanted_slug: answer.wanted_slug,
        slug: answer.slug,
        taken_by_region,
        taken_by_organization_id,
    }
}

/// The answers in messages, and after them the summary. Each message is made when the caller takes it.
fn answers(
    answers: Vec<reservation::ResolvedSlug>,
) -> impl Iterator<Item = Result<BulkCreateOrganizationSlugReservationsResponse, Status>> {
    let organization_count = count(answers.len());
    let mut answers = answers.into_iter();
    let batches = iter::from_fn(move || {
        let slugs: Vec<_> = answers.by_ref().take(ANSWERS).map(resolved).collect();
        (!slugs.is_empty()).then_some(BulkCreateOrganizationSlugReservationsResponse { slugs, summary: None })
    });
    let summary: Result<_, Status> = match organization_count {
        Ok(organization_count) => Ok(BulkCreateOrganizationSlugReservationsResponse {
            slugs: Vec::new(),
            summary: Some(BulkCreateSummary { organization_count }),
        }),
        Err(error) => Err(Error::from(error).into()),
    };
    batches.map(Ok).chain(iter::once(summary))
}

#[cfg(test)]
mod tests {
    use causeway_proto::limits::MAX_MESSAGE_BYTES;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_largest_message_of_answers_is_well_below_the_limit() {
        let answer = |organization_id| reservation::ResolvedSlug {
            organization_id,
            wanted_slug: "x".repeat(causeway_proto::limits::MAX_TEXT_BYTES),
            slug: "x".repeat(causeway_proto::limits::MAX_SLUG),
            reason: SlugReason::Taken,
            candidate: "x".repeat(causeway_proto::limits::MAX_SLUG),
            taken_by: Some(reservation::Owner {
                region: "x".repeat(32),
                organization_id: crate::model::region::MAX_ID,
            }),
        };
        let first = crate::model::region::MAX_ID - 12_000;
        let sizes: Vec<(usize, usize)> = answers((first..first + 12_000).map(answer).collect())
            .map(|batch| {
                let batch = batch.expect("no batch fails");
                (batch.slugs.len(), prost::Message::encoded_len(&batch))
            })
            .collect();
        assert_eq!(sizes.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [4000, 4000, 4000, 0]);
        assert!(sizes.iter().all(|(_, bytes)| *bytes < MAX_MESSAGE_BYTES / 2), "{sizes:?}");
    }

    #[test]
    fn a_caller_may_be_silent_for_so_long() {
        let mut pace = Pace::new(60 * SECOND);
        assert_eq!(pace.patience(), Some(60 * SECOND));
        pace.organizations = 1_000_000;
        pace.waited = 600 * SECOND;
        assert_eq!(pace.patience(), Some(60 * SECOND), "one that sends much may be silent again");
    }

    #[test]
    fn a_caller_that_sends_one_organization_at_a_time_keeps_its_place_no_longer() {
        let mut pace = Pace::new(60 * SECOND);
        (pace.organizations, pace.waited) = (1, 59 * SECOND);
        assert_eq!(pace.patience(), Some(SECOND));
        (pace.organizations, pace.waited) = (2, 60 * SECOND);
        assert_eq!(pace.patience(), None);
        (pace.organizations, pace.waited) = (2 * RATE, 61 * SECOND);
        assert_eq!(pace.patience(), Some(SECOND));
    }
}
