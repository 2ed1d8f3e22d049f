//! Watching an import to its end, over connections that break and regions that restart.

use std::time::Duration;

use causeway_proto::region::v1::{Import, WatchImportRequest, WatchImportResponse};
use tokio::time::{Instant, sleep};
use tonic::{Status, Streaming};

use crate::{Backoff, CallError, Client};

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };
/// How long a region may be away before watching is given up. The import itself does not mind.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is seen when an import is watched.
#[derive(Debug)]
pub enum WatchEvent {
    /// The import has changed.
    Changed(Box<Import>),
    /// The region cannot be seen at the moment. It is tried again by itself.
    Lost(CallError),
}

/// Watches one import, and connects again while its region cannot be reached.
#[derive(Debug)]
pub struct Watch {
    region: Client,
    import_id: String,
    stream: Option<Streaming<WatchImportResponse>>,
    /// Since when the region has been away, and how many attempts have failed since.
    away: Option<(Instant, i64)>,
    patience: Duration,
}

impl Watch {
    /// Watches the import of that id in `region`.
    #[must_use]
    pub fn new(region: Client, import_id: String) -> Self {
        Self { region, import_id, stream: None, away: None, patience: PATIENCE }
    }

    /// What happens next. After an import that has ended nothing more does. Safe to be dropped half way.
    ///
    /// # Errors
    /// If the region has no such import, or has been away for five minutes.
    pub async fn next(&mut self) -> Result<WatchEvent, CallError> {
        if self.stream.is_none()
            && let Some((_, attempts)) = self.away
        {
            // One watch of one import: there are no other clients, so the attempts need not be spread.
            sleep(BACKOFF.after(attempts, |_| 0)).await;
        }
        let lost = match self.message().await {
            Ok(import) => {
                self.away = None;
                return Ok(WatchEvent::Changed(Box::new(import)));
            }
            Err(error) => error,
        };
        self.stream = None;
        let now = Instant::now();
        let (since, attempts) = self.away.unwrap_or((now, 0));
        self.away = Some((since, attempts + 1));
        if lost.is_transient() && now.duration_since(since) < self.patience {
            return Ok(WatchEvent::Lost(lost));
        }
        Err(lost)
    }

    async fn message(&mut self) -> Result<Import, CallError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                // No deadline: the answer begins at once and ends when the import does.
                let request = WatchImportRequest { import_id: self.import_id.clone() };
                let opened = self
                    .region
                    .open(request, async |region, request| region.imports().watch_import(request).await)
                    .await?;
                self.stream.insert(opened)
            }
        };
        let message = stream.message().await.map_err(|status| self.region.failed(status))?;
        message
            .and_then(|response| response.import)
            .ok_or_else(|| self.region.failed(Status::unavailable("the stream ended before the import did")))
    }
}
