//! `reserve`: how fast control reserves slugs: many in one operation, many operations at once, many callers with one
//! slug each.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest, OrganizationSlugRequest,
        OrganizationSlugRequestBatch, RegisterRegionRequest, ResolvedSlug,
        bulk_create_organization_slug_reservations_request::Part, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    whole::OrganizationDigest,
};
use causeway_silo::env::Environment;
use futures::future::try_join_all;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::{
    report::{Report, median, percentile},
    rig::{Rig, Service, Store},
};

/// What a measurement of reservations measures, and with which program.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of slugs in the large operation.
    pub slugs: u64,
    /// How many times to measure the large operation. The result is the median.
    pub rounds: usize,
    /// Number of slugs that are reserved before the measurement; 0 for none.
    pub before: u64,
    /// Path of the `causeway` program to measure.
    pub causeway: PathBuf,
}

const REGIONS: u64 = 10;
/// How many bulk creations each region sends, one after the other.
const BATCHES: u64 = 40;
const BATCH: u64 = 100;
const CALLERS: u64 = 64;
/// How many slugs each caller reserves, one after the other.
const CALLS: u64 = 40;

const COLUMNS: &[&str] = &["what", "slugs/s", "calls/s", "p50", "p99", "beside", "ratio"];

/// Measures on PostgreSQL, and returns the results.
///
/// # Errors
/// If a call fails.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let rig = Rig::start(Store::Postgres, &options.causeway).await?;
    if options.before > 0 {
        crate::fill::organizations(&rig.named("empty"), options.before).await?;
    }
    let mut report = Report::new("Reservations of slugs", COLUMNS);
    large(&rig, options, &mut report).await?;
    regions_at_once(&rig, &mut report).await?;
    callers_at_once(&rig, &mut report).await?;
    report.note(format!(
        "PostgreSQL with fsync, {} slugs reserved before. Beside: one INSERT ... SELECT ... ON CONFLICT of the same rows \
         into the same table, in slugs/s; medians of {} rounds, in turns.",
        options.before, options.rounds
    ));
    Ok(report)
}

/// A running control, and a connection to it.
struct Control {
    service: Service,
    channel: Channel,
    database: String,
}

impl Control {
    async fn start(rig: &Rig, name: &str, regions: u64) -> anyhow::Result<Self> {
        let databases = rig.copy("empty", name).await?;
        rig.settle().await?;
        let service = rig.control(&databases.control).await?;
        let channel = Endpoint::from_shared(service.url())?.tcp_nodelay(true).connect().await?;
        let mut client = RegionServiceClient::new(channel.clone());
        for region in 0..regions {
            let request = RegisterRegionRequest {
                name: format!("r{region}"),
                address: format!("http://127.0.0.1:{}", 1_000 + region),
                instance_id: Environment::system().uuid().to_string(),
                ..RegisterRegionRequest::default()
            };
            client.register_region(request).await?;
        }
        Ok(Self { service, channel, database: databases.control })
    }

    async fn stop(self, rig: &Rig, name: &str) -> anyhow::Result<()> {
        self.service.stop()?;
        rig.remove(name).await
    }
}

/// The requests for these organizations, each an id and a wanted slug. The name is the slug.
pub(crate) fn requests(wanted: impl Iterator<Item = (i64, String)>) -> Vec<OrganizationSlugRequest> {
    wanted
        .map(|(organization_id, slug)| OrganizationSlugRequest {
            organization_id,
            name: slug.clone(),
            slug,
            taken_in_region: false,
        })
        .collect()
}

