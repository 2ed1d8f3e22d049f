//! Runs from a seed: several regions import overlapping organizations at once, rename them and revert them, while
//! faults happen. At the end everything is healed, and every promise must hold.
//!
//! `CAUSEWAY_SEED=123 cargo test --test faults seeds` runs one seed again. `.ci/seeds 10000` runs many.

use std::{
    env,
    fmt::Write as _,
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use causeway_harness::{
    cluster::{Cluster, DatabaseServer, Failpoints, Store},
    pki::Pki,
};
use causeway_silo::env::Environment;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use crate::{
    acting::act,
    driver::IDLE,
    outsider::{self, SimulatedRegionPlan},
    scenario::{Planned, Scenario},
};

const REGIONS: [&str; 3] = ["us", "de", "eu-west"];
/// The longest time for a whole run with progress all the time; a run takes about a second. A run without progress ends
/// much sooner.
const WHOLE: Duration = Duration::from_secs(180);
/// How often the certificates of a run with TLS are replaced.
const ROTATE_EVERY: Duration = Duration::from_millis(150);
/// The number of failures after which no further seed starts.
const ENOUGH: usize = 5;

/// The seeds to run, from the environment.
struct Settings {
    from: u64,
    count: u64,
}

impl Settings {
    fn read(by_default: u64) -> Self {
        let number = |name: &str| {
            let text = env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
        };
        if let Some(seed) = number("CAUSEWAY_SEED") {
            return Self { from: seed, count: 1 };
        }
        Self {
            from: number("CAUSEWAY_SEED_FROM").unwrap_or(1),
            count: number("CAUSEWAY_SEEDS").unwrap_or(by_default),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_promise_is_broken_on_sqlite() {
    many(Store::Sqlite, Settings::read(25)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_promise_is_broken_on_postgres() {
    many(Store::Postgres, Settings::read(5)).await;
}

/// Prints a line at once, even when the test's output is captured.
fn say(line: &str) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}

/// Runs many seeds, as many at once as there are cores.
async fn many(store: Store, settings: Settings) {
    let Settings { from, count } = settings;
    let (next, failures) = (Arc::new(AtomicU64::new(from)), Arc::new(Mutex::new(Vec::new())));
    let began = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(count as usize);
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let (next, failures) = (Arc::clone(&next), Arc::clone(&failures));
        working.spawn(async move {
            let database_server = Arc::new(
                DatabaseServer::new(store).await.expect("a database_server; PostgreSQL must be installed"),
            );
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let enough = failures.lock().expect("nobody panics with it").len() >= ENOUGH;
                if seed >= from + count || enough {
                    return;
                }
                if let Err(error) = play(seed, &database_server).await {
                    say(&format!("{error:#}"));
                    failures.lock().expect("nobody panics with it").push(seed);
                }
                if (seed - from + 1).is_multiple_of(100) {
                    say(&format!("{store:?}: seeds up to {seed} in {:.0?}", began.elapsed()));
                }
            }
        });
    }
    while let Some(worked) = working.join_next().await {
        worked.expect("a worker does not panic");
    }
    let failures = failures.lock().expect("nobody panics with it");
    let took = began.elapsed();
    say(&format!("{store:?}: {count} seeds from {from} in {took:.1?}, {:.3?} each", took / count as u32));
    assert!(failures.is_empty(), "seeds that broke a promise: {failures:?}; CAUSEWAY_SEED runs one again");
}

/// Replaces the certificates at once, and then again and again. Ends only with an error.
pub(crate) async fn rotate(cluster: &Cluster, every: Duration) -> anyhow::Result<()> {
    let mut every = interval(every);
    loop {
        every.tick().await;
        cluster.rotate_certificates()?;
    }
}

/// Runs one seed. The error includes the trace.
async fn play(seed: u64, database_server: &Arc<DatabaseServer>) -> anyhow::Result<()> {
    let scenario = Scenario::of(seed, database_server.store());
    let failpoints = Failpoints::default();
    let builder =
        Cluster::builder(database_server.store()).on(database_server).seed(seed).failpoints(&failpoints);
    let builder = builder.controls(scenario.controls).changes_a_transaction(scenario.changes_a_transaction);
    let builder = REGIONS[..scenario.regions].iter().fold(builder, |builder, name| builder.region(name));
    // Every fourth run is one over mutual TLS, with certificates that are replaced all the time.
    let builder = match seed.is_multiple_of(4) {
        true => builder.tls(&Arc::new(Pki::new(Environment::system())?)).simulated_region(outsider::NAME),
        false => builder,
    };
    let cluster = Arc::new(builder.start().await.with_context(|| format!("seed {seed}"))?);
    let acting = cluster.unless_it_hangs(IDLE, act(&cluster, &failpoints, &scenario));
    let played = timeout(WHOLE, async {
        tokio::select! {
            played = acting => played,
            stuck = rotate(&cluster, ROTATE_EVERY) => stuck,
        }
    });
    let played = played.await;
    let played = match played {
        Ok(played) => played,
        Err(_) => Err(anyhow!("it is not over after {WHOLE:?}\n{}", cluster.standing().await)),
    };
    let outcome = played.map_err(|error| {
        let mut text = format!("seed {seed} on {:?}: {error:#}\n", database_server.store());
        for import in &scenario.imports {
            let _never = writeln!(text, "{:?}", Planned { export: Vec::new(), ..import.clone() });
        }
        if let Some(SimulatedRegionPlan { requested, .. }) = &scenario.outside {
            let _never = writeln!(text, "{} slugs reserved elsewhere", requested.len());
        }
        cluster.explain(&anyhow!(text))
    });
    // All other owners of the cluster have been dropped.
    if let Some(cluster) = Arc::into_inner(cluster) {
        cluster.stop().await;
    }
    outcome
}
