//! Limits on what imports write, and giving way to the application.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::{self, Export},
};
use causeway_proto::{
    region::v1::{
        GetThrottleRequest, Import, ImportState, RevertImportRequest, SetThrottleRequest, Throttle,
        ThrottleKind,
    },
    relocation::v1::{ErrorReason, ListAuditEntriesRequest},
};
use causeway_silo::db::{Db, Statement};

use crate::{
    faults::retry_until_ok,
    support::{accounted, eventually, refused, revert_all, rows_now},
    survive::change,
};

const LOOK: Duration = Duration::from_millis(20);

async fn standing(
    store: Store,
    configure: impl Fn(&mut causeway_region::throttle::Options) + Send + Sync + 'static,
) -> Cluster {
    let builder = Cluster::builder(store).region("us").configure_regions(move |options| {
        options.throttle.look_interval = LOOK;
        configure(&mut options.throttle);
    });
    builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed")
}

async fn set(cluster: &Cluster, request: SetThrottleRequest) -> Throttle {
    let answer = cluster.region(0).throttle().set_throttle(request).await.expect("it is set").into_inner();
    answer.throttle.expect("a throttle")
}

async fn show(cluster: &Cluster) -> Throttle {
    let answer = cluster.region(0).throttle().get_throttle(GetThrottleRequest {}).await;
    answer.expect("an answer").into_inner().throttle.expect("a throttle")
}

fn rows(limit: i64) -> SetThrottleRequest {
    SetThrottleRequest { max_rows_per_second: Some(limit), ..Default::default() }
}

fn unlimited(kind: ThrottleKind) -> SetThrottleRequest {
    SetThrottleRequest { unlimited: vec![kind.into()], ..Default::default() }
}

fn held_by(import: &Import) -> Option<(ThrottleKind, i64)> {
    let throttled = import.progress.as_ref()?.throttled.as_ref()?;
    Some((throttled.by(), throttled.limit))
}

fn several_models() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").email(1, "ann@example.com").user_email(
        1,
        1,
        "ann@example.com",
    );
    export
        .member(1, 1, 1)
        .team(1, 1, "t")
        .project(1, 1, "p")
        .project_key(1, 1, "key")
        .auth_token(1, 1, "token");
    export.to_bytes()
}

/// At a row a second, the next chunk waits for most of a minute. Meanwhile nothing is open, and every other wish is heard
/// at once.
pub(crate) async fn an_import_that_waits_for_a_limit_holds_nothing_open(store: Store) {
    let mut cluster = standing(store, |_| {}).await;
    let before = rows_now(&cluster, 0).await;
    set(&cluster, rows(1)).await;
    let options = ImportOptions::default();
    // Each chunk has 50 rows to pay off.
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").email(1, "ann@example.com").user_email(
        1,
        1,
        "ann@example.com",
    );
    for pk in 1..=600 {
        export.team(pk, 1, &format!("t-{pk}"));
    }
    export.member(1, 1, 1).project(1, 1, "p").project_key(1, 1, "key").auth_token(1, 1, "token");
    let bytes = export.to_bytes();
    let id = cluster
        .region(0)
        .begin(&bytes, &options)
        .await
        .expect("it begins")
        .import
        .unwrap_or_default()
        .import_id;
    let waits = |import: &Import| held_by(import) == Some((ThrottleKind::Rows, 1));
    let waiting = cluster.region(0).wait_until(&id, waits).await.expect("it is held back");
    assert_eq!(waiting.state(), ImportState::Writing);
    assert!(waiting.lease.is_some() && waiting.waiting.is_none(), "{waiting:?}");
    if store == Store::Postgres {
        let db = cluster.db(Silo::Region(0)).await.expect("a database");
        eventually("no transaction is open", async || open_transactions(&db).await == 0).await;
        db.close().await;
    }
    // It stops at once, the limit is stored, and holds in the next process from its first chunk on.
    let begun = Instant::now();
    cluster.stop_region(0).await;
    assert!(begun.elapsed() < Duration::from_secs(9), "it was waited for: {:?}", begun.elapsed());
    cluster.start_region(0).await.expect("it starts");
    let throttle = show(&cluster).await;
    assert_eq!(throttle.max_rows_per_second, Some(1));
    assert_eq!(throttle.set_by_call, [i32::from(ThrottleKind::Rows)]);
    assert!(throttle.set_time.is_some() && throttle.set_by.is_empty(), "{throttle:?}");
    cluster.region(0).wait_until(&id, waits).await.expect("it is held back");
    // So is a revert, which begins at once, and waits for the limit as well.
    let revert = RevertImportRequest { import_id: id.clone() };
    cluster.region(0).imports().revert_import(revert).await.expect("it begins");
    let reverting =
        |import: &Import| import.state() == ImportState::Reverting && import.lease.is_some() && waits(import);
    cluster.region(0).wait_until(&id, reverting).await.expect("it is held back");
    set(&cluster, unlimited(ThrottleKind::Rows)).await;
    let ended = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(ended.state(), ImportState::Reverted);
    assert_eq!(rows_now(&cluster, 0).await, before);
    // And without a limit, an import ends.
    let import = cluster.region(0).import(&bytes, &options).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    cluster.stop().await;
}

