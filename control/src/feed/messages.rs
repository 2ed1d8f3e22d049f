//! What a reader of feeds receives.

use futures::{Stream, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::Error;

/// The messages of feeds for one reader. The last item is always an error, which says why there are no more; so a feed
/// never looks as if it were complete. Dropping it ends the reading.
#[derive(Debug)]
pub struct Messages<M> {
    messages: mpsc::Receiver<M>,
    /// The task that sends the messages. It ends with an error; `None` once that error was reported.
    sending: Option<AbortOnDropHandle<Error>>,
}

impl<M> Messages<M> {
    pub(super) fn new(messages: mpsc::Receiver<M>, sending: AbortOnDropHandle<Error>) -> Self {
        Self { messages, sending: Some(sending) }
    }

    /// The next message; after the last one the error that ended the feed, and then `None`.
    pub async fn recv(&mut self) -> Option<Result<M, Error>> {
        if let Some(message) = self.messages.recv().await {
            return Some(Ok(message));
        }
        let error = self.sending.as_mut()?.await.unwrap_or_else(|gone| Error::TaskFailed(gone.to_string()));
        self.sending = None;
        Some(Err(error))
    }

    /// The same as a stream.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<M, Error>> {
        stream::unfold(self, async |mut messages| Some((messages.recv().await?, messages)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends two messages, more than the channel holds, and then ends as `end` does.
    async fn received(end: impl Future<Output = Error> + Send + 'static) -> Vec<Result<u32, Error>> {
        let (sender, messages) = mpsc::channel(1);
        let sending = tokio::spawn(async move {
            sender.send(1).await.expect("somebody reads");
            sender.send(2).await.expect("somebody reads");
            drop(sender);
            end.await
        });
        let mut messages = Messages::new(messages, AbortOnDropHandle::new(sending));
        let mut received = Vec::new();
        while let Some(message) = messages.recv().await {
            received.push(message);
        }
        received
    }

    #[tokio::test]
    async fn a_reader_that_lags_behind_is_told_why_its_feed_ends() {
        let received = received(async { Error::TooManyWatches { limit: 4 } }).await;
        assert!(
            matches!(received[..], [Ok(1), Ok(2), Err(Error::TooManyWatches { limit: 4 })]),
            "{received:?}"
        );
    }

    #[tokio::test]
    async fn a_feed_whose_task_is_gone_does_not_look_complete() {
        let received = received(async { panic!("a defect") }).await;
        assert!(matches!(received[..], [Ok(1), Ok(2), Err(Error::TaskFailed(_))]), "{received:?}");
    }
}
