//! Watching imports: the end of a step is reported at once, other changes at most every 200 ms.
//!
//! However many callers watch an import, one reader reads it for all of them, and nothing is sent while nothing
//! changes. A new watcher reads once for itself, so that its first message is not older than the call.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_proto::region::v1::{Import, WatchImportResponse};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tonic::Status;
use uuid::Uuid;

use super::convert::view_to_proto;
use crate::{
    error::Error,
    import::{ImportView, Imports},
};

/// How often a watched import is read while nothing signals a change: planning counts records silently, and an import
/// may run in another process.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// The least pause between two messages of a watch, unless a step has ended.
const SPACING: Duration = Duration::from_millis(200);
/// How long a watcher may take to receive the last message when the service stops.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// A report about an import: the import as it is now, or why there are no more reports.
type Report = Result<Arc<Import>, Status>;

/// The imports that are watched, each with the reports of its one reader.
type Readers = HashMap<Uuid, Arc<watch::Sender<Option<Report>>>>;

/// All watches of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Watches(Arc<Mutex<Readers>>);

impl Watches {
    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the import now, and again whenever it has changed, until it has ended or the receiver is dropped.
    ///
    /// # Errors
    /// If there is no such import, or the database fails.
    pub(super) async fn watch(
        &self,
        imports: &Imports,
        id: Uuid,
        place: OwnedSemaphorePermit,
    ) -> Result<mpsc::Receiver<Result<WatchImportResponse, Status>>, Error> {
        // First, so that no change between the read and the first report is missed.
        let news = self.join(imports, id);
        let first = imports.view(id).await?;
        let first = Arc::new(view_to_proto(first, imports.context()));
        let (sender, receiver) = mpsc::channel(1);
        let watcher = Watcher { imports: imports.clone(), news, sender, _place: place };
        imports.context().lifecycle.watched(watcher.run(first));
        Ok(receiver)
    }

    /// Subscribes to the reports of an import's reader. Starts a reader if there is none.
    fn join(&self, imports: &Imports, id: Uuid) -> watch::Receiver<Option<Report>> {
        let mut readers = self.readers();
        if let Some(report) = readers.get(&id) {
            return report.subscribe();
        }
        let (report, news) = watch::channel(None);
        let report = Arc::new(report);
        readers.insert(id, Arc::clone(&report));
        let reader =
            Reader { watches: self.clone(), imports: imports.clone(), id, report, news: None, steps: 0 };
        imports.context().lifecycle.watched(reader.run());
        news
    }
}

/// Reads one import for all who watch it.
struct Reader {
    watches: Watches,
    imports: Imports,
    id: Uuid,
    report: Arc<watch::Sender<Option<Report>>>,
    /// Changes of the import while it runs in this process, and how many steps had ended at the last read.
    news: Option<watch::Receiver<u64>>,
    steps: u64,
}

impl Reader {
    fn listen(&mut self) {
        if self.news.is_none() {
            self.news = self.imports.running(self.id).map(|running_import| running_import.subscribe());
        }
        if let Some(news) = &mut self.news {
            self.steps = *news.borrow_and_update();
        }
    }

    async fn read(&mut self) -> Result<ImportView, Error> {
        self.listen();
        self.imports.context().env.failpoint("region.watch.read").await?;
        self.imports.view(self.id).await
    }

    /// Removes this reader, so that nobody joins it any more.
    fn leave(&self) {
        let mut readers = self.watches.readers();
        if readers.get(&self.id).is_some_and(|report| Arc::ptr_eq(report, &self.report)) {
            readers.remove(&self.id);
        }
    }

    /// Removes this reader if nobody watches. `false` if somebody does.
    fn leave_if_alone(&self) -> bool {
        let mut readers = self.watches.readers();
        if self.report.receiver_count() > 0 {
            return false;
        }
        if readers.get(&self.id).is_some_and(|report| Arc::ptr_eq(report, &self.report)) {
            readers.remove(&self.id);
        }
        true
    }

