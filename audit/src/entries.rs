//! The entries of the log, for those who show them in the process that keeps it.

use causeway_silo::{
    db::DbError,
    page::{Page, PageRequest},
};
use chrono::{DateTime, Utc};

use crate::{Audit, Entry, store};

/// The place of an entry in the list, which has the newest first: its time and its number.
pub type EntryPosition = (DateTime<Utc>, i64);

impl Audit {
    /// A page of the entries that match, the newest first.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn entries(
        &self,
        filter: &store::Filter,
        request: &PageRequest<EntryPosition>,
    ) -> Result<Page<Entry, EntryPosition>, DbError> {
        let found = store::list(self.db(), filter, request.after, request.rows()).await?;
        let entries = found.into_iter().map(|(entry, _)| entry).collect();
        Ok(Page::cut(entries, request, |entry: &Entry| (entry.time, entry.id)))
    }
}
