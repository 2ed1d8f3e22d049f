//! Property tests with random exports, valid and damaged. A generated export is imported and audited, in any
//! order of its records. A damaged export is either refused without leaving anything, or passes the audit.
//!
//! A run tries few cases, the same ones each time. With `PROPTEST_CASES=1000` it tries 1,000 cases, other ones each
//! time.

#![expect(clippy::expect_used, clippy::panic, reason = "a property that does not hold ends its test")]

use std::{collections::BTreeMap, env};

use causeway_harness::{
    account::{Audit, AuditReport, Cell, Row, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Store},
    export::{self, OTHER_SLUG, SLUG},
};
use causeway_proto::{region::v1::ImportState, relocation::v1::ErrorReason};
use causeway_relocation::export::Limits;
use causeway_silo::env::Environment;
use chrono::{DateTime, Utc};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestRng, TestRunner},
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Columns with values that are random, or the time of the import.
const REGENERATED_FIELDS: &[&str] = &[
    "password",
    "last_password_change",
    "validation_hash",
    "date_hash_added",
    "guid",
    "detection_uuid",
    "notification_uuid",
    "date_updated",
    "date_modified",
];

/// Numbers from which a generator picks, one after the other. Small and few numbers make small exports, so proptest can
/// shrink a failing case.
fn choices() -> impl Strategy<Value = Vec<u32>> {
    vec(any::<u32>(), 0..3_000)
}

