//! Checks what control promises, on each store: SQLite, PostgreSQL with its default isolation, and PostgreSQL with
//! serializable transactions only. Each behaviour is one function that does not depend on the store. The table below
//! makes a test of it for each store, e.g. `postgres::ids_are_never_given_twice`.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod all_feeds;
mod audit;
mod contract;
mod directory;
mod eras;
mod feeds;
mod grpc;
mod imports;
mod instructions;
mod limits;
mod lookups;
mod parts;
mod planned;
mod races;
mod regions;
mod registration;
mod renames;
mod reports;
mod requests;
mod sizes;
mod slugs;
mod streams;
mod support;
mod suspension;
mod users;

macro_rules! on_each_store {
    ($($module:ident: $($behaviour:ident),+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(super::support::Fixture::sqlite().await).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(super::support::Fixture::postgres().await).await;
                }
            )+)+
        }
        mod postgres_serializable {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(super::support::Fixture::postgres_serializable().await).await;
                }
            )+)+
        }
    };
}

on_each_store! {
    audit:
        a_change_and_its_row_are_one,
        an_operation_in_parts_has_one_row_for_each_decision,
        rows_are_never_changed_or_deleted_by_hand,
        what_somebody_does_to_the_log_is_found,
        old_rows_go_and_the_chain_stays_whole,
        a_beginning_that_was_cut_off_is_found,
        a_control_deletes_what_is_too_old,
        several_controls_make_one_chain,
        rows_get_into_the_chain_by_themselves;
    limits:
        a_query_that_takes_too_long_is_given_up_and_does_not_go_on;
    regions:
        registering_again_renews_the_address,
        a_name_belongs_to_the_database_that_registered_first,
        a_malformed_region_is_refused,
        regions_are_listed_page_by_page,
        a_region_that_never_registered_is_refused_everywhere,
        leased_ids_follow_each_other,
        leased_ids_lie_above_what_the_region_has,
        a_repeated_lease_is_the_same_lease,
        a_lease_out_of_bounds_is_refused,
        ids_stay_below_2_to_the_53rd,
        no_lease_has_an_id_that_a_region_holds,
        one_absurd_id_does_not_use_up_those_of_all,
        an_id_of_another_region_is_refused,
        a_region_is_told_which_of_its_ids_are_not_its_own,
        a_conflict_is_found_among_many_ids_of_others,
        a_name_can_be_taken_over_by_an_operators_word;
    registration:
        a_region_that_nobody_added_cannot_register,
        a_region_that_registers_where_any_may_is_added_by_that,
        a_region_that_has_never_registered_can_be_removed,
        an_address_changes_by_the_same_identity_only,
        a_region_from_before_identities_gets_the_first_that_it_shows,
        a_region_that_reads_its_feed_is_in_contact,
        regions_from_before_count_as_added;
    suspension:
        suspending_and_resuming_twice_is_doing_it_once,
        a_suspended_region_cannot_write,
        a_suspended_region_is_still_found,
        a_suspension_waits_for_what_is_being_written,
        what_begins_to_write_during_a_suspension_is_refused;
    slugs:
        a_slug_that_is_free_is_kept,
        a_slug_that_is_none_is_made_one,
        a_slug_that_is_taken_gets_a_suffix,
        a_valid_slug_is_not_lost_to_one_that_must_change,
        an_answer_says_why_a_slug_changed,
        a_repeated_operation_has_the_same_answer,
        an_answer_is_the_same_whatever_becomes_of_the_slugs,
        a_confirmation_counts_what_it_confirmed,
        an_operation_id_is_for_one_content,
        an_operation_without_organizations_is_one,
        one_organization_gets_a_slug_as_many_do,
        operations_say_how_far_they_are_page_by_page,
        confirming_twice_is_confirming_once,
        releasing_twice_is_releasing_once,
        an_operation_belongs_to_its_region,
        an_organization_has_one_slug,
        reservations_are_listed_page_by_page,
        the_slugs_of_organizations_are_known,
        a_hundred_thousand_organizations_in_one_operation;
    races:
        ids_are_never_given_twice,
        the_same_lease_at_once_is_one_lease,
        regions_that_want_the_same_slugs_at_once_all_get_some,
        controls_that_draw_the_same_suffixes_give_different_ones,
        the_same_operation_at_once_has_one_answer,
        two_operations_for_one_organization_at_once_are_one,
        confirming_repeating_and_releasing_at_once_end_in_a_release,
        an_abandoned_call_leaves_nothing_half_done,
        a_report_that_waits_for_a_rename_does_not_undo_it;
    parts:
        an_operation_of_many_is_done_in_parts_and_others_write_in_between,
        an_operation_that_ends_half_way_goes_on_when_it_is_asked_again,
        an_organization_that_turns_out_to_have_a_slug_undoes_the_whole_operation,
        an_operation_in_parts_refuses_an_organization_of_another_region,
        an_operation_that_is_undone_half_way_is_undone_when_it_is_asked_again,
        an_operation_that_was_never_answered_can_only_be_released,
        the_answer_of_a_released_operation_is_deleted_in_parts,
        an_organization_gets_one_slug_however_two_operations_meet;
    directory:
        a_confirmed_slug_leads_to_its_region,
        many_slugs_are_resolved_at_once,
        a_check_says_what_would_become_of_slugs,
        a_check_agrees_with_what_becomes_of_slugs,
        a_report_is_what_the_directory_shows,
        a_refused_organization_keeps_no_other_one_out,
        the_directory_says_what_is_reserved,
        a_malformed_report_is_refused,
        a_report_that_arrives_late_does_not_replace_a_later_one,
        organizations_are_listed_page_by_page,
        one_organization_is_found_by_its_id;
    imports:
        a_repeated_chunk_has_the_same_answer,
        imports_that_want_the_same_addresses_do_not_wait_for_each_other,
        an_address_that_is_there_is_used_and_the_others_of_its_chunk_are_new,
        a_token_for_an_organization_of_another_region_is_refused,
        rows_are_found_as_the_rules_compare_them,
        a_check_takes_what_a_reservation_would_be_asked_with;
    planned:
        a_region_asks_only_for_imports_that_it_has_said_it_plans,
        a_region_plans_an_import_for_a_week_and_not_too_many;
    instructions:
        an_instruction_that_is_asked_for_twice_is_one,
        an_instruction_is_handed_out_until_it_is_answered,
        an_instruction_without_an_answer_expires_and_a_late_answer_counts,
        only_so_many_instructions_of_a_region_wait,
        old_instructions_and_those_of_suspended_regions_are_not_kept_or_taken;
    reports:
        a_report_replaces_the_former_one_of_the_same_import,
        imports_of_all_regions_are_listed_page_by_page_the_newest_first,
        old_and_too_many_reports_of_a_region_are_forgotten,
        a_malformed_report_is_refused_with_its_field,
        the_last_comparison_of_a_region_is_stored,
        comparisons_have_pages_and_those_with_differences_left_are_counted,
        a_report_is_recorded_for_each_version_of_a_region;
    lookups:
        slugs_are_found_by_their_beginning,
        an_organization_shows_its_slugs_and_its_renames,
        what_is_neither_confirmed_nor_released_is_stuck_after_ten_minutes,
        a_hundred_thousand_stuck_reservations_are_listed_by_operation;
    users:
        a_record_of_a_user_whom_its_import_has_not_brought_is_refused,
        a_user_whom_another_region_uses_stays_with_all_that_belongs_to_it,
        an_import_adds_to_a_user_whom_another_region_uses_for_a_week;
    sizes:
        the_largest_answers_about_slugs_fit_into_a_message,
        the_largest_answer_for_a_chunk_fits_into_a_message,
        values_that_are_looked_up_are_bounded_in_bytes;
    eras:
        every_reader_starts_over_in_a_new_era,
        the_audit_log_names_the_region_by_which_an_era_begins,
        only_a_region_begins_an_era_by_what_it_has_read,
        a_version_of_no_era_is_refused,
        ids_that_may_have_been_leased_are_leased_again_to_nobody,
        what_two_readers_notice_at_once_is_one_era,
        a_region_begins_one_era_for_each_start_of_control,
        an_era_whose_commit_was_not_answered_counts,
        a_suspended_region_begins_no_era,
        eras_that_were_forgotten_are_passed_over_with_their_ids,
        lost_ids_that_two_regions_have_are_leased_to_neither;
    feeds:
        a_reader_begins_with_all_there_is,
        a_reader_goes_on_where_it_was,
        a_reader_that_is_too_far_behind_starts_over,
        a_reader_hears_what_another_control_does,
        changes_at_once_are_reported_in_one_order,
        a_slow_reader_misses_nothing,
        a_slow_reader_is_told_how_far_the_feed_is,
        a_feed_ends_when_its_control_does;
    all_feeds:
        one_stream_carries_the_feeds_of_all_regions,
        routers_do_not_take_the_places_of_regions;
    renames:
        a_rename_frees_the_old_slug,
        a_rename_may_keep_the_old_slug,
        an_organization_may_have_a_hundred_aliases,
        an_organization_may_have_its_old_slug_back,
        a_slug_that_cannot_be_had_gets_a_suffix_unless_it_must_be_exact,
        a_rename_to_the_same_slug_changes_nothing,
        a_refusal_leaves_everything_as_it_was,
        a_rename_that_its_region_refuses_is_gone,
        a_rename_is_waited_for,
        whoever_waits_for_a_rename_costs_nothing_while_others_end,
        renames_at_once_are_one,
        an_alias_can_be_released,
        nothing_is_left_of_a_released_organization;
    grpc:
        a_bulk_creation_goes_both_ways_in_batches,
        a_stream_out_of_order_is_refused,
        failures_carry_their_reason,
        what_is_confirmed_meanwhile_is_not_released_for_an_operator,
        pages_are_asked_for_by_token,
        as_many_watches_are_open_at_once_as_the_limit;
    requests:
        a_request_of_too_many_entries_is_refused_before_it_is_decoded,
        a_zero_character_in_any_text_is_refused,
        a_forged_page_token_is_refused,
        a_page_token_is_good_at_any_control_of_the_database,
        an_error_never_gives_a_request_back,
        a_page_of_what_is_held_is_bounded_by_bytes;
    streams:
        a_stream_that_is_cut_off_reserves_nothing,
        a_bulk_creation_has_a_place_as_long_as_it_goes_on,
        a_bulk_creation_without_a_header_keeps_out_nobody,
        an_operation_that_would_never_fit_is_refused_for_good;
}
