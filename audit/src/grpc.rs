//! `causeway.relocation.v1.AuditService`.

use causeway_proto::{
    failure::Failure,
    limits::MAX_MESSAGE_BYTES,
    page::{List, fitting},
    relocation::v1::{
        AuditSeal, ErrorReason, ListAuditEntriesRequest, ListAuditEntriesResponse, ListAuditSealsRequest,
        ListAuditSealsResponse,
        audit_service_server::{AuditService, AuditServiceServer},
    },
    time,
};
use causeway_silo::{
    db::{DbError, DbErrorKind},
    page::{Page, PageRequest},
};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Audit, Entry,
    chain::Link,
    entry::StoredLink,
    store::{self, Filter, Sealed},
};

/// The longest caller in a filter, in bytes.
const MAX_WHO: usize = 512;
/// The longest object in a filter, in bytes.
const MAX_OBJECT: usize = 128;

impl Audit {
    /// The gRPC service that shows the log.
    #[must_use]
    pub fn service(&self) -> AuditServiceServer<Self> {
        AuditServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Where the chain begins, and a page of it.
    async fn chain(&self, page: &PageRequest<i64>) -> Result<(Link, Vec<Sealed>), DbError> {
        let mut base = store::base(self.db()).await?;
        loop {
            let found = store::seals(self.db(), page.after.unwrap_or(i64::MIN), page.rows()).await?;
            let now = store::base(self.db()).await?;
            if now == base {
                return Ok((base, found));
            }
            // Old positions were deleted meanwhile.
            base = now;
        }
    }
}

/// Logs the error of the database. The caller only learns what it can do about the failure.
fn failed(error: &DbError) -> Failure {
    match error.kind() {
        DbErrorKind::Closed => {
            Failure::new(ErrorReason::ShuttingDown, "the service is going down; try again")
        }
        DbErrorKind::Contention => Failure::new(
            ErrorReason::DatabaseContention,
            "the database of the service is contended; try again",
        ),
        DbErrorKind::Unavailable | DbErrorKind::Full | DbErrorKind::ReadOnly => {
            tracing::warn!(%error, "the audit log cannot be read at the moment");
            Failure::new(
                ErrorReason::DatabaseUnavailable,
                "the database of the service cannot be used at the moment; its log says why",
            )
        }
        DbErrorKind::Unique | DbErrorKind::ForeignKey | DbErrorKind::Check | DbErrorKind::Other => {
            tracing::error!(%error, "the audit log cannot be read");
            Failure::new(
                ErrorReason::Internal,
                "the audit log cannot be read; the log of the service has the details",
            )
        }
    }
}

fn bounded(field: &str, text: String, most: usize) -> Result<Option<String>, Failure> {
    match text.len() {
        0 => Ok(None),
        length if length > most => Err(Failure::invalid_field(field, format!("at most {most} bytes"))),
        _ => Ok(Some(text)),
    }
}

fn instant(field: &str, time: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, Failure> {
    let Some(time) = time else { return Ok(None) };
    time::from_proto(&time).map(Some).ok_or_else(|| Failure::invalid_field(field, "is not a time"))
}

/// The key in page tokens of entries: the microseconds of its time and its number, separated by a space.
struct EntryKey(DateTime<Utc>, i64);

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.timestamp_micros(), self.1)
    }
}

impl std::str::FromStr for EntryKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, id) = text.split_once(' ').ok_or(())?;
        let time = time.parse().ok().and_then(DateTime::from_timestamp_micros).ok_or(())?;
        Ok(Self(time, id.parse().map_err(|_| ())?))
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let ListAuditEntriesRequest { since, until, who, object, request_id, page_size, page_token } =
            request.into_inner();
        let shown = |time: &Option<Timestamp>| {
            time.as_ref().map(|time| format!("{}.{}", time.seconds, time.nanos)).unwrap_or_default()
        };
        let (shown_since, shown_until) = (shown(&since), shown(&until));
        let filters = [&shown_since, &shown_until, &who, &object, &request_id].map(String::as_str);
        let list = List::new(self.page_key(), "ListAuditEntries", &filters);
        let after = list.after::<EntryKey>(&page_token)?.map(|key| (key.0, key.1));
        let page = PageRequest { limit: list.limit(page_size)?, after };
        let filter = Filter {
            since: instant("since", since)?,
            until: instant("until", until)?,
            who: bounded("who", who.clone(), MAX_WHO)?,
            object: bounded("object", object.clone(), MAX_OBJECT)?,
            request_id: match request_id.as_str() {
                "" => None,
                id => Some(
                    Uuid::try_parse(id)
                        .map_err(|_| Failure::invalid_field("request_id", "must be a UUID"))?,
                ),
            },
        };
        let found = store::list(self.db(), &filter, page.after, page.rows());
        let found = found.await.map_err(|error| failed(&error))?;
        let key = |(entry, _): &(Entry, Option<StoredLink>)| (entry.time, entry.id);
        let found = Page::cut(found, &page, key);
        let (entries, next) = fitting(found.items, found.next, key, |(entry, place)| entry.to_proto(place));
        let next_page_token = list.token(next.map(|(time, id)| EntryKey(time, id)));
        Ok(Response::new(ListAuditEntriesResponse { entries, next_page_token }))
    }

    async fn list_audit_seals(
        &self,
        request: Request<ListAuditSealsRequest>,
    ) -> Result<Response<ListAuditSealsResponse>, Status> {
        let ListAuditSealsRequest { page_size, page_token } = request.into_inner();
        let list = List::new(self.page_key(), "ListAuditSeals", &[]);
        let page = PageRequest { limit: list.limit(page_size)?, after: list.after::<i64>(&page_token)? };
        let (mut base, found) = self.chain(&page).await.map_err(|error| failed(&error))?;
        let mut found = Page::cut(found, &page, |sealed| sealed.position);
        let mut unsealed = (0, 0);
        if found.next.is_none() {
            unsealed = store::unsealed(self.db()).await.map_err(|error| failed(&error))?;
            // Again, so that what was added meanwhile is on the page: it is counted no more.
            let rows;
            (base, rows) = self.chain(&page).await.map_err(|error| failed(&error))?;
            found = Page::cut(rows, &page, |sealed| sealed.position);
        }
        let encode = |sealed: Sealed| AuditSeal {
            position: sealed.position,
            hash: sealed.hash,
            entry: sealed.entry.map(|entry| entry.to_proto(None)),
        };
        let (seals, next) = fitting(found.items, found.next, |sealed| sealed.position, encode);
        let (waiting_count, loose_count) = if next.is_none() { unsealed } else { (0, 0) };
        Ok(Response::new(ListAuditSealsResponse {
            seals,
            next_page_token: list.token(next),
            base_position: base.position,
            base_hash: hex::encode(base.hash),
            waiting_count,
            loose_count,
        }))
    }
}
