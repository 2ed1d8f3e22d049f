//! Watching one import: the end of a step is told at once, other changes at some distance from each other.

use std::{future::pending, time::Duration};

use causeway_proto::region::v1::WatchImportResponse;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    convert::view_to_proto,
    error::Error,
    import::{ImportView, Runner},
};

/// How often a watched import is looked at while nothing says that it changed: planning counts records silently, and
/// an import may run in another process.
const LOOK: Duration = Duration::from_millis(500);
/// The least pause between two messages of a watch, unless a step has ended.
const SPACING: Duration = Duration::from_millis(200);
/// How long somebody who watches may take to hear the last of it when the service stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Message = Result<WatchImportResponse, Status>;

/// Somebody who watches an import.
pub(super) struct Watcher {
    runner: Runner,
    id: Uuid,
    sender: mpsc::Sender<Message>,
    /// News of the import while it runs here, and how many steps had ended at the last look.
    news: Option<watch::Receiver<u64>>,
    steps: u64,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// Begins to listen. Look at the import only then, so that nothing happens in between.
    pub(super) fn new(
        runner: Runner,
        id: Uuid,
        sender: mpsc::Sender<Message>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut watcher = Self { runner, id, sender, news: None, steps: 0, _place: place };
        watcher.listen();
        watcher
    }

    fn listen(&mut self) {
        if self.news.is_none() {
            self.news = self.runner.live(self.id).map(|live| live.subscribe());
        }
        if let Some(news) = &mut self.news {
            self.steps = *news.borrow_and_update();
        }
    }

    /// Sends the import, and again whenever it has changed, until it has ended or nobody watches any more.
    pub(super) async fn run(mut self, first: ImportView) {
        let mut view = first;
        loop {
            let last = view.import.state.is_final();
            let import = Some(view_to_proto(view.clone(), self.runner.region()));
            if !self.send(Ok(WatchImportResponse { import })).await || last {
                return;
            }
            view = match self.changed(&view).await {
                Some(Ok(view)) => view,
                Some(Err(error)) => {
                    let _gone = self.send(Err(error.into())).await;
                    return;
                }
                None => return,
            };
        }
    }

    /// Sends a message. Whoever does not read is not waited for longer than the service lives; `false` then, or if
    /// nobody watches any more.
    async fn send(&self, message: Message) -> bool {
        let over = async {
            self.runner.ended().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            sent = self.sender.send(message) => sent.is_ok(),
            () = over => false,
        }
    }

    /// The import once it is other than `seen`; `None` if nobody watches any more.
    async fn changed(&mut self, seen: &ImportView) -> Option<Result<ImportView, Error>> {
        let spaced = Instant::now() + SPACING;
        loop {
            let (sender, runner) = (self.sender.clone(), self.runner.clone());
            // Not before the chunk in hand is done, which is shown too.
            let over = tokio::select! {
                () = sender.closed() => return None,
                () = runner.ended() => true,
                () = self.told(spaced) => false,
                () = sleep(LOOK) => false,
            };
            self.listen();
            match self.runner.view(self.id).await {
                Ok(view) if &view != seen => return Some(Ok(view)),
                _ if over => return Some(Err(Error::Stopping)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits for news that is worth a look.
    async fn told(&mut self, spaced: Instant) {
        let Some(news) = &mut self.news else { return pending().await };
        let mut due = false;
        loop {
            tokio::select! {
                told = news.changed() => match told {
                    Ok(()) if *news.borrow_and_update() == self.steps => due = true,
                    Ok(()) => return,
                    // The import runs here no longer.
                    Err(_) => break,
                },
                () = sleep_until(spaced), if due => return,
            }
        }
        self.news = None;
    }
}
