//! Fail-over among several services that answer alike, such as controls on one database: a call that one of them cannot
//! take goes to the next. Every call of the contract that writes may be repeated, so none is lost or done twice.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use causeway_proto::{failure::reason_of, relocation::v1::ErrorReason};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::InvalidUrl;

/// Channels to services that answer alike. Cheap to clone; clones agree on which one they ask first.
#[derive(Debug, Clone)]
pub struct Endpoints {
    channels: Arc<[Channel]>,
    /// The index of the one that answered last.
    first: Arc<AtomicUsize>,
}

impl From<Channel> for Endpoints {
    fn from(channel: Channel) -> Self {
        Self { channels: [channel].into(), first: Arc::default() }
    }
}

impl Endpoints {
    /// Channels to these URLs, made by `connect`.
    ///
    /// # Errors
    /// If there is no URL, or a text is not one.
    pub fn new(urls: &[String], connect: impl Fn(Endpoint) -> Channel) -> Result<Self, InvalidUrl> {
        let channel = |url: &String| match Endpoint::from_shared(url.clone()) {
            Ok(endpoint) => Ok(connect(endpoint)),
            Err(_) => Err(InvalidUrl(url.clone())),
        };
        let channels: Arc<[Channel]> = urls.iter().map(channel).collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return Err(InvalidUrl(String::new()));
        }
        Ok(Self { channels, first: Arc::default() })
    }

    /// Makes a call: at the service that answered last and, as long as that cannot take it, at each of the others.
    ///
    /// # Errors
    /// The error of the last service that was called.
    pub async fn call<T, F>(&self, mut call: impl FnMut(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut others = self.channels.len();
        loop {
            let (asked, channel) = self.current();
            match call(channel).await {
                Err(status) if is_away(&status) => {
                    others -= 1;
                    self.leave(asked);
                    if others == 0 {
                        return Err(status);
                    }
                    tracing::debug!(%status, "a service cannot take a call; the next one is asked");
                }
                answer => return answer,
            }
        }
    }

    /// The service to ask first, and its number, for calls that last.
    #[must_use]
    pub fn current(&self) -> (usize, Channel) {
        let number = self.first.load(Ordering::Relaxed) % self.channels.len();
        (number, self.channels[number].clone())
    }

    /// Asks the next one first from now on, unless somebody has left this one before.
    pub fn leave(&self, number: usize) {
        let next = (number + 1) % self.channels.len();
        let _left_before = self.first.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Whether another service may be able to take the call: this one is not there, is going, or has no database.
#[must_use]
pub fn is_away(status: &Status) -> bool {
    match reason_of(status) {
        Some(reason) => matches!(reason, ErrorReason::ShuttingDown | ErrorReason::DatabaseUnavailable),
        // The status is not from the service itself: the connection broke, or a proxy answered.
        None => is_of_connection(status.code()),
    }
}

/// Whether a broken connection may have this code, in a status that no service of Causeway made. The transport has many
/// for it.
pub(crate) fn is_of_connection(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
    )
}

#[cfg(test)]
mod tests {
    use causeway_proto::failure::Failure;

    use super::*;

    fn endpoints(count: usize) -> Endpoints {
        let urls: Vec<String> = (1..=count).map(|port| format!("http://127.0.0.1:{port}")).collect();
        Endpoints::new(&urls, |endpoint| endpoint.connect_lazy()).expect("URLs")
    }

    async fn asked(endpoints: &Endpoints, answer: impl Fn(usize) -> Result<(), Status>) -> (usize, bool) {
        let mut asked = 0;
        let outcome = endpoints
            .call(|_| {
                let (number, _) = endpoints.current();
                asked += 1;
                std::future::ready(answer(number))
            })
            .await;
        (asked, outcome.is_ok())
    }

    #[tokio::test]
    async fn a_call_goes_to_the_next_and_stays_there() {
        let endpoints = endpoints(3);
        let only =
            |wanted| move |number| if number == wanted { Ok(()) } else { Err(Status::unavailable("")) };
        assert_eq!(asked(&endpoints, only(2)).await, (3, true));
        assert_eq!(asked(&endpoints, only(2)).await, (1, true));
        assert_eq!(asked(&endpoints, only(0)).await, (2, true));
        // Each is asked once.
        assert_eq!(asked(&endpoints, |_| Err(Status::unavailable(""))).await, (3, false));
    }

    #[tokio::test]
    async fn an_answer_of_the_service_itself_is_final() {
        let endpoints = endpoints(2);
        let refuse = |reason| move |_| Err(Failure::new(reason, "no").into());
        assert_eq!(asked(&endpoints, refuse(ErrorReason::SlugTaken)).await, (1, false));
        assert_eq!(asked(&endpoints, refuse(ErrorReason::Internal)).await, (1, false));
        assert_eq!(asked(&endpoints, refuse(ErrorReason::ShuttingDown)).await, (2, false));
    }
}
