//! The previous release beside this one: services of both together, imports that are under way while one is replaced by the
//! other, migrations while the old process serves, and refusals. `.ci/upgrade` builds the previous release and runs these
//! tests; without it they are ignored, because they need its program. docs/upgrades.md has the rules that they hold.

#![expect(clippy::expect_used, reason = "a behaviour that is not there ends its test")]

mod beside;
mod refusals;
mod rules;
mod support;
mod under_way;

/// A test for each behaviour and store, which runs only with the program of the previous release.
macro_rules! with_the_previous_release {
    ($($module:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "needs the previous release: run .ci/upgrade"]
                async fn $behaviour() {
                    super::$module::$behaviour(causeway_harness::cluster::Store::Sqlite).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "needs the previous release: run .ci/upgrade"]
                async fn $behaviour() {
                    super::$module::$behaviour(causeway_harness::cluster::Store::Postgres).await;
                }
            )+)+
        }
    };
}

with_the_previous_release! {
    beside:
        a_new_control_serves_old_regions,
        new_regions_work_with_an_old_control,
        an_old_command_and_a_new_one_work_with_both;
    under_way:
        an_import_goes_on_when_control_is_replaced_at_a_step,
        an_import_goes_on_when_its_region_is_replaced_at_a_step,
        an_import_goes_on_when_both_are_stopped_and_replaced;
    refusals:
        an_older_control_refuses_a_newer_database,
        an_older_region_refuses_a_newer_database,
        a_contract_that_is_too_new_is_refused_each_way;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release: run .ci/upgrade"]
async fn an_old_control_goes_on_while_a_new_one_migrates_its_database() {
    beside::an_old_control_goes_on_while_a_new_one_migrates_its_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release: run .ci/upgrade"]
async fn an_old_region_goes_on_while_a_new_process_migrates_its_database() {
    beside::an_old_region_goes_on_while_a_new_process_migrates_its_database().await;
}
