//! Databases that are put back from copies, with the commands of docs/backup.md: what regions and control find then, and
//! that the steps of the page heal all of it. Each behaviour is one function; the tables below make tests of it.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod control;
mod forgotten;
mod page;
mod region;
mod taken;
mod under_way;

causeway_harness::on_each_store! {
    control:
        control_is_put_back_from_a_copy,
        a_copy_that_cannot_be_taken_or_put_back_changes_nothing;
    forgotten:
        a_control_that_nobody_said_is_an_old_copy_notices_it,
        nothing_is_given_out_twice_after_the_step,
        an_era_that_is_too_far_ahead_is_refused,
        a_database_of_a_region_is_refused;
    region:
        a_region_is_put_back_from_a_copy;
    taken:
        an_organization_whose_slug_another_one_got_gets_one_with_a_suffix;
    under_way:
        an_import_goes_on_if_control_forgot_only_its_slugs,
        an_import_whose_users_control_forgot_never_becomes_visible;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_put_back_to_a_moment() {
    control::control_is_put_back_to_a_moment().await;
}
