//! How a region stops: what is cancelled, and what is waited for.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::Error;

/// The life of a region in this process, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// No import continues after the chunk in hand, and no upload begins.
    stop: CancellationToken,
    /// Uploads that are under way have had their time.
    uploads_over: CancellationToken,
    tasks: TaskTracker,
    /// Those who watch imports, until they have received the last message.
    watchers: TaskTracker,
}

impl Lifecycle {
    /// Whether the region stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends when the region begins to stop.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether uploads that are under way have had their time.
    pub(crate) fn are_uploads_over(&self) -> bool {
        self.uploads_over.is_cancelled()
    }

    /// Ends when uploads that are under way have had their time.
    pub(crate) async fn uploads_over(&self) {
        self.uploads_over.cancelled().await;
    }

    /// Ends when the region stops and nothing runs in its background any more.
    pub(crate) async fn ended(&self) {
        self.stopping().await;
        self.tasks.wait().await;
    }

    /// Begins to stop: running steps end at the next chunk, and continue when the region is back.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops, ends the uploads that are still under way, and waits until nothing runs any more.
    pub(crate) async fn stop(&self) {
        self.begin_stop();
        self.uploads_over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // They read once more, for the last chunk.
        self.watchers.close();
        self.watchers.wait().await;
    }

    /// Runs something that ends by itself when the region stops, before it has stopped.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.tasks.spawn(task);
        }
    }

    /// Runs something that reports imports to a watcher, as long as the database is there.
    pub(crate) fn watched(&self, watcher: impl Future<Output = ()> + Send + 'static) {
        self.watchers.spawn(watcher);
    }

    /// Runs something to its end, even if its caller goes away.
    ///
    /// # Errors
    /// Those of the task, and if it panics.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.tasks.spawn(task).await.map_err(|error| Error::of_task("a task", &error))?
    }
}
