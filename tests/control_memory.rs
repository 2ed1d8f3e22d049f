//! Measures how much memory control takes for what many callers send at once, and how much of it is left when they have
//! gone. Control is a process of its own, so that the kernel's figures are about control alone.

#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, clippy::print_stdout, reason = "all of this is test code, the helpers too")]

use std::time::Duration;

use causeway_bench::machine;
use causeway_harness::process::{self, Process};
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest as Message, CheckSlugsRequest,
        OrganizationSlugRequest, OrganizationSlugRequestBatch, RegisterRegionRequest,
        bulk_create_organization_slug_reservations_request::Part,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    failure::reason_of,
    relocation::v1::ErrorReason,
};
use causeway_silo::env::Environment;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// The most bulk creations at once, by default. Each of two regions may have half of them.
const STREAMS: i64 = 64;
const REGIONS: [&str; 2] = ["us", "de"];
/// The bytes that count against the limit for an organization with a slug of 50 characters and no name.
const ORGANIZATION: i64 = 256 + 50;
/// The number of organizations per message.
const BATCH: i64 = 1_000;
/// The size of the bulk creation that tests whether control is full: so many organizations that there is no room for
/// them when all streams are full.
const PROBE_ORGANIZATIONS: i64 = 8_000;
/// The longest that anything may take. Nothing in a usual run takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(180);
/// The most memory in KiB that control may have beyond its initial memory once the callers have gone.
const LEFT: u64 = 24 << 10;

struct Control {
    _directory: TempDir,
    process: Process,
    channel: Channel,
}

impl Control {
    async fn start(max_bulk_bytes: i64) -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        command
            .args(["control", "--listen", "127.0.0.1:0", "--database-url"])
            .arg(format!("sqlite:{}", directory.path().join("control.db").display()))
            .args(["--max-bulk-bytes", &max_bulk_bytes.to_string()]);
        let mut process = Process::start(command).expect("it runs");
        let url = process.served_at().expect("it serves");
        let channel = Endpoint::from_shared(url).expect("a URL").connect().await.expect("it listens");
        for region in REGIONS {
            let request = RegisterRegionRequest {
                name: region.to_owned(),
                address: format!("http://{region}.example.com"),
                instance_id: Environment::system().uuid().to_string(),
                ..RegisterRegionRequest::default()
            };
            RegionServiceClient::new(channel.clone()).register_region(request).await.expect("registered");
        }
        Self { _directory: directory, process, channel }
    }

    fn memory(&self) -> machine::Memory {
        machine::memory(self.process.id()).expect("it runs")
    }

    fn open(&self) -> Call {
        let (parts, waiting) = mpsc::channel(1);
        let mut reservations = SlugReservationServiceClient::new(self.channel.clone());
        let call = tokio::spawn(async move {
            let answers =
                reservations.bulk_create_organization_slug_reservations(ReceiverStream::new(waiting)).await?;
            let mut answers = answers.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        });
        Call { parts, call }
    }

    /// Whether control refuses a bulk creation of [`PROBE_ORGANIZATIONS`] organizations because others use up its memory limit. The
    /// bulk creation is never complete.
    async fn is_full(&self, region: &str) -> bool {
        let call = self.open();
        call.send(header(region)).await;
        call.send(batch(0..PROBE_ORGANIZATIONS)).await;
        drop(call.parts);
        let outcome = call.call.await.expect("no panic");
        outcome.is_err_and(|status| reason_of(&status) == Some(ErrorReason::TooMuchInHand))
    }
}

struct Call {
    parts: mpsc::Sender<Message>,
    call: JoinHandle<Result<(), Status>>,
}

impl Call {
    async fn send(&self, part: Part) {
        let _over = self.parts.send(Message { part: Some(part) }).await;
    }
}

fn header(region: &str) -> Part {
    let operation_id = Environment::system().uuid().to_string();
    Part::Header(BulkCreateHeader { region: region.to_owned(), operation_id })
}

fn batch(ids: std::ops::Range<i64>) -> Part {
    let request = |organization_id| OrganizationSlugRequest {
        organization_id: organization_id + 1,
        slug: format!("slug-{organization_id:0>45}"),
        ..OrganizationSlugRequest::default()
    };
    Part::Batch(OrganizationSlugRequestBatch { requests: ids.map(request).collect() })
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "{what}: not after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Opens as many streams as possible, fills them up to the limit on bytes, and closes them.
async fn what_bulk_creations_took_is_given_back(max_bulk_bytes: i64) {
    let control = Control::start(max_bulk_bytes).await;
    let idle = control.memory().resident;
    // The test for whether control is full needs a stream of its own, in one region and in total.
    let streams = STREAMS - 2;
    let per_region = max_bulk_bytes / 2 / ORGANIZATION - PROBE_ORGANIZATIONS / 2;
    let each = per_region / (streams / 2);
    let mut calls = Vec::new();
    for number in 0..streams {
        let call = control.open();
        let region = if number % 2 == 0 { "us" } else { "de" };
        call.send(header(region)).await;
        for first in (0..each).step_by(usize::try_from(BATCH).expect("small")) {
            call.send(batch(first..(first + BATCH).min(each))).await;
        }
        calls.push(call);
    }
    until("all of it is in hand", async || control.is_full("us").await && control.is_full("de").await).await;
    let full = control.memory();
    for call in &calls {
        assert!(!call.call.is_finished(), "a stream that fits was refused");
        call.call.abort();
    }
    drop(calls);
    until("the places are free", async || !control.is_full("us").await && !control.is_full("de").await).await;
    let after = control.memory();
    let begun = Instant::now();
    let mut left = after.resident;
    while left > idle + LEFT && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        left = control.memory().resident;
    }
    println!(
        "{streams} streams of {each} organizations, {} MiB by the limit: {} KiB before, {} full, {} at the peak, {} \
         just after, {left} after {:?}",
        max_bulk_bytes >> 20,
        idle,
        full.resident,
        full.peak,
        after.resident,
        begun.elapsed()
    );
    let beyond = full.peak - idle;
    let limit = u64::try_from(max_bulk_bytes).expect("positive") >> 10;
    assert!(beyond <= limit + LEFT, "{beyond} KiB were in use, and {limit} may be");
    assert!(left <= idle + LEFT, "{left} KiB are left of {}, and {idle} were there before", full.resident);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_hand_of_bulk_creations_is_bounded_and_given_back() {
    what_bulk_creations_took_is_given_back(128 << 20).await;
}

/// With the default limits of a control. To see the figures:
/// `cargo test --test control_memory -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a gibibyte of memory, and minutes"]
async fn what_is_in_hand_by_default_is_given_back() {
    what_bulk_creations_took_is_given_back(1 << 30).await;
}

/// A message of the greatest size, full of empty entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_of_two_million_empty_entries_costs_no_more_than_its_bytes() {
    let control = Control::start(2 << 20).await;
    let idle = control.memory();
    for _ in 0..3 {
        let organizations = vec![OrganizationSlugRequest::default(); 2_000_000];
        let question = CheckSlugsRequest { organizations, ..CheckSlugsRequest::default() };
        let refused = DirectoryServiceClient::new(control.channel.clone()).check_slugs(question).await;
        assert_eq!(refused.expect_err("it is too much").code(), Code::InvalidArgument);
    }
    let after = control.memory();
    println!(
        "a question of 4 MiB: {} KiB before, {} at the peak, {} after",
        idle.resident, after.peak, after.resident
    );
    let beyond = after.peak - idle.resident;
    assert!(beyond <= LEFT, "{beyond} KiB for a message of 4 MiB");
}
