//! `directory`: what many slugs take in the memory of a router's directory and in control's database, how long their
//! snapshots take, and how fast the directory answers.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    net::Ipv4Addr,
    process,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use causeway_client::{Client, Timeouts};
use causeway_directory::{Directory, Options as Following};
use causeway_harness::postgres::Postgres;
use causeway_proto::control::v1::{
    FeedEvent, FeedEvents, FeedRegion, FeedRegions, FeedReservation, FeedSnapshot, RegionFeed,
    ReservationType, WatchAllSlugReservationsRequest, WatchAllSlugReservationsResponse, feed_event::Change,
    region_feed, watch_all_slug_reservations_response::Part,
};
use futures::{StreamExt as _, stream, stream::BoxStream};
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, ServerStreamingService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::{directory_database as database, machine, report::Report, rig};

/// What a measurement of a directory measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Number of slugs that exist.
    pub slugs: u64,
    /// Number of regions that have them, all the same number.
    pub regions: u64,
    /// Whether they come from a control on PostgreSQL, whose tables are measured too. Otherwise they come from this
    /// process, which makes them up as it sends them.
    pub database: bool,
}

impl Options {
    /// How many slugs are resolved: fewer if there are few.
    fn resolved(&self) -> u64 {
        RESOLVED.min(self.slugs.saturating_mul(10))
    }

    /// How many events are sent, in full batches.
    fn events(&self) -> u64 {
        EVENTS.min(self.slugs.div_ceil(BATCH).saturating_mul(BATCH))
    }
}

const COLUMNS: &[&str] = &["what", "figure", "for each slug"];
/// How long all snapshots may take.
const READY_WITHIN: Duration = Duration::from_secs(3_600);
/// The most slugs that are resolved to measure how long that takes.
const RESOLVED: u64 = 1_000_000;
/// The most events that are sent to measure how long they take.
const EVENTS: u64 = 200_000;
/// The most reservations or events of one message, as control has it.
const BATCH: u64 = 2_000;
/// A directory that does not know all events after this time is broken.
const EVENTS_WITHIN: Duration = Duration::from_secs(600);
/// How often it is asked whether it knows them.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// Measures, with the directory in this process.
///
/// # Errors
/// If a call fails, or the directory answers wrongly.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    ensure!(options.regions > 0 && options.slugs >= options.regions, "each region needs a slug");
    let mut report = Report::new("A directory of many slugs", COLUMNS);
    if options.database {
        let postgres = Postgres::start_durable().await?;
        let url = postgres.create_database("control").await?;
        let place = tempfile::Builder::new().prefix("causeway-bench-").tempdir()?;
        let arguments = ["serve-control", "--without-directory"];
        // The first one makes the tables.
        rig::Service::of_this_program(place.path(), &arguments, &url).await?.stop()?;
        let sizes = database::fill(&url, options).await?;
        let control = rig::Service::of_this_program(place.path(), &arguments, &url).await?;
        let directory = follow(&control.url(), options, &mut report).await?;
        resolve(&directory, options, &mut report)?;
        add_bytes(&mut report, options, "most memory of control meanwhile", control.memory()?.peak * 1024);
        for (what, bytes) in sizes {
            add_bytes(&mut report, options, what, bytes);
        }
        control.stop()?;
    } else {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let source = Source { options: *options, go_on: Arc::default() };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = Server::builder().add_service(source.clone()).serve_with_incoming(incoming);
        let served = tokio::spawn(served);
        let directory = follow(&url, options, &mut report).await?;
        resolve(&directory, options, &mut report)?;
        events(&directory, &source, &mut report).await?;
        served.abort();
    }
    let from = match options.database {
        true => "a control on PostgreSQL",
        false => "a server in this process that makes them up",
    };
    report.note(format!(
        "{} slugs such as {} of {} regions, from {from}; the allocator of the system.",
        options.slugs,
        slug(options.slugs / 2),
        options.regions
    ));
    Ok(report)
}

/// The slug of this number, counted from 0.
pub(crate) fn slug(number: u64) -> String {
    format!("organization-{number}")
}

/// The name of the region of this number. They are sorted by name as by number.
pub(crate) fn region(number: u64) -> String {
    format!("region-{number:06}")
}

