//! `resolve`: how fast slugs are resolved, from a directory in memory and from control's database, compared with an
//! empty handler in the same server; and how long a directory's answers are out of date after a change.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use causeway_client::{Client, Timeouts};
use causeway_control::Control;
use causeway_directory::Directory;
use causeway_proto::control::v1::{
    BatchResolveSlugsRequest, ConfirmOrganizationSlugReservationsRequest, ResolveSlugRequest,
    directory_service_client::DirectoryServiceClient,
    slug_reservation_service_client::SlugReservationServiceClient,
};
use causeway_silo::{
    db::{self, Db, Statement},
    env::Environment,
};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{
    service::RoutesBuilder,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{
    report::{Report, median, percentile},
    reserve,
    rig::{Rig, Service, Store},
    unary,
};

/// What a measurement of resolving slugs measures, and with which program.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of slugs that exist.
    pub slugs: u64,
    /// How many times to measure each kind of call. The result is the median.
    pub rounds: usize,
    /// How long each measurement takes.
    pub length: Duration,
    /// Path of the `causeway` program to measure.
    pub causeway: PathBuf,
}

pub(crate) const CONNECTIONS: usize = 4;
/// Calls in flight on each connection.
pub(crate) const IN_FLIGHT: u64 = 16;
const BATCH: u64 = 1_000;
/// The region that has the slugs.
const REGION: &str = "elsewhere";
/// How many changes are made to measure how long the directory is out of date.
const CHANGES: usize = 200;
/// The id of the first changed organization. All ids before the measurement are smaller.
const FIRST_CHANGED: i64 = 1_000_000_000;
/// A directory that does not know a change after this time is broken.
const STALENESS_LIMIT: Duration = Duration::from_secs(10);

const COLUMNS: &[&str] = &["call", "calls/s", "p50", "p99", "p99.9", "ratio"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Directory,
    Resolve,
    Batch,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Empty, Self::Directory, Self::Resolve, Self::Batch];

    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty handler",
            Self::Directory => "the same, from a directory in memory",
            Self::Resolve => "ResolveSlug of control, from the database",
            Self::Batch => "BatchResolveSlugs of 1,000",
        }
    }
}

/// Fills the empty database of a control with a region and its slugs.
pub(crate) async fn prepare(database_url: &str, options: &Options) -> anyhow::Result<()> {
    let control = Db::connect(database_url, &db::Options::default()).await?;
    let mut tx = control.begin().await?;
    let added = Statement::new("INSERT INTO causeway_added_region (name, added_at) VALUES ($1, $2)")
        .with(REGION)
        .with(Environment::system().now());
    tx.execute(added).await?;
    let region = Statement::new(
        "INSERT INTO causeway_region (name, address, instance_id, created_at, last_seen_at) VALUES ($1, $2, $3, $4, $4)",
    )
    .with(REGION)
    .with("http://127.0.0.1:50052")
    .with(Environment::system().uuid())
    .with(Environment::system().now());
    tx.execute(region).await?;
    tx.commit().await?;
    crate::fill::reservations(&control, REGION, i64::try_from(options.slugs)?).await?;
    control.close().await;
    Ok(())
}

/// Measures, with the server in a process of its own, and returns the results.
///
/// # Errors
/// If a call fails.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let rig = Rig::start(Store::Postgres, &options.causeway).await?;
    let databases = rig.named("empty");
    prepare(&databases.control, options).await?;

    let service = Service::of_this_program(rig.directory(), &["serve-control"], &databases.control).await?;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(Endpoint::from_shared(service.url())?.tcp_nodelay(true).connect().await?);
    }
    let mut rates = Kind::ALL.map(|_| Vec::new());
    let mut times = Kind::ALL.map(|_| Vec::new());
    for round in 0..=options.rounds {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let (calls, took, mut measured) = load(&channels, kind, options).await?;
            // The first round warms up.
            if round > 0 {
                rates[index].push(calls / took);
                times[index].append(&mut measured);
            }
        }
    }
    let (count, mut behind) = staleness(&channels[0]).await?;
    service.stop()?;

    let mut report = Report::new("Resolving of slugs", COLUMNS);
    let empty = median(rates[0].clone());
    for ((kind, rates), mut times) in Kind::ALL.into_iter().zip(rates).zip(times) {
        times.sort_by(f64::total_cmp);
        let rate = median(rates);
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| percentile(&times, percent));
        let milliseconds = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        let ratio = matches!(kind, Kind::Directory | Kind::Resolve).then_some(rate / empty);
        report.add(
            vec![
                kind.name().to_owned(),
                format!("{rate:.0}"),
                milliseconds(p50),
                milliseconds(p99),
                milliseconds(p999),
                ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            ],
            json!({
                "call": kind.name(), "calls_per_second": rate, "p50_seconds": p50, "p99_seconds": p99,
                "p999_seconds": p999, "ratio": ratio,
            }),
        );
    }
    report.note(format!(
        "{} slugs on PostgreSQL; {CONNECTIONS} connections with {IN_FLIGHT} calls in flight on each, from another \
         process; medians of {} rounds, in turns.",
        options.slugs, options.rounds
    ));
    behind.sort_by(f64::total_cmp);
    report.note(format!(
        "Staleness: {count} slugs were reserved and confirmed one after the other. From the answer to the confirmation until \
         the directory, which hears of it by its feed, knew the slug: {:.1} ms (p50), {:.1} ms (p99).",
        percentile(&behind, 50.0) * 1e3,
        percentile(&behind, 99.0) * 1e3
    ));
    Ok(report)
}