/// Reserves slugs in one operation, and returns the slugs that control has reserved.
///
/// # Errors
/// If the call fails.
pub(crate) async fn reserve(
    channel: &Channel,
    region: &str,
    operation_id: Uuid,
    wanted: Vec<OrganizationSlugRequest>,
) -> anyhow::Result<Vec<ResolvedSlug>> {
    let header = BulkCreateHeader { region: region.to_owned(), operation_id: operation_id.to_string() };
    let mut sent = OrganizationDigest::default();
    sent.add(&wanted);
    let batches: Vec<Vec<OrganizationSlugRequest>> = wanted.chunks(1_000).map(<[_]>::to_vec).collect();
    let parts = std::iter::once(Part::Header(header))
        .chain(batches.into_iter().map(|requests| Part::Batch(OrganizationSlugRequestBatch { requests })))
        .chain([Part::End(sent.end())])
        .map(|part| BulkCreateOrganizationSlugReservationsRequest { part: Some(part) });
    let parts: Vec<_> = parts.collect();
    let mut client = SlugReservationServiceClient::new(channel.clone());
    let mut answers =
        client.bulk_create_organization_slug_reservations(tokio_stream::iter(parts)).await?.into_inner();
    let mut slugs = Vec::new();
    while let Some(answer) = answers.message().await? {
        slugs.extend(answer.slugs);
        if answer.summary.is_some() {
            return Ok(slugs);
        }
    }
    anyhow::bail!("the answer ended without its summary")
}

async fn large(rig: &Rig, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let env = Environment::system();
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let control = Control::start(rig, "reserve", 1).await?;
        let wanted =
            requests((1..=i64::try_from(options.slugs)?).map(|id| (id, format!("organization-{id}"))));
        let began = Instant::now();
        let slugs = reserve(&control.channel, "r0", env.uuid(), wanted).await?;
        ours.push(began.elapsed().as_secs_f64());
        ensure!(slugs.len() as u64 == options.slugs, "{} slugs were given", slugs.len());
        control.stop(rig, "reserve").await?;

        let databases = rig.copy("empty", "raw").await?;
        rig.settle().await?;
        let mut connection = PgConnection::connect(&databases.control).await?;
        let (ids, slugs): (Vec<i64>, Vec<String>) =
            slugs.into_iter().map(|slug| (slug.organization_id, slug.slug)).unzip();
        let began = Instant::now();
        let done = sqlx::query(
            "INSERT INTO causeway_organization_slug_reservation \
             (slug, organization_id, region, wanted_slug, type, operation_id, created_at) \
             SELECT r.slug, r.id, 'r0', r.slug, 'temporary_rename_alias', $3, now() \
             FROM unnest($1::text[], $2::bigint[]) AS r(slug, id) ON CONFLICT DO NOTHING",
        )
        .bind(slugs)
        .bind(ids)
        .bind(env.uuid())
        .execute(&mut connection)
        .await?;
        raw.push(began.elapsed().as_secs_f64());
        ensure!(done.rows_affected() == options.slugs, "{} rows were inserted", done.rows_affected());
        connection.close().await?;
        rig.remove("raw").await?;
    }
    let (ours, raw) = (median(ours), median(raw));
    let slugs = options.slugs as f64;
    report.add(
        vec![
            format!("one operation of {} slugs", options.slugs),
            format!("{:.0}", slugs / ours),
            "-".to_owned(),
            format!("{:.2} s", ours),
            "-".to_owned(),
            format!("{:.0}", slugs / raw),
            format!("{:.2}", raw / ours),
        ],
        json!({"what": "one operation", "slugs": slugs, "seconds": ours, "raw_seconds": raw, "ratio": raw / ours}),
    );
    Ok(())
}

