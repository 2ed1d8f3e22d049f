//! `kill -9` of the region every 200 ms and of control every 300 ms while 2,000 organizations are imported. It takes
//! minutes and prints figures, so it runs only on request:
//!
//! ```sh
//! cargo test --release --test kills -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `KILLS_ORGANIZATIONS` sets the number of organizations. `KILLS_PROGRAM` names another `causeway` than the one that
//! was built.

#![expect(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test that reports figures")]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    env,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use causeway_harness::{
    account::{Audit, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Service, Silo, Store},
    export,
    pki::Pki,
};
use causeway_proto::region::v1::ImportState;
use causeway_silo::{
    db::{Db, Statement},
    env::Environment,
};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

const EVERY_REGION: Duration = Duration::from_millis(200);
const EVERY_CONTROL: Duration = Duration::from_millis(300);
const EVERY_CERTIFICATE: Duration = Duration::from_secs(1);
/// The pause between two checks whether the import has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The longest time for a run. A longer run makes no progress.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// The progress of an import. It changes whenever the region adds something to the import between two kills.
type Place = (String, i64, i64, bool, u64);

async fn place(cluster: &Cluster, db: &Db, id: &str) -> anyhow::Result<Place> {
    let look = Statement::new(
        "SELECT state, reported, slug_attempt, slugs_written, (SELECT count(*) FROM causeway_import_chunk) AS chunks
         FROM causeway_import",
    );
    let row = db.fetch_optional(look).await?.context("there is an import")?;
    // While the import is planned, the size of its planning log is its progress.
    let log = cluster.spool_dir(0).join(format!("{id}.planning"));
    let planned = std::fs::metadata(log).map_or(0, |log| log.len());
    let state = format!("{} {}", row.text("state")?, row.bool("reported")?);
    Ok((state, row.int("chunks")?, row.int("slug_attempt")?, row.bool("slugs_written")?, planned))
}

/// What has happened so far.
#[derive(Default)]
struct Tally {
    kills: Cell<u32>,
    /// How often the service ended with an error before it was killed. A start between the replacement of a key and
    /// that of its certificate does; the next one does not.
    failed_starts: Cell<u32>,
    /// How often the import made no progress between two kills.
    idle: Cell<u32>,
    /// The same by the state of the import.
    where_idle: RefCell<BTreeMap<String, u32>>,
}

/// Replaces all certificates again and again as long as this future is polled.
async fn rotate_certificates(cluster: &Cluster) {
    loop {
        sleep(EVERY_CERTIFICATE).await;
        cluster.rotate_certificates().expect("they can be written");
    }
}

/// Kills a service again and again as long as this future is polled, whether the service serves by then or not, and
/// starts it again at once.
async fn kill_every(
    cluster: &Cluster,
    service: Service,
    every: Duration,
    tally: &Tally,
    look: impl AsyncFn() -> Option<Place>,
) {
    let mut before = look().await;
    loop {
        let until = Instant::now() + every;
        if let Ok(Err(error)) = timeout_at(until, cluster.start_service(service)).await {
            tally.failed_starts.set(tally.failed_starts.get() + 1);
            // It ends with the log of the service, and the log ends with the error of the service.
            let error = format!("{error:#}");
            println!("{service} did not start: {}", error.trim_end().lines().last().unwrap_or_default());
        }
        sleep_until(until).await;
        cluster.kill(service).await;
        tally.kills.set(tally.kills.get() + 1);
        // Nobody changes the progress now, because the service is dead.
        let here = look().await;
        if let Some((state, ..)) = &here
            && here == before
        {
            tally.idle.set(tally.idle.get() + 1);
            *tally.where_idle.borrow_mut().entry(state.clone()).or_default() += 1;
        }
        before = here;
    }
}

async fn killed_all_the_time(store: Store) {
    let organizations =
        env::var("KILLS_ORGANIZATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let program = env::var("KILLS_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_causeway").to_owned());
    let bytes = export::large(organizations).to_bytes();
    // With mutual TLS, and certificates that are replaced while the services are killed.
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let built = Cluster::builder(store).region("us").processes(program).tls(&pki).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let before = RowsSnapshot::at(&cluster, 0).await.expect("the databases can be read");
    let options = ImportOptions::default();
    let begun = cluster.region(0).begin(&bytes, &options).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    let db = cluster.db(Silo::Region(0)).await.expect("a database");

    let (of_region, of_control) = (Tally::default(), Tally::default());
    let (started, mut planned) = (Instant::now(), None);
    cluster.kill(Service::Region(0)).await;
    cluster.kill(Service::Control(0)).await;
    let here = async || Some(place(&cluster, &db, &id).await.expect("the region's database can be read"));
    let ended = async {
        loop {
            let (state, ..) = place(&cluster, &db, &id).await.expect("the region's database can be read");
            if !state.starts_with("planning") {
                planned.get_or_insert_with(|| (started.elapsed(), of_region.kills.get()));
            }
            if state == "succeeded true" || state.starts_with("failed") {
                return;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    let all = async {
        tokio::select! {
            () = ended => {}
            () = kill_every(&cluster, Service::Region(0), EVERY_REGION, &of_region, here) => {}
            () = kill_every(&cluster, Service::Control(0), EVERY_CONTROL, &of_control, async || None) => {}
            () = rotate_certificates(&cluster) => {}
        }
    };
    let ended = timeout(PATIENCE, all).await;
    let took = started.elapsed();
    let kills = of_region.kills.get();
    let figures = format!(
        "{store:?}: {organizations} organizations in {} bytes; planned after {planned:?}; {kills} kills of the region, in {} \
         of its lives the import got no further {:?}; {} kills of control; {:.1} s",
        bytes.len(),
        of_region.idle.get(),
        of_region.where_idle.borrow(),
        of_control.kills.get(),
        took.as_secs_f64(),
    );
    println!("{figures}");
    ended.unwrap_or_else(|_| panic!("the import did not end: {figures}; {:?}", cluster.trace()));
    for tally in [&of_region, &of_control] {
        let (kills, failed) = (tally.kills.get(), tally.failed_starts.get());
        assert!(kills > 0, "a service was not killed: {figures}");
        assert!(failed <= 2 + kills / 50, "{failed} starts failed: {figures}");
    }
    cluster.revive().await.expect("they start");
    let import = cluster.region(0).wait(&id).await.expect("it has ended");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    // Compare every row with the file: the result is the same as after a run without kills.
    let audit = Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await;
    if let Err(error) = audit {
        panic!("{error:#}");
    }
    db.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see above"]
async fn sqlite() {
    killed_all_the_time(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see above"]
async fn postgres() {
    killed_all_the_time(Store::Postgres).await;
}
