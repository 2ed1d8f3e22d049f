//! Calls by somebody who waits for the answer: a service that is called too much is called again when it asks for that.

use std::time::Duration;

use causeway_proto::{failure::reason_of, relocation::v1::ErrorReason};
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::{CallError, Client};

/// A service is not called again sooner than this, whatever it asks for.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// How long to wait before the same call is made again, because the service reports that this caller calls too much.
/// `None` if the call has failed for another reason, or the wait would not end before `deadline`.
pub(crate) fn wait_before(status: &Status, deadline: Instant) -> Option<Duration> {
    if reason_of(status) != Some(ErrorReason::TooManyCalls) {
        return None;
    }
    let wanted = status.get_error_details().retry_info()?.retry_delay?.max(LEAST_WAIT);
    (wanted < deadline.saturating_duration_since(Instant::now())).then_some(wanted)
}

impl Client {
    /// Makes a unary call, with the deadline of one. If the service reports that the client calls too much, it waits as
    /// long as the service asks, and calls again within that deadline. `call` gets this client, and the request for each
    /// attempt.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn ask<M: Clone, T>(
        &self,
        message: M,
        call: impl AsyncFn(&Self, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        self.ask_within(self.timeouts().call, message, call).await
    }

    /// Like [`ask`](Self::ask), with a deadline of its own.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn ask_within<M: Clone, T>(
        &self,
        limit: Duration,
        message: M,
        call: impl AsyncFn(&Self, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        self.patiently(limit, async |left| {
            let mut request = self.request(message.clone());
            request.set_timeout(left);
            call(self, request).await
        })
        .await
    }

    /// Like [`ask`](Self::ask), for a stream of answers: it has no deadline, and only waiting for it to begin ends with
    /// that of a unary call.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn open<M: Clone, T>(
        &self,
        message: M,
        call: impl AsyncFn(&Self, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        self.patiently(self.timeouts().call, async |_| call(self, self.request(message.clone())).await).await
    }

    /// Makes a call again whenever the service asks for that, within a limit. `call` gets the time that is left.
    async fn patiently<T>(
        &self,
        limit: Duration,
        call: impl AsyncFn(Duration) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + limit;
        loop {
            match call(deadline.saturating_duration_since(Instant::now())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => match wait_before(&status, deadline) {
                    Some(wait) => sleep(wait).await,
                    None => return Err(self.failed(status)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashMap};

    use causeway_proto::failure::{DOMAIN, Failure, reason_name};
    use tonic_types::ErrorDetails;

    use super::*;
    use crate::{Service, Timeouts};

    fn client() -> Client {
        let urls = ["http://127.0.0.1:7".to_owned()];
        Client::new(Service::Control, &urls, Timeouts::default()).expect("a client")
    }

    fn too_many() -> Status {
        Failure::new(ErrorReason::TooManyCalls, "later").into()
    }

    /// Asks a service that refuses so many calls. Returns whether it was answered, how often it was called, and the time
    /// that this took.
    async fn asked(refusals: u32, refusal: fn() -> Status) -> (bool, u32, Duration) {
        let (calls, began) = (Cell::new(0), Instant::now());
        let answer = client()
            .ask(7, async |_, request: Request<i32>| {
                calls.set(calls.get() + 1);
                if calls.get() <= refusals { Err(refusal()) } else { Ok(Response::new(request.into_inner())) }
            })
            .await;
        (answer.is_ok_and(|answer| answer == 7), calls.get(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_made_again_when_the_service_asks_for_that() {
        let second = Duration::from_secs(1);
        assert_eq!(asked(0, too_many).await, (true, 1, Duration::ZERO));
        assert_eq!(asked(1, too_many).await, (true, 2, second));
        assert_eq!(asked(3, too_many).await, (true, 4, 3 * second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_always_asks_for_more_time_is_given_up_at_the_deadline() {
        let (answered, calls, took) = asked(u32::MAX, too_many).await;
        let limit = Timeouts::default().call;
        assert!(!answered && calls <= 30 && took < limit && took > limit / 2, "{calls} calls, {took:?}");
        let opened = client().open((), async |_, _: Request<()>| Err::<Response<()>, _>(too_many())).await;
        let refused = opened.expect_err("it is given up");
        assert_eq!(refused.reason(), Some(ErrorReason::TooManyCalls));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_for_another_reason_is_not_asked_again() {
        let other = || Failure::new(ErrorReason::SlugNotFound, "no slug").into();
        assert_eq!(asked(1, other).await, (false, 1, Duration::ZERO));
        let full = || Failure::new(ErrorReason::DatabaseUnavailable, "later").into();
        assert_eq!(asked(1, full).await, (false, 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_wait_is_not_heeded() {
        let wanting = |delay| {
            let name = reason_name(ErrorReason::TooManyCalls);
            let mut details = ErrorDetails::with_error_info(name, DOMAIN, HashMap::<String, String>::new());
            details.set_retry_info(Some(delay));
            Status::with_error_details(tonic::Code::ResourceExhausted, "later", details)
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        assert_eq!(wait_before(&wanting(Duration::MAX), deadline), None);
        assert_eq!(wait_before(&wanting(Duration::ZERO), deadline), Some(LEAST_WAIT));
    }
}
