//! Slugs between control and its regions, through real services: renames, the regions' replicas, several controls. Each
//! behaviour is one function that does not depend on the store. The table below makes a test of it for each store that
//! supports it.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod commands;
mod comparisons;
mod controls;
mod directory;
mod reconcile;
mod renames;
mod support;

causeway_harness::on_each_store! {
    commands:
        slugs_are_renamed_and_aliases_released_by_command,
        an_operation_that_is_not_done_can_be_released_by_command;
    comparisons:
        many_pages_are_compared_to_their_ends,
        a_process_compares_once_at_a_time,
        a_comparison_is_printed_as_a_table;
    directory:
        a_directory_knows_the_slugs_of_all_regions,
        a_directory_answers_while_control_is_away,
        a_region_that_was_away_for_long_catches_up;
    renames:
        a_rename_is_done_by_its_region,
        a_rename_waits_for_a_region_that_is_away,
        a_region_refuses_a_slug_that_it_has,
        a_region_refuses_a_slug_that_its_database_refuses,
        a_slug_that_the_database_refuses_keeps_no_other_rename_back,
        renames_that_a_region_hears_of_at_once_are_all_done_and_recorded,
        a_region_resolves_its_slugs_without_control,
        a_rename_that_was_given_up_is_taken_back,
        a_rename_that_was_given_up_leaves_the_next_one_alone,
        a_rename_that_was_given_up_waits_for_what_the_feed_brings,
        a_rename_that_somebody_else_confirms_reaches_the_region,
        a_slug_that_was_changed_by_hand_stays_when_somebody_else_confirms_a_rename,
        a_rename_that_was_given_up_gives_way_to_one_that_somebody_else_confirmed,
        a_rename_survives_a_failure_at_each_place;
    reconcile:
        an_organization_that_control_does_not_know_gets_its_slug_reserved,
        an_organization_gets_the_slug_that_control_holds,
        a_slug_that_the_database_refuses_is_no_repair,
        what_is_held_for_nobody_is_freed,
        the_directory_is_updated_again,
        a_replica_that_is_wrong_is_made_again,
        what_comes_after_a_revert_is_released,
        what_a_failed_import_holds_is_left_alone,
        nothing_is_wrong_while_things_move,
        a_region_mends_what_it_may_by_itself,
        a_region_compares_recent_imports_by_itself,
        ids_from_before_causeway_are_given_to_nobody,
        ids_that_two_regions_have_are_reported_at_registration,
        an_import_says_what_the_directory_does_not_take;
}

// SQLite supports only one process. Each behaviour gets a test on PostgreSQL with its default isolation, and one in
// which every transaction is serializable.
macro_rules! on_postgres {
    ($($module:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod read_committed {
            use causeway_harness::cluster::{Cluster, Store};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(Cluster::builder(Store::Postgres)).await;
                }
            )+)+
        }
        mod serializable {
            use causeway_harness::cluster::{Cluster, Store};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(Cluster::builder(Store::Postgres).serializable()).await;
                }
            )+)+
        }
    };
}

on_postgres! {
    comparisons:
        processes_of_a_region_compare_one_after_the_other,
        what_the_region_has_yet_to_hear_is_no_difference,
        a_lease_that_is_over_is_taken;
    controls:
        a_region_goes_on_with_another_control,
        renames_through_two_controls_end_alike,
        imports_and_renames_outlive_their_controls;
    directory:
        a_directory_goes_on_with_another_control;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_serializable_is_run_again_and_counted() {
    use causeway_harness::cluster::{Cluster, Store};
    controls::what_is_serializable_is_run_again_and_counted(Cluster::builder(Store::Postgres)).await;
}