/// It writes nothing. With a limit, it would wait for hours.
pub(crate) async fn a_dry_run_has_no_limit(store: Store) {
    let cluster = standing(store, |options| {
        options.limits.rows_per_second = NonZeroU64::new(1);
        options.limits.bytes_per_second = NonZeroU64::new(1);
    })
    .await;
    let options = ImportOptions::default().dry_run();
    let import = cluster.region(0).import(&export::large(1).to_bytes(), &options).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Planned);
    let throttle = show(&cluster).await;
    assert_eq!((throttle.rows, throttle.bytes, throttle.waited_ms), (0, 0, 0));
    cluster.stop().await;
}

/// One model waits for the limit while another one fails: the import fails then, and not after the wait.
pub(crate) async fn a_model_that_fails_ends_the_wait_of_the_others(store: Store) {
    if store == Store::Sqlite {
        // It has one writer at a time, so no model can wait behind another one that is being written.
        return;
    }
    let cluster = standing(store, |options| options.limits.rows_per_second = NonZeroU64::new(1_000)).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
                  WHILE NOT EXISTS (SELECT FROM refuse_now) LOOP PERFORM pg_sleep(0.001); END LOOP; \
                  RAISE EXCEPTION ''no projects''; END'";
    let trigger =
        "CREATE TRIGGER no_projects BEFORE INSERT ON sentry_project FOR EACH ROW EXECUTE FUNCTION refuse()";
    let statements = ["CREATE TABLE refuse_now (now int)", refuse, trigger];
    change(&cluster, statements.map(Statement::new).into()).await;
    let mut export = Export::new();
    export.organization(1, "one").project(1, 1, "p");
    (1..=10_000).for_each(|pk| {
        export.team(pk, 1, &format!("t-{pk}"));
    });
    let (region, options) = (cluster.region(0), ImportOptions::default());
    let begun = region.begin(&export.to_bytes(), &options).await.expect("it begins").import;
    let id = begun.unwrap_or_default().import_id;
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let asleep = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
                  AND wait_event = 'PgSleep'";
    eventually("the project is being written", async || number(&db, asleep).await > 0).await;
    db.close().await;
    // From now on, the next teams wait for minutes.
    set(&cluster, rows(1)).await;
    let waits = |import: &Import| held_by(import) == Some((ThrottleKind::Rows, 1));
    region.wait_until(&id, waits).await.expect("it is held back");
    let begun = Instant::now();
    change(&cluster, vec![Statement::new("INSERT INTO refuse_now (now) VALUES (1)")]).await;
    let failed = region.wait(&id).await.expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for: {:?}", begun.elapsed());
    assert_eq!(failed.state(), ImportState::Failed);
    let failure = failed.failure.unwrap_or_default();
    assert!(failure.message.contains("no projects"), "{}", failure.message);
    cluster.stop().await;
}

async fn number(db: &Db, query: &'static str) -> i64 {
    let row = db.fetch_optional(Statement::new(query)).await.expect("it answers").expect("a row");
    row.int("n").expect("a number")
}

async fn open_transactions(db: &Db) -> i64 {
    let query = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'causeway' AND state LIKE 'idle in transaction%'";
    number(db, query).await
}

/// Two imports at once write no faster than the limit allows for both together.
pub(crate) async fn imports_write_no_faster_than_their_limits(store: Store) {
    const ROWS: u64 = 400;
    const BYTES: u64 = 200_000;
    let cluster = standing(store, |options| {
        options.limits.rows_per_second = NonZeroU64::new(ROWS);
        options.limits.bytes_per_second = NonZeroU64::new(BYTES);
    })
    .await;
    let (bytes, options) = (export::large(1).to_bytes(), ImportOptions::default());
    let before = show(&cluster).await;
    assert_eq!((before.rows, before.bytes, before.waited_ms), (0, 0, 0));
    assert_eq!(before.max_bytes_per_second, Some(200_000));
    assert_eq!((before.set_by_call.len(), before.set_time), (0, None));
    let begun = Instant::now();
    let region = cluster.region(0);
    let (one, two) = tokio::join!(region.import(&bytes, &options), region.import(&bytes, &options));
    let took = begun.elapsed();
    let mut written = 0;
    for import in [one, two] {
        let import = import.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded);
        written += import.models.iter().map(|counts| counts.inserted).sum::<i64>();
    }
    let throttle = show(&cluster).await;
    assert!(throttle.rows >= written, "{throttle:?}, {written} rows");
    // All but the last chunk has been paid off. No chunk has more rows or bytes than this, because no model has.
    let largest = 50;
    let least = |amount: i64, last: u64, rate: u64| {
        Duration::from_millis(u64::try_from(amount).expect("positive").saturating_sub(last) * 1_000 / rate)
    };
    let by_rows = least(throttle.rows, largest, ROWS);
    let by_bytes = least(throttle.bytes, 16 << 10, BYTES);
    assert!(took >= by_rows && took >= by_bytes, "{took:?}, not {by_rows:?} and {by_bytes:?}: {throttle:?}");
    assert!(throttle.waited_ms > 0, "{throttle:?}");
    cluster.stop().await;
}

