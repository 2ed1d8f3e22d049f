//! The audit logs of a control and its regions, through real services: what is recorded of calls, and how it is shown.
//! What the database does is in `tests/control_store/audit.rs`.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod calls;
mod commands;
mod failures;
mod pages;
mod support;

causeway_harness::on_each_store! {
    calls:
        every_call_that_changes_something_is_recorded,
        an_import_has_one_request_id_in_both_silos,
        an_import_that_fails_is_recorded_with_its_reason,
        a_request_keeps_the_id_that_its_caller_gave_it,
        a_caller_is_known_by_its_certificate;
    commands:
        the_log_is_listed_by_command,
        a_log_that_was_changed_is_noticed_by_command,
        a_log_whose_beginning_was_cut_off_is_noticed_by_command,
        a_log_is_whole_after_services_were_killed;
    failures:
        a_call_that_is_refused_is_recorded_with_its_reason,
        failed_calls_do_not_fill_the_log,
        what_a_caller_writes_by_mistake_is_not_kept;
    pages:
        the_log_is_served_page_by_page;
}
