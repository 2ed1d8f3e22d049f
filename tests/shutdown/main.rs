//! Shutdown of real processes, by one signal and by two, and loss of the database while they run. Whatever was begun
//! continues when everything is back, and is done once.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is test code, the helpers too")]

mod ends;
mod support;

causeway_harness::on_each_store! {
    ends:
        a_region_that_is_terminated_ends_after_its_current_chunk,
        a_second_signal_ends_a_region_at_once_and_loses_nothing,
        a_control_that_is_terminated_ends_its_feeds;
}

// SQLite has no server: the database goes away only with its service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_without_its_database_says_so_and_goes_on_when_it_is_back_on_postgres() {
    ends::a_region_without_its_database_says_so_and_goes_on_when_it_is_back(
        causeway_harness::cluster::Store::Postgres,
    )
    .await;
}