pub(crate) async fn a_limit_that_cannot_be_one_is_refused(store: Store) {
    let cluster = standing(store, |_| {}).await;
    set(&cluster, rows(7)).await;
    let number = |kind: ThrottleKind| i32::from(kind);
    let latency = |limit| SetThrottleRequest { max_probe_latency_ms: Some(limit), ..Default::default() };
    let bytes = |limit| SetThrottleRequest { max_bytes_per_second: Some(limit), ..Default::default() };
    for (request, says) in [
        (rows(0), "causeway imports pause --all"),
        (bytes(0), "causeway imports pause --all"),
        (latency(0), "causeway imports pause --all"),
        (rows(-1), "must not be negative"),
        (bytes(i64::MIN), "must not be negative"),
        (latency(-5), "must not be negative"),
        (rows(1_000_000_001), "at most 1000000000"),
        (bytes((1 << 40) + 1), "at most 1099511627776"),
        (latency(60_001), "at most 60000"),
        (rows(i64::MAX), "at most 1000000000"),
        (SetThrottleRequest::default(), "names none"),
        (SetThrottleRequest { unlimited: vec![0], ..Default::default() }, "is not a kind of limit"),
        (SetThrottleRequest { as_started: vec![99], ..Default::default() }, "is not a kind of limit"),
        (SetThrottleRequest { unlimited: vec![number(ThrottleKind::Rows)], ..rows(5) }, "names already"),
        (
            SetThrottleRequest {
                unlimited: vec![number(ThrottleKind::Bytes)],
                as_started: vec![number(ThrottleKind::Bytes)],
                ..Default::default()
            },
            "names already",
        ),
    ] {
        let status = cluster.region(0).throttle().set_throttle(request).await.expect_err("it is refused");
        assert!(status.message().contains(says), "{says}: {}", status.message());
        assert_eq!(refused::<()>(Err(status)), ErrorReason::InvalidArgument, "{says}");
        assert_eq!(show(&cluster).await.max_rows_per_second, Some(7), "{says}");
    }
    cluster.stop().await;
}

/// The call fails, or its process is killed, right before and right after its commit.
pub(crate) async fn limits_that_are_set_are_stored_and_recorded(store: Store) {
    let failpoints = Failpoints::default();
    let builder = Cluster::builder(store).region("us").failpoints(&failpoints).configure_regions(|options| {
        options.throttle.look_interval = LOOK;
        options.throttle.limits.rows_per_second = NonZeroU64::new(11);
    });
    let cluster = builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed");
    let mut limit = 100;
    for place in ["region.throttle.prepared", "region.throttle.committed"] {
        for act in [Act::Fail, Act::Kill] {
            limit += 1;
            failpoints.arm(place, act, 0);
            retry_until_ok(&cluster, async || cluster.region(0).throttle().set_throttle(rows(limit)).await)
                .await;
            assert!(!failpoints.is_armed(), "{place} was never reached");
            assert_eq!(show(&cluster).await.max_rows_per_second, Some(limit), "{place} {act:?}");
        }
    }
    set(&cluster, unlimited(ThrottleKind::Rows)).await;
    assert_eq!(show(&cluster).await.max_rows_per_second, None);
    let as_started = SetThrottleRequest { as_started: vec![ThrottleKind::Rows.into()], ..Default::default() };
    let throttle = set(&cluster, as_started).await;
    assert_eq!((throttle.max_rows_per_second, throttle.set_by_call.len()), (Some(11), 0));
    let filter = ListAuditEntriesRequest { object: "region/us".to_owned(), ..Default::default() };
    let entries =
        cluster.region(0).audit().list_audit_entries(filter).await.expect("a list").into_inner().entries;
    let name = "causeway.region.v1.ThrottleService/SetThrottle";
    let recorded = entries.iter().filter(|entry| entry.call == name && entry.outcome == "OK").count();
    assert!(recorded >= 6, "{entries:?}");

    if store == Store::Postgres {
        // Another process of the region takes it over by itself.
        let other = cluster.start_second_process(0).await.expect("another process");
        other.region().throttle().set_throttle(rows(77)).await.expect("set");
        eventually("the first process knows", async || show(&cluster).await.max_rows_per_second == Some(77))
            .await;
        other.stop().await;
    }
    cluster.stop().await;
}