/// Keeps calls of a kind in flight for `options.length`. Returns how many ended, in how many seconds, and the seconds
/// of each.
pub(crate) async fn load(
    channels: &[Channel],
    kind: Kind,
    options: &Options,
) -> anyhow::Result<(f64, f64, Vec<f64>)> {
    let began = Instant::now();
    let until = began + options.length;
    let mut tasks = Vec::new();
    for (number, channel) in channels.iter().enumerate() {
        for flight in 0..IN_FLIGHT {
            let (channel, slugs) = (channel.clone(), options.slugs);
            let first = number as u64 * IN_FLIGHT + flight;
            tasks.push(tokio::spawn(async move {
                let mut times = Vec::new();
                let mut next = first * 7_919;
                while Instant::now() < until {
                    next += 1;
                    let began = Instant::now();
                    call(&channel, kind, next, slugs).await?;
                    times.push(began.elapsed().as_secs_f64());
                }
                anyhow::Ok(times)
            }));
        }
    }
    let mut times = Vec::new();
    for task in tasks {
        times.append(&mut task.await??);
    }
    Ok((times.len() as f64, began.elapsed().as_secs_f64(), times))
}

async fn call(channel: &Channel, kind: Kind, number: u64, slugs: u64) -> anyhow::Result<()> {
    let slug = |number: u64| format!("elsewhere-{}", number % slugs + 1);
    match kind {
        Kind::Empty => {
            unary::call(channel, unary::EMPTY, slug(number)).await?;
        }
        Kind::Directory => {
            let asked = slug(number);
            let answer = unary::call(channel, unary::DIRECTORY, asked.clone()).await?;
            let organization = answer.organization.context("there is no organization in the answer")?;
            ensure!(organization.slug == asked, "{} was answered for {asked}", organization.slug);
        }
        Kind::Resolve => {
            let asked = slug(number);
            let mut client = DirectoryServiceClient::new(channel.clone());
            let answer = client.resolve_slug(ResolveSlugRequest { slug: asked.clone() }).await?.into_inner();
            let organization = answer.organization.context("there is no organization in the answer")?;
            ensure!(organization.slug == asked, "{} was answered for {asked}", organization.slug);
        }
        Kind::Batch => {
            let asked = (0..BATCH).map(|index| slug(number * BATCH + index)).collect();
            let mut client = DirectoryServiceClient::new(channel.clone());
            let answer =
                client.batch_resolve_slugs(BatchResolveSlugsRequest { slugs: asked }).await?.into_inner();
            ensure!(answer.organizations.len() as u64 == BATCH, "{} were found", answer.organizations.len());
        }
    }
    Ok(())
}

/// How long it takes until the directory knows what control has confirmed: the number of changes, and the seconds of
/// each.
async fn staleness(channel: &Channel) -> anyhow::Result<(usize, Vec<f64>)> {
    let env = Environment::system();
    let mut behind = Vec::new();
    for change in 0..CHANGES {
        let slug = format!("change-{change}");
        let id = FIRST_CHANGED + i64::try_from(change)?;
        let operation_id = env.uuid();
        let wanted = reserve::requests(std::iter::once((id, slug.clone())));
        reserve::reserve(channel, REGION, operation_id, wanted).await?;
        let confirmation = ConfirmOrganizationSlugReservationsRequest {
            region: REGION.to_owned(),
            operation_id: operation_id.to_string(),
        };
        let mut client = SlugReservationServiceClient::new(channel.clone());
        client.confirm_organization_slug_reservations(confirmation).await?;
        let began = Instant::now();
        loop {
            match unary::call(channel, unary::DIRECTORY, slug.clone()).await {
                Ok(_) => break,
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(status.into()),
            }
            ensure!(began.elapsed() < STALENESS_LIMIT, "the directory does not hear of {slug}");
        }
        behind.push(began.elapsed().as_secs_f64());
    }
    Ok((CHANGES, behind))
}

/// Serves a control's services until the process is killed. `with_directory`: also the empty handler, and a handler with
/// a directory that follows this control.
///
/// # Errors
/// If the control does not start or the port is in use.
pub async fn serve(listen: SocketAddr, database_url: String, with_directory: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let options = causeway_control::Options {
        database_url: database_url.into(),
        database: db::Options::default(),
        address: url.clone(),
        accept_regions: causeway_control::model::region::AcceptRegions::Any,
        feed: causeway_control::feed::Options::default(),
        bulk: causeway_control::slug::bulk_intake::Options::default(),
        replica: None,
        audit: causeway_audit::Options::default(),
    };
    let control = Control::start(options, Environment::system()).await?;
    let mut routes = RoutesBuilder::default();
    control.add_services(&mut routes, false);
    let (reporter, health) = tonic_health::server::health_reporter();
    if with_directory {
        let client = Client::new(causeway_client::Service::Control, &[url], Timeouts::default())?;
        let directory = Directory::follow(client, Default::default());
        routes.add_service(unary::Unary(directory.clone()));
        tokio::spawn(async move {
            // The directory follows this same server, so the server must run first.
            directory.ready().await;
            reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        });
    } else {
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    }
    routes.add_service(health);
    Server::builder()
        .add_routes(routes.routes())
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
