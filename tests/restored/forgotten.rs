//! What `causeway restored` does, and what happens if nobody has run it.

use std::collections::BTreeSet;

use causeway_harness::cluster::{Cluster, Silo, Store};
use causeway_silo::db::Statement;

use crate::{
    control::{PATIENCE, id_of, imported, rename, slugs, users},
    page::{Operator, agree},
};

async fn number(cluster: &Cluster, silo: Silo, sql: &'static str) -> i64 {
    let db = cluster.db(silo).await.expect("a database");
    let row = db.fetch_optional(Statement::new(sql)).await.expect("it is read").expect("a row");
    db.close().await;
    row.int("it").expect("a number")
}

/// Follows the steps of the page, until nothing differs and no promise is broken.
async fn heal(cluster: &Cluster, operator: &mut Operator) {
    cluster.quiet(PATIENCE).await.expect("quiet");
    for region in 0..2 {
        operator.follow_steps(cluster, region);
    }
    cluster.quiet(PATIENCE).await.expect("quiet");
    for region in 0..2 {
        agree(operator, cluster, region);
    }
    cluster.assert_invariants().await.expect("no promise is broken");
}

/// A region that starts gives up its blocks of ids, so its next import has leases of its own.
async fn new_blocks(cluster: &mut Cluster) {
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
}

/// The bad input: a backup of control that is older than a region. The region is ahead of its feed, so control knows.
pub(crate) async fn a_control_that_nobody_said_is_an_old_copy_notices_it(store: Store) {
    let mut cluster = Cluster::start(store, &["us", "de"]).await.expect("a cluster");
    let mut operator = Operator::of(&cluster, Silo::Control);
    let kept = imported(&cluster, 0, &["acme"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    operator.copy(store);
    rename(&cluster, id_of(&kept, "acme"), "acme-two", false).await;
    new_blocks(&mut cluster).await;
    imported(&cluster, 0, &["birch"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    cluster.stop_control().await;
    cluster.close_shared_db(Silo::Control).await;
    operator.put_back(store);
    cluster.start_control().await.expect("it starts");
    cluster.quiet(PATIENCE).await.expect("quiet");
    assert_eq!(number(&cluster, Silo::Control, "SELECT era AS it FROM causeway_era").await, 1);
    assert_eq!(number(&cluster, Silo::Region(0), "SELECT era AS it FROM causeway_feed_cursor").await, 1);
    let said = "SELECT COUNT(*) AS it FROM causeway_audit WHERE call LIKE 'begin an era%'";
    assert_eq!(number(&cluster, Silo::Control, said).await, 1);
    let of_region =
        "SELECT COUNT(*) AS it FROM causeway_audit WHERE call LIKE 'begin an era%' AND object = 'region/us'";
    assert_eq!(number(&cluster, Silo::Control, of_region).await, 1);
    // The region keeps its newer slug, and its lost ids are leases again.
    assert_eq!(slugs(&cluster, 0).await, BTreeSet::from(["acme-two", "birch"].map(str::to_owned)));
    let leases =
        "SELECT COUNT(*) AS it FROM causeway_id_lease WHERE model = 'sentry.organization' AND region = 'us'";
    let put_back = async {
        while number(&cluster, Silo::Control, leases).await < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, put_back).await.expect("the lost lease is put back");
    heal(&cluster, &mut operator).await;
    cluster.stop().await;
}

pub(crate) async fn nothing_is_given_out_twice_after_the_step(store: Store) {
    let mut cluster = Cluster::start(store, &["us", "de"]).await.expect("a cluster");
    let mut operator = Operator::of(&cluster, Silo::Control);
    imported(&cluster, 0, &["acme"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    operator.copy(store);
    new_blocks(&mut cluster).await;
    let lost = imported(&cluster, 0, &["birch"]).await;
    let before: BTreeSet<i64> = users(&cluster).await.into_keys().collect();
    cluster.quiet(PATIENCE).await.expect("quiet");
    // Nobody is there who could tell control of what it has forgotten.
    cluster.stop_region(0).await;
    cluster.stop_control().await;
    cluster.close_shared_db(Silo::Control).await;
    operator.put_back(store);
    operator.say_restored(store).well();
    cluster.start_control().await.expect("it starts");
    let known: BTreeSet<i64> = users(&cluster).await.into_keys().collect();
    let other = imported(&cluster, 1, &["cedar"]).await;
    assert!(id_of(&other, "cedar") > id_of(&lost, "birch") + 1_000_000, "{other:?}");
    let new: BTreeSet<i64> = users(&cluster).await.into_keys().filter(|id| !known.contains(id)).collect();
    assert!(
        !new.is_empty() && new.is_disjoint(&before),
        "a user has the id of a lost one: {new:?} {before:?}"
    );
    // The same copy is put back again: the era that has begun since is forgotten, and the users and ids of it.
    cluster.stop_region(1).await;
    let before: BTreeSet<i64> = before.union(&new).copied().collect();
    cluster.stop_control().await;
    cluster.close_shared_db(Silo::Control).await;
    operator.put_back(store);
    let said = operator.say_restored_again(store, 1).well();
    assert!(
        said.starts_with("era 2 has begun")
            && said.contains("\n  causeway restored --database-url URL --after-era 2\n"),
        "{said}"
    );
    cluster.start_control().await.expect("it starts");
    cluster.start_region(0).await.expect("it starts");
    let third = imported(&cluster, 0, &["dahlia"]).await;
    assert!(id_of(&third, "dahlia") > id_of(&other, "cedar") + 1_000_000, "{third:?}");
    let new: BTreeSet<i64> = users(&cluster).await.into_keys().filter(|id| !known.contains(id)).collect();
    assert!(
        !new.is_empty() && new.is_disjoint(&before),
        "a user has the id of a lost one: {new:?} {before:?}"
    );
    cluster.start_region(1).await.expect("it starts");
    heal(&cluster, &mut operator).await;
    cluster.stop().await;
}

/// A number that nobody can have been told passes over nothing.
pub(crate) async fn an_era_that_is_too_far_ahead_is_refused(store: Store) {
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let operator = Operator::of(&cluster, Silo::Control);
    cluster.stop_control().await;
    for (last, why) in [(17, "too far above it"), (-1, "--after-era"), (1 << 20, "--after-era")] {
        let ended = operator.say_restored_again(store, last);
        assert!(ended.code.is_some_and(|code| code != 0) && ended.log.contains(why), "{last}: {ended:?}");
    }
    assert_eq!(number(&cluster, Silo::Control, "SELECT era AS it FROM causeway_era").await, 0);
    let said = operator.say_restored_again(store, 15).well();
    assert!(said.starts_with("era 16 has begun"), "{said}");
    cluster.stop().await;
}

pub(crate) async fn a_database_of_a_region_is_refused(store: Store) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let ended = Operator::of(&cluster, Silo::Region(0)).say_restored(store);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.log.contains("that of a region, and control needs one of its own"), "{ended:?}");
    cluster.stop().await;
}