/// Picks by these numbers, and the first possibility when there are no more.
fn picker(choices: Vec<u32>) -> impl FnMut(usize) -> usize {
    let mut choices = choices.into_iter();
    move |bound| {
        let choice = choices.next().unwrap_or(0);
        usize::try_from(choice).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    if env::var_os("PROPTEST_CASES").is_some() {
        return TestRunner::new(config);
    }
    TestRunner::new_with_rng(Config { cases, ..config }, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn check<S: Strategy>(cases: u32, strategy: &S, property: impl AsyncFn(S::Value) -> TestCaseResult) {
    let runtime = Runtime::new().expect("a runtime");
    let outcome = runner(cases).run(strategy, |value| runtime.block_on(property(value)));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

async fn cluster(store: Store) -> Result<Cluster, TestCaseError> {
    // On PostgreSQL this needs an installed server.
    Cluster::start(store, &["us"]).await.map_err(|error| wrong(format!("{error:#}")))
}

fn wrong(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Imports a file, and audits the import if it succeeds. If it is refused, nothing may have been written.
async fn import(
    cluster: &Cluster,
    bytes: &[u8],
    options: &ImportOptions,
) -> Result<Option<AuditReport>, TestCaseError> {
    let before = RowsSnapshot::at(cluster, 0).await.map_err(wrong)?;
    let import = cluster.region(0).import(bytes, options).await.map_err(wrong)?;
    if import.state() == ImportState::Succeeded {
        let audit = Audit::new(cluster, 0, &before, bytes, options, &import).run().await;
        return audit.map(Some).map_err(|error| wrong(format!("{error:#}")));
    }
    let failure = import.failure.unwrap_or_default();
    if options.filter.is_none() || failure.reason() != ErrorReason::FilterMatchesNothing {
        prop_assert_eq!(failure.reason(), ErrorReason::ExportInvalid, "{}", failure.message);
        prop_assert!(failure.message.starts_with("byte "), "no place: {}", failure.message);
    }
    let after = RowsSnapshot::at(cluster, 0).await.map_err(wrong)?;
    prop_assert!(after == before, "it was refused, and something was written: {}", failure.message);
    Ok(None)
}

/// The rows without columns that are random or the time of the import.
fn lasting(account: &AuditReport, began: DateTime<Utc>) -> anyhow::Result<BTreeMap<(String, i64), Row>> {
    let mut rows = account.rows_by_source()?;
    for row in rows.values_mut() {
        row.retain(|field, cell| {
            !REGENERATED_FIELDS.contains(&field.as_str())
                && !matches!(cell, Cell::Time(time) if *time >= began)
        });
    }
    Ok(rows)
}

fn any_order_of_any_export_gives_the_same_rows(store: Store) {
    let began = Environment::system().now();
    let strategy = (choices(), any::<u64>(), any::<bool>());
    check(3, &strategy, async |(choices, seed, merge_users)| {
        let export = export::generated(&mut picker(choices)).map_err(wrong)?;
        let options = ImportOptions { merge_users, ..ImportOptions::default() };
        let mut all = Vec::new();
        for order in [export.clone(), export.clone().reversed(), export.shuffled(seed)] {
            let cluster = cluster(store).await?;
            let account = import(&cluster, &order.to_bytes(), &options).await?;
            let account = account.ok_or_else(|| wrong("a good export was refused"))?;
            all.push(lasting(&account, began).map_err(wrong)?);
            cluster.stop().await;
        }
        prop_assert_eq!(&all[0], &all[1], "in order and reversed");
        prop_assert_eq!(&all[0], &all[2], "in order and shuffled");
        Ok(())
    });
}

/// A file with a few random changes.
fn damaged(choices: Vec<u32>) -> anyhow::Result<Vec<u8>> {
    let mut pick = picker(choices);
    let whole = if pick(2) == 0 { export::exhaustive()? } else { export::generated(&mut pick)? };
    let mut records: Vec<Value> = serde_json::from_slice(&whole.to_bytes())?;
    for _ in 0..=pick(3) {
        export::mutate(&mut records, &mut pick);
    }
    let mut bytes = serde_json::to_vec(&records)?;
    let at = pick(bytes.len());
    match pick(12) {
        0 => drop(bytes.remove(at)),
        1 => bytes.insert(at, b",:{}[]\"\\0 x\xff\xc3"[pick(13)]),
        2 => bytes[at] = u8::try_from(pick(256))?,
        3 => bytes.truncate(at),
        4 => bytes.extend_from_within(at..),
        _ => {}
    }
    Ok(bytes)
}

fn what_was_changed_is_refused_or_accounted_for(store: Store) {
    let strategy = vec((choices(), any::<bool>(), 0..4_u8), 1..12);
    check(4, &strategy, async |files| {
        // The imports go into one cluster: earlier ones may have got what a later one wants.
        let cluster = cluster(store).await?;
        for (choices, merge_users, filter) in files {
            let slugs = [SLUG, OTHER_SLUG].map(str::to_owned).to_vec();
            let filter = (filter == 0).then_some(slugs);
            let options = ImportOptions { filter, merge_users, ..ImportOptions::default() };
            import(&cluster, &damaged(choices).map_err(wrong)?, &options).await?;
        }
        cluster.stop().await;
        Ok(())
    });
}

/// The same without a database, and therefore with many more cases.
#[test]
fn whatever_a_file_is_reading_it_comes_to_an_end() {
    check(200, &choices(), async |choices| {
        export::read(&damaged(choices).map_err(wrong)?);
        Ok(())
    });
}

#[test]
fn a_file_that_is_nested_deep_is_read_to_an_end() {
    let deepest = Limits::default().depth;
    for depth in [deepest, deepest + 1, 1_000, 100_000] {
        export::read(&export::nested(depth));
    }
}

mod sqlite {
    use super::*;

    #[test]
    fn any_order_of_any_export_gives_the_same_rows() {
        super::any_order_of_any_export_gives_the_same_rows(Store::Sqlite);
    }

    #[test]
    fn what_was_changed_is_refused_or_accounted_for() {
        super::what_was_changed_is_refused_or_accounted_for(Store::Sqlite);
    }
}

mod postgres {
    use super::*;

    #[test]
    fn any_order_of_any_export_gives_the_same_rows() {
        super::any_order_of_any_export_gives_the_same_rows(Store::Postgres);
    }

    #[test]
    fn what_was_changed_is_refused_or_accounted_for() {
        super::what_was_changed_is_refused_or_accounted_for(Store::Postgres);
    }
}
