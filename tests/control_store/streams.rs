//! Bulk creations whose streams do not reach their end.

use std::time::Duration;

use causeway_proto::{
    control::v1::{
        BulkCreateOrganizationSlugReservationsRequest as Message,
        bulk_create_organization_slug_reservations_request::Part,
    },
    failure::{metadata_of, reason_of},
    relocation::v1::ErrorReason,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::{
    grpc::{Served, batch, header, serve},
    support::{Fixture, operation},
};

/// The most calls that a region may have at once here: half of all.
const CALLS_OF_REGION: u16 = 8;
/// The longest that anything may take. Nothing takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The number of calls that the test breaks off.
const CALLS: u16 = 150;

/// A call that sends the parts that it gets, and its outcome.
struct Call {
    parts: mpsc::Sender<Message>,
    call: JoinHandle<Result<(), Status>>,
}

impl Call {
    /// Starts a call that ends after this time, if any.
    fn begin(served: &Served, timeout: Option<Duration>) -> Self {
        let (parts, waiting) = mpsc::channel(8);
        let mut reservations = served.reservations();
        let call = tokio::spawn(async move {
            let mut request = Request::new(ReceiverStream::new(waiting));
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            let answers = reservations.bulk_create_organization_slug_reservations(request).await?;
            let mut answers = answers.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        });
        Self { parts, call }
    }

    /// Sends a part. Does nothing if the call is over.
    async fn send(&self, part: Part) {
        let _over = self.parts.send(Message { part: Some(part) }).await;
    }
}

/// In the transport, a cancelled or timed-out stream looks like one that has ended normally.
pub(crate) async fn a_stream_that_is_cut_off_reserves_nothing(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let id = |number: u16| operation(1_000 + u128::from(number)).to_string();
    for number in 0..CALLS {
        let timeout = (number % 2 == 0).then(|| Duration::from_micros(u64::from(number) * 100 + 500));
        let call = Call::begin(&served, timeout);
        call.send(header("us", &id(number))).await;
        for first in 0..i64::from(number % 4) {
            call.send(batch(first * 100 + 1..first * 100 + 101)).await;
        }
        match timeout {
            // The test sends nothing more until the time is over.
            Some(_) => {
                call.call.await.expect("no panic").expect_err("its time is over");
            }
            None => {
                tokio::task::yield_now().await;
                call.call.abort();
            }
        }
    }
    assert_eq!(fixture.reservations().await, []);
    // No operation has started either: each id can be used for something else.
    for number in 0..CALLS {
        let first = 1_000 + i64::from(number);
        let outcome = served.bulk_create(vec![header("us", &id(number)), batch(first..first + 1)]).await;
        outcome.unwrap_or_else(|status| panic!("operation {number}: {status:?}"));
    }
    assert_eq!(fixture.reservations().await.len(), usize::from(CALLS));
}

/// Callers that send no header take no places.
pub(crate) async fn a_bulk_creation_without_a_header_keeps_out_nobody(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let silent: Vec<Call> = (0..4 * CALLS_OF_REGION).map(|_| Call::begin(&served, None)).collect();
    let parts = vec![header("us", &operation(0).to_string()), batch(1..2)];
    served.bulk_create(parts).await.expect("there is a place");
    for call in silent {
        let status = call.call.await.expect("no panic").expect_err("nothing comes of it");
        assert_eq!(reason_of(&status), Some(ErrorReason::StreamStalled), "{status:?}");
    }
}

/// A bulk creation that stops sending leaves its place to others.
pub(crate) async fn a_bulk_creation_has_a_place_as_long_as_it_goes_on(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let served = serve(&fixture.control).await;
    let open = async |region: &str, number: u16| {
        let call = Call::begin(&served, None);
        call.send(header(region, &operation(u128::from(number)).to_string())).await;
        call.send(batch(1..2)).await;
        call
    };
    let mut silent = Vec::new();
    for number in 0..CALLS_OF_REGION {
        silent.push(open("us", number).await);
    }
    // Further calls are refused once control has counted these.
    let refused = async |region: &str| {
        let parts = vec![header(region, &operation(99).to_string()), batch(5_000..5_001)];
        let outcome = served.bulk_create(parts).await;
        outcome.is_err_and(|status| reason_of(&status) == Some(ErrorReason::TooManyBulkCreations))
    };
    let until = Instant::now() + PATIENCE;
    while !refused("us").await {
        assert!(Instant::now() < until, "control does not count the silent calls");
        // The test call itself may have got a place, and control may have closed any of these calls for
        // waiting too long.
        for (number, call) in silent.iter_mut().enumerate().filter(|(_, call)| call.call.is_finished()) {
            *call = open("us", u16::try_from(number).expect("a few")).await;
        }
    }
    assert!(!refused("de").await, "another region gets through");
    // In the end control stops waiting, and there are places again.
    for call in silent {
        let status = call.call.await.expect("no panic").expect_err("nothing comes of it");
        assert_eq!(reason_of(&status), Some(ErrorReason::StreamStalled), "{status:?}");
    }
    let parts = vec![header("us", &operation(0).to_string()), batch(6_000..6_001)];
    served.bulk_create(parts).await.expect("there is a place");
}

/// An operation that is larger than what a region may ever have is refused for good; one that only meets others is not.
pub(crate) async fn an_operation_that_would_never_fit_is_refused_for_good(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    // Half of it is enough for 50 organizations, and not for 100.
    let control = fixture.another_with_bytes(2 * 75 * 300).await;
    let served = serve(&control).await;
    let parts = |number: u128, count: i64| {
        let batches = (0..count / 50).map(|index| batch(index * 50 + 1..index * 50 + 51));
        [header("us", &operation(number).to_string())].into_iter().chain(batches).collect::<Vec<_>>()
    };
    for _again in 0..2 {
        let refused = served.bulk_create(parts(7, 100)).await.expect_err("it is too large");
        assert_eq!(reason_of(&refused), Some(ErrorReason::TooManySlugs), "{refused:?}");
        assert_eq!(metadata_of(&refused, "limit").as_deref(), Some("22500"));
        assert!(refused.message().contains("--max-bulk-bytes"), "{refused:?}");
    }
    assert_eq!(fixture.reservations().await, []);
    // Another one of the same region is under way, and takes more than half of what the region may have.
    let open = async || {
        let call = Call::begin(&served, None);
        call.send(header("us", &operation(8).to_string())).await;
        call.send(batch(1_001..1_051)).await;
        call
    };
    let mut call = open().await;
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        assert!(Instant::now() < until, "control does not count the other one");
        match served.bulk_create(parts(7, 50)).await {
            Err(refused) => break refused,
            // This one was first, and the other one may have been refused because of it.
            Ok(_) if call.call.is_finished() => call = open().await,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(reason_of(&refused), Some(ErrorReason::TooMuchInHand), "{refused:?}");
    call.call.abort();
    control.stop().await;
}