fn add_bytes(report: &mut Report, options: &Options, what: &str, bytes: u64) {
    let each = bytes as f64 / options.slugs as f64;
    report.add(
        vec![
            what.to_owned(),
            format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
            format!("{each:.0} B"),
        ],
        json!({ "what": what, "bytes": bytes, "bytes_for_each_slug": each }),
    );
}

fn add_rate(report: &mut Report, what: &str, times: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    report.add(
        vec![
            what.to_owned(),
            format!("{:.0}/s", times as f64 / seconds),
            format!("{:.2} µs", seconds / times as f64 * 1e6),
        ],
        json!({ "what": what, "times": times, "seconds": seconds }),
    );
}

/// Follows the control at an address until all snapshots are in.
async fn follow(url: &str, options: &Options, report: &mut Report) -> anyhow::Result<Directory> {
    let before = machine::memory(process::id())?;
    let began = Instant::now();
    let client = Client::new(causeway_client::Service::Control, &[url.to_owned()], Timeouts::default())?;
    let following = Following { silence: READY_WITHIN, ..Following::default() };
    let directory = Directory::follow(client, following);
    tokio::time::timeout(READY_WITHIN, directory.ready()).await.context("the directory is not ready")?;
    let took = began.elapsed();
    let after = machine::memory(process::id())?;
    let known: usize = directory.regions().iter().map(|region| region.slugs).sum();
    ensure!(u64::try_from(known)? == options.slugs, "the directory knows {known} slugs");
    let seconds = took.as_secs_f64();
    report.add(
        vec![
            "until all snapshots are in".to_owned(),
            format!("{seconds:.1} s"),
            format!("{:.2} µs", seconds / options.slugs as f64 * 1e6),
        ],
        json!({ "what": "until all snapshots are in", "seconds": seconds }),
    );
    let resident = after.resident.saturating_sub(before.resident) * 1024;
    add_bytes(report, options, "memory with all slugs", resident);
    add_bytes(report, options, "most memory until then", after.peak.saturating_sub(before.resident) * 1024);
    Ok(directory)
}

/// Resolves slugs one after the other, in one thread.
fn resolve(directory: &Directory, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let resolved = options.resolved();
    let asked: Vec<String> = (0..resolved).map(|number| slug(number * 7_919 % options.slugs)).collect();
    for slug in asked.iter().step_by(100) {
        let found = directory.resolve(slug).with_context(|| format!("nobody has {slug}"))?;
        ensure!(found.canonical_slug == *slug, "{slug} leads to {}", found.canonical_slug);
    }
    let began = Instant::now();
    let found = asked.iter().filter(|slug| black_box(directory.resolve(slug)).is_some()).count();
    add_rate(report, "slugs resolved, in one thread", resolved, began.elapsed());
    ensure!(u64::try_from(found)? == resolved, "{found} of {resolved} slugs lead anywhere");
    let asked: Vec<String> = (0..resolved).map(|number| format!("nobody-{number}")).collect();
    let began = Instant::now();
    let found = asked.iter().filter(|slug| black_box(directory.resolve(slug)).is_some()).count();
    add_rate(report, "slugs that nobody has, in one thread", resolved, began.elapsed());
    ensure!(found == 0, "{found} slugs lead somewhere that nobody has");
    Ok(())
}

/// Has events sent, and waits until the directory knows the last one.
async fn events(directory: &Directory, source: &Source, report: &mut Report) -> anyhow::Result<()> {
    let events = source.options.events();
    let last = slug(source.options.slugs + events - 1);
    ensure!(directory.resolve(&last).is_none(), "somebody has {last} already");
    let began = Instant::now();
    source.go_on.notify_one();
    while directory.resolve(&last).is_none() {
        ensure!(began.elapsed() < EVENTS_WITHIN, "the directory does not hear of {last}");
        tokio::time::sleep(ASK_EVERY).await;
    }
    add_rate(report, "events of new slugs, taken in", events, began.elapsed());
    Ok(())
}

/// Sends the feeds of all regions as control does, and makes them up as it sends them.
#[derive(Debug, Clone)]
struct Source {
    options: Options,
    /// Notified when the events shall be sent that follow the snapshots.
    go_on: Arc<Notify>,
}

fn message(part: Part) -> WatchAllSlugReservationsResponse {
    WatchAllSlugReservationsResponse { part: Some(part) }
}