    /// Reports the import whenever it has changed, until it has ended or nobody watches any more.
    async fn run(mut self) {
        let mut looked = self.read().await;
        loop {
            let ends = looked.as_ref().map_or(true, |view| view.import.state.is_final());
            if ends {
                self.leave();
            }
            if ends && looked.is_ok() {
                // New watchers now get a reader of their own. Those who are here get a read that was made after they
                // came.
                looked = self.read().await;
            }
            let view = match looked {
                Ok(view) => view,
                Err(error) => {
                    self.report.send_replace(Some(Err(error.into())));
                    return;
                }
            };
            let mut import = view_to_proto(view.clone(), self.imports.context());
            if !view.import.state.is_final() {
                // It can be as large as a message, and each watcher has got it with the first one.
                import.filter = None;
            }
            self.report.send_replace(Some(Ok(Arc::new(import))));
            if ends && view.import.state.is_final() {
                return;
            }
            looked = match self.changed(&view).await {
                Some(looked) => looked,
                None => return,
            };
        }
    }

    /// Waits until the import differs from `seen`; `None` if nobody watches any more.
    async fn changed(&mut self, seen: &ImportView) -> Option<Result<ImportView, Error>> {
        let spaced = Instant::now() + SPACING;
        loop {
            let (report, imports) = (Arc::clone(&self.report), self.imports.clone());
            // Not before the current chunk is done, because that is reported too.
            let over = tokio::select! {
                () = report.closed() => {
                    if self.leave_if_alone() {
                        return None;
                    }
                    continue;
                }
                () = imports.context().lifecycle.ended() => true,
                () = self.news(spaced) => false,
                () = sleep(READ_INTERVAL) => false,
            };
            match self.read().await {
                Ok(view) if &view != seen => return Some(Ok(view)),
                _ if over => return Some(Err(Error::Stopping)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits for a change that is worth a read: the end of a step, or any other change after `spaced`.
    async fn news(&mut self, spaced: Instant) {
        let Some(news) = &mut self.news else { return pending().await };
        let mut due = false;
        loop {
            tokio::select! {
                report = news.changed() => match report {
                    Ok(()) if *news.borrow_and_update() == self.steps => due = true,
                    Ok(()) => return,
                    // The import no longer runs in this process.
                    Err(_) => break,
                },
                () = sleep_until(spaced), if due => return,
            }
        }
        self.news = None;
    }
}

/// A caller that watches an import.
struct Watcher {
    imports: Imports,
    news: watch::Receiver<Option<Report>>,
    sender: mpsc::Sender<Result<WatchImportResponse, Status>>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    async fn run(mut self, first: Arc<Import>) {
        let mut report: Report = Ok(first);
        loop {
            let last = match &report {
                Ok(import) => import.state().is_final(),
                Err(_) => true,
            };
            let import = report.as_ref().map(|import| (**import).clone()).map_err(Clone::clone);
            if !self.send(import.map(|import| WatchImportResponse { import: Some(import) })).await || last {
                return;
            }
            report = match self.next(report).await {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// The next report that differs from the last one; `None` if nobody watches any more.
    async fn next(&mut self, before: Report) -> Option<Report> {
        loop {
            let sender = self.sender.clone();
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = sender.closed() => return None,
            }
            match (self.news.borrow_and_update().clone(), &before) {
                (Some(Ok(now)), Ok(before)) if now == *before => {}
                (Some(now), _) => return Some(now),
                (None, _) => {}
            }
        }
    }

    /// Sends a message. `false` if nobody watches any more, or if a watcher that does not read would delay the end of
    /// the service.
    async fn send(&self, message: Result<WatchImportResponse, Status>) -> bool {
        let over = async {
            self.imports.context().lifecycle.ended().await;
            sleep(FINAL_SEND_TIMEOUT).await;
        };
        tokio::select! {
            sent = self.sender.send(message) => sent.is_ok(),
            () = over => false,
        }
    }
}