/// A statement that takes about this long, and one that never ends.
fn statements(store: Store) -> (&'static str, &'static str) {
    match store {
        Store::Postgres => ("SELECT pg_sleep(0.02)", "SELECT pg_sleep(100000)"),
        Store::Sqlite => (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT count(*) FROM n",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        ),
    }
}

pub(crate) async fn imports_give_way_while_the_application_is_slow(store: Store) {
    let (slow, _) = statements(store);
    let cluster = standing(store, move |options| {
        options.limits.probe_latency = Some(Duration::from_millis(1));
        options.probe_statement = slow.to_owned();
        options.probe_interval = Duration::from_millis(1);
    })
    .await;
    eventually("imports are as slow as can be", async || show(&cluster).await.slowdown_step == 5).await;
    let throttle = show(&cluster).await;
    assert_eq!(throttle.write_percent, 4);
    assert!(throttle.probe_latency_us.is_some_and(|micros| micros > 1_000), "{throttle:?}");
    let (bytes, options) = (export::large(2).to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    let id = cluster
        .region(0)
        .begin(&bytes, &options)
        .await
        .expect("it begins")
        .import
        .unwrap_or_default()
        .import_id;
    let waits = |import: &Import| held_by(import) == Some((ThrottleKind::Latency, 1));
    let held = cluster.region(0).wait_until(&id, waits).await.expect("it gives way");
    assert_eq!(held.progress.unwrap_or_default().throttled.unwrap_or_default().write_percent, 4);
    // The application is as quick as it should be, by the new bound: step by step, imports are at full speed again.
    let patient = SetThrottleRequest { max_probe_latency_ms: Some(10_000), ..Default::default() };
    set(&cluster, patient).await;
    eventually("imports are at full speed", async || show(&cluster).await.slowdown_step == 0).await;
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    // Without a bound, nothing is measured.
    let throttle = set(&cluster, unlimited(ThrottleKind::Latency)).await;
    assert_eq!(
        (throttle.probe_latency_us, throttle.max_probe_latency_ms, throttle.write_percent),
        (None, None, 100)
    );
    cluster.stop().await;
}

pub(crate) async fn a_probe_statement_that_is_no_good_does_no_harm(store: Store) {
    let (_, endless) = statements(store);
    let mut cluster =
        standing(store, |options| options.limits.probe_latency = Some(Duration::from_millis(10))).await;
    let (bytes, options) = (several_models(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    let statements = [
        ("SELECT nothing FROM nowhere", true),
        ("not even SQL", true),
        ("DELETE FROM sentry_organization", true),
        ("SELECT 1; DELETE FROM sentry_organization", true),
        ("INSERT INTO causeway_health (id, checks) VALUES (7, 7)", true),
        (endless, false),
    ];
    let mut imports = Vec::new();
    for (statement, fails) in statements {
        cluster.configure_regions(move |options| {
            options.throttle.limits.probe_latency = Some(Duration::from_millis(10));
            options.throttle.probe_statement = statement.to_owned();
            options.throttle.probe_interval = Duration::from_millis(20);
        });
        cluster.stop_region(0).await;
        cluster.start_region(0).await.expect("it starts");
        eventually("it has been measured", async || {
            let throttle = show(&cluster).await;
            if fails { !throttle.probe_error.is_empty() } else { throttle.slowdown_step > 0 }
        })
        .await;
        let throttle = show(&cluster).await;
        if fails {
            assert!(
                throttle.probe_error.contains("refuses the probe statement"),
                "{statement}: {throttle:?}"
            );
            assert_eq!((throttle.slowdown_step, throttle.probe_latency_us), (0, None), "{statement}");
        } else {
            // It was cancelled: it counts as slow, and is measured again.
            assert!(throttle.probe_latency_us.is_some_and(|micros| micros >= 1_000_000), "{throttle:?}");
            // On a busy machine an import that gives way takes long. The last statement is this one.
            set(&cluster, unlimited(ThrottleKind::Latency)).await;
        }
        let import = cluster.region(0).import(&bytes, &options).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{statement}");
        imports.push(import.import_id);
    }
    // Nothing of it has been written, and all that the imports have written is there.
    revert_all(&cluster, &imports).await;
    assert_eq!(rows_now(&cluster, 0).await, before);
    cluster.stop().await;
}