async fn regions_at_once(rig: &Rig, report: &mut Report) -> anyhow::Result<()> {
    let control = Control::start(rig, "regions", REGIONS).await?;
    let env = Environment::system();
    let began = Instant::now();
    let work = (0..REGIONS).map(|region| {
        let (channel, env) = (control.channel.clone(), env.clone());
        async move {
            let name = format!("r{region}");
            let mut times = Vec::new();
            for batch in 0..BATCHES {
                let wanted = requests((0..BATCH).map(|number| {
                    // No two regions have an organization of one id.
                    let id = i64::try_from(1 + (region * BATCHES + batch) * BATCH + number).unwrap_or(1);
                    // All regions want every other slug.
                    let whose = if number % 2 == 0 { "all" } else { name.as_str() };
                    (id, format!("{whose}-{batch}-{number}"))
                }));
                let began = Instant::now();
                let slugs = reserve(&channel, &name, env.uuid(), wanted).await?;
                times.push(began.elapsed());
                ensure!(slugs.len() as u64 == BATCH, "{} slugs were given", slugs.len());
            }
            Ok(times)
        }
    });
    let times = at_once(work).await?;
    let took = began.elapsed().as_secs_f64();
    let (deadlocks, rolled_back) = trouble(&control.database).await?;
    control.stop(rig, "regions").await?;
    let what = format!("{REGIONS} regions, batches of {BATCH}, half in conflict");
    let calls = (REGIONS * BATCHES) as f64;
    add(report, &what, calls * BATCH as f64, calls, took, &times);
    report.note(format!("{what}: {deadlocks} deadlocks, {rolled_back} transactions rolled back."));
    ensure!(deadlocks == 0, "there were {deadlocks} deadlocks");
    Ok(())
}

async fn callers_at_once(rig: &Rig, report: &mut Report) -> anyhow::Result<()> {
    let control = Control::start(rig, "callers", 1).await?;
    let env = Environment::system();
    let began = Instant::now();
    let work = (0..CALLERS).map(|caller| {
        let (channel, env) = (control.channel.clone(), env.clone());
        async move {
            let mut times = Vec::new();
            for call in 0..CALLS {
                let id = i64::try_from(1 + caller * CALLS + call)?;
                let began = Instant::now();
                let slugs = reserve(
                    &channel,
                    "r0",
                    env.uuid(),
                    requests(std::iter::once((id, format!("single-{id}")))),
                )
                .await?;
                times.push(began.elapsed());
                ensure!(slugs.len() == 1, "{} slugs were given", slugs.len());
            }
            Ok(times)
        }
    });
    let times = at_once(work).await?;
    let took = began.elapsed().as_secs_f64();
    control.stop(rig, "callers").await?;
    let calls = (CALLERS * CALLS) as f64;
    add(report, &format!("{CALLERS} callers, one slug each"), calls, calls, took, &times);
    Ok(())
}

/// Runs all of these at once, each in a task of its own, and returns the seconds that each call took, sorted.
async fn at_once<F>(work: impl Iterator<Item = F>) -> anyhow::Result<Vec<f64>>
where
    F: Future<Output = anyhow::Result<Vec<Duration>>> + Send + 'static,
{
    let tasks: Vec<_> = work.map(tokio::spawn).collect();
    let mut all = Vec::new();
    for times in try_join_all(tasks).await? {
        all.extend(times?.iter().map(Duration::as_secs_f64));
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

fn add(report: &mut Report, what: &str, slugs: f64, calls: f64, took: f64, times: &[f64]) {
    let (p50, p99) = (percentile(times, 50.0), percentile(times, 99.0));
    report.add(
        vec![
            what.to_owned(),
            format!("{:.0}", slugs / took),
            format!("{:.0}", calls / took),
            format!("{:.1} ms", p50 * 1e3),
            format!("{:.1} ms", p99 * 1e3),
            "-".to_owned(),
            "-".to_owned(),
        ],
        json!({
            "what": what, "slugs_per_second": slugs / took, "calls_per_second": calls / took,
            "p50_seconds": p50, "p99_seconds": p99,
        }),
    );
}

/// Deadlocks and rolled back transactions in a database since it was created.
async fn trouble(database: &str) -> anyhow::Result<(i64, i64)> {
    let mut connection = PgConnection::connect(database).await?;
    let row = sqlx::query(
        "SELECT deadlocks, xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_optional(&mut connection)
    .await?
    .context("the database is not in its own statistics")?;
    let trouble = (row.try_get("deadlocks")?, row.try_get("xact_rollback")?);
    connection.close().await?;
    Ok(trouble)
}