fn feed(of: u64, part: region_feed::Part, current_version: i64) -> WatchAllSlugReservationsResponse {
    message(Part::Feed(RegionFeed { region: region(of), part: Some(part), current_version }))
}

fn reservation(number: u64) -> FeedReservation {
    FeedReservation {
        slug: slug(number),
        organization_id: i64::try_from(number).unwrap_or(i64::MAX),
        r#type: ReservationType::Primary.into(),
        canonical_slug: slug(number),
        ..FeedReservation::default()
    }
}

impl Source {
    /// The list of all regions, in parts.
    fn listed(&self) -> impl Iterator<Item = WatchAllSlugReservationsResponse> + use<> {
        let all = self.options.regions;
        (0..all).step_by(1_000).map(move |from| {
            let to = (from + 1_000).min(all);
            let listed = (from..to).map(|number| FeedRegion {
                name: region(number),
                address: format!("http://{}.example.com", region(number)),
            });
            let (first, last) = (from == 0, to == all);
            message(Part::Regions(FeedRegions { regions: listed.collect(), first, last }))
        })
    }

    /// The snapshots, one region after the other.
    fn snapshots(&self) -> impl Iterator<Item = WatchAllSlugReservationsResponse> + use<> {
        let Options { slugs, regions, .. } = self.options;
        (0..regions).flat_map(move |of| {
            // The slugs of a region lie as far apart as there are regions.
            let count = (slugs - of).div_ceil(regions);
            (0..count).step_by(BATCH as usize).map(move |from| {
                let to = (from + BATCH).min(count);
                let reservations = (from..to).map(|index| reservation(index * regions + of)).collect();
                let (first, last) = (from == 0, to == count);
                let part = FeedSnapshot { version: 1, reservations, first, last };
                feed(of, region_feed::Part::Snapshot(part), 1)
            })
        })
    }

    /// Events of further slugs, which regions get in turn, a batch each.
    fn events(&self) -> impl Iterator<Item = WatchAllSlugReservationsResponse> + Clone + use<> {
        let Options { slugs, regions, .. } = self.options;
        (0..self.options.events() / BATCH).map(move |turn| {
            let after = i64::try_from(turn / regions * BATCH).unwrap_or(i64::MAX) + 1;
            let events: Vec<FeedEvent> = (slugs + turn * BATCH..)
                .take(BATCH as usize)
                .zip(after + 1..)
                .map(|(number, version)| FeedEvent {
                    version,
                    change: Some(Change::Reservation(reservation(number))),
                })
                .collect();
            let version = events.last().map_or(after, |event| event.version);
            feed(turn % regions, region_feed::Part::Events(FeedEvents { events }), version)
        })
    }
}

impl ServerStreamingService<WatchAllSlugReservationsRequest> for Source {
    type Response = WatchAllSlugReservationsResponse;
    type ResponseStream = BoxStream<'static, Result<WatchAllSlugReservationsResponse, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _request: Request<WatchAllSlugReservationsRequest>) -> Self::Future {
        let known = stream::iter(self.listed().chain(self.snapshots()));
        let (go_on, events) = (Arc::clone(&self.go_on), self.events());
        let later = stream::once(async move { go_on.notified().await }).flat_map(move |()| {
            // The notification comes once.
            stream::iter(events.clone())
        });
        ready(Ok(Response::new(known.chain(later).chain(stream::pending()).map(Ok).boxed())))
    }
}

impl NamedService for Source {
    const NAME: &'static str = "causeway.control.v1.SlugReservationService";
}

impl Service<http::Request<Body>> for Source {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let source = self.clone();
        Box::pin(async move {
            if !request.uri().path().ends_with("/WatchAllSlugReservations") {
                return Ok(Status::unimplemented("only the feeds of all regions").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).server_streaming(source, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_directory_takes_in_what_is_made_up_for_it() {
        // Regions whose numbers of slugs differ, and whose snapshots have several parts.
        for (slugs, regions) in [(10_001, 3), (50, 50)] {
            let report = run(&Options { slugs, regions, database: false }).await.unwrap();
            let table = report.table();
            assert!(table.contains("events of new slugs, taken in"), "{table}");
        }
        run(&Options { slugs: 2, regions: 3, database: false }).await.unwrap_err();
    }
}
