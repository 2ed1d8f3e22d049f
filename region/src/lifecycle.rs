//! How a region stops: what it cancels, and what it waits for.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::Error;

/// The life of a region in this process, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// Cancelled when the region begins to stop: imports end after the current chunk, and no upload begins.
    stop: CancellationToken,
    /// Cancelled later, when uploads that are still running must end.
    uploads_over: CancellationToken,
    tasks: TaskTracker,
    /// Tasks that report imports to watchers. They end when they have sent the last message.
    watchers: TaskTracker,
}

impl Lifecycle {
    /// Whether the region is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Returns when the region begins to stop.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether uploads that are still running must end.
    pub(crate) fn are_uploads_over(&self) -> bool {
        self.uploads_over.is_cancelled()
    }

    /// Returns when uploads that are still running must end.
    pub(crate) async fn uploads_over(&self) {
        self.uploads_over.cancelled().await;
    }

    /// Returns when the region stops and no background task runs any more.
    pub(crate) async fn ended(&self) {
        self.stopping().await;
        self.tasks.wait().await;
    }

    /// Begins to stop: running steps end after the current chunk, and continue when the region is back.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops, ends the uploads that are still running, and waits until no task runs any more.
    pub(crate) async fn stop(&self) {
        self.begin_stop();
        self.uploads_over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // Watchers read once more, to report the last chunk.
        self.watchers.close();
        self.watchers.wait().await;
    }

    /// Runs a task in the background. The task must end by itself when the region stops; the stop waits for it.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.tasks.spawn(task);
        }
    }

    /// Runs a task that reports imports to a watcher. The database is open until that task has ended.
    pub(crate) fn watched(&self, watcher: impl Future<Output = ()> + Send + 'static) {
        self.watchers.spawn(watcher);
    }

    /// Runs a task to its end, even if its caller goes away. It is part of the current call.
    ///
    /// # Errors
    /// The error of the task, or an internal error if it panics.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.tasks
            .spawn(causeway_audit::in_current_call(task))
            .await
            .map_err(|error| Error::of_task("a task", &error))?
    }
}
