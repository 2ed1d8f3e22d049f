//! Imports from the first byte to the last, through a real control and real regions, on each store. Every import that
//! succeeds is audited: each record, each row, each finding. Each behaviour is one function that does not depend on the
//! store. The table below makes a test of it for both stores.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod added;
mod again;
mod application;
mod approve;
mod batch_sizes;
mod calls;
mod dry_run;
mod encrypted;
mod faults;
mod filter;
mod findings;
mod instructions;
mod limits;
mod lost_lease;
mod members;
mod nested_ids;
mod once;
mod only_here;
mod owners;
mod paging;
mod pairs;
mod pause;
mod product;
mod product_tables;
mod real;
mod refused;
mod regions;
mod releases;
mod reported;
mod resume;
mod revert;
mod rules;
mod shapes;
mod sizes;
mod slug_turns;
mod support;
mod survive;
mod suspended;
mod throttle;
mod turns;
mod upgraded;
mod uploads;
mod watches;

causeway_harness::on_each_store! {
    instructions:
        an_instruction_is_carried_out_once_however_often_it_arrives,
        an_instruction_is_refused_as_the_command_would_be,
        a_region_may_refuse_all_instructions,
        an_instruction_is_carried_out_once_if_its_process_fails_or_dies;
    added:
        a_project_without_a_key_and_a_user_without_an_address_get_one,
        rows_are_added_for_what_is_imported_and_new,
        a_row_that_another_one_keeps_out_is_not_added,
        a_project_of_a_view_that_is_not_imported_is_reported,
        an_import_that_an_older_release_has_planned_gets_added_rows_too,
        many_added_rows_leave_room_for_other_findings;
    shapes:
        every_shape_of_exports_arrives;
    once:
        every_model_arrives_as_the_file_has_it,
        a_row_that_is_not_as_the_file_has_it_is_noticed,
        organizations_may_stay_hidden,
        the_order_of_the_records_makes_no_difference,
        a_file_without_records_is_an_import_of_nothing,
        the_example_arrives,
        any_part_of_an_export_adds_up;
    approve:
        organizations_that_were_left_hidden_are_shown_when_approved,
        an_approval_ends_when_its_region_stops,
        what_cannot_be_approved_is_refused;
    again:
        a_second_import_changes_only_what_is_taken,
        a_merging_import_leaves_users_as_they_are,
        the_same_import_again_changes_nothing,
        an_import_that_is_sent_twice_at_once_is_one,
        an_import_id_stands_for_one_content_and_one_set_of_parameters;
    application:
        the_application_inserts_beside_imports,
        ids_that_a_table_gives_never_go_back;
    filter:
        a_filter_takes_an_organization_and_what_belongs_to_it,
        a_filter_that_matches_nothing_is_refused,
        an_empty_filter_imports_nothing,
        a_slug_that_the_export_lacks_is_reported,
        a_query_goes_with_the_rules_that_refer_to_it,
        a_query_that_nothing_imported_refers_to_does_not_stay,
        what_a_filter_leaves_out_cannot_refuse_the_file,
        a_record_between_two_organizations_is_reported;
    nested_ids:
        ids_inside_values_lead_to_the_new_rows,
        ids_of_merged_users_lead_to_those_who_are_here,
        ids_of_what_is_not_imported_are_cleared_and_reported,
        ids_in_snapshots_lead_to_the_new_rows,
        what_may_be_an_id_and_is_not_understood_is_reported_once,
        terms_of_searches_are_mapped_or_reported;
    dry_run:
        a_dry_run_says_what_an_import_does,
        a_dry_run_knows_what_is_there_already,
        a_dry_run_knows_what_repeats_in_the_file,
        a_dry_run_of_any_part_of_an_export_agrees,
        a_dry_run_says_who_has_a_slug,
        a_dry_run_fails_as_the_import_would,
        a_dry_run_is_another_import_than_the_real_one,
        a_dry_run_of_an_encrypted_export_is_one_of_what_is_in_it,
        a_dry_run_waits_for_control_and_begins_again,
        a_dry_run_cannot_be_reverted,
        a_dry_run_warns_of_all_that_would_be_changed;
    lost_lease:
        what_a_process_without_the_lease_wants_to_commit_is_refused,
        what_a_process_without_the_lease_wants_to_take_back_stays,
        a_process_that_comes_back_late_changes_nothing;
    batch_sizes:
        an_import_goes_on_under_a_release_with_other_batches;
    pause:
        an_import_can_be_paused_in_each_state_and_continues_where_it_was,
        paused_imports_take_no_place_and_others_go_on,
        a_pause_that_fails_or_dies_once_is_one,
        a_paused_import_is_only_continued_by_ending_the_pause,
        what_cannot_be_paused_is_refused,
        a_pause_holds_for_all_processes_of_a_region,
        a_pause_by_another_process_ends_the_wait_for_a_limit,
        a_pause_ends_the_wait_for_a_turn;
    throttle:
        an_import_that_waits_for_a_limit_holds_nothing_open,
        imports_write_no_faster_than_their_limits,
        a_limit_that_cannot_be_one_is_refused,
        limits_that_are_set_are_stored_and_recorded,
        imports_give_way_while_the_application_is_slow,
        a_probe_statement_that_is_no_good_does_no_harm,
        a_dry_run_has_no_limit,
        a_model_that_fails_ends_the_wait_of_the_others;
    reported:
        an_import_changes_once_more_when_the_directory_has_it,
        a_region_reports_its_imports_as_soon_as_control_knows_it;
    turns:
        a_small_import_ends_while_a_large_one_is_being_written,
        many_organizations_become_visible_in_parts,
        a_small_import_ends_while_a_large_one_is_in_another_state,
        an_import_has_no_turn_while_control_works_for_it,
        many_hidden_organizations_are_approved_in_parts,
        an_approval_ends_when_its_import_is_reverted,
        an_import_that_is_reverted_while_it_becomes_visible_is_hidden_at_once,
        slugs_that_the_region_has_after_all_are_asked_for_again;
    slug_turns:
        four_imports_at_once_ask_for_slugs,
        an_import_takes_its_turn_again_after_an_error_of_control;
    watches:
        a_watcher_gets_the_filter_at_first_and_at_the_end,
        a_hundred_who_watch_one_import_share_one_reader;
    findings:
        findings_are_kept_up_to_a_limit_and_counted_past_it,
        findings_of_a_severity_are_given;
    members:
        users_who_merge_have_one_membership,
        the_higher_role_of_two_memberships_stays_with_the_teams_of_both,
        an_organization_without_an_owner_is_reported,
        a_username_that_is_the_address_of_somebody_else_is_reported,
        a_username_is_compared_with_addresses_of_users_far_away,
        a_merged_member_follows_the_user_who_is_there,
        usernames_that_differ_only_in_case_are_taken,
        a_long_username_is_shortened_for_its_suffix,
        addresses_are_the_same_in_any_case,
        a_token_that_is_taken_is_cleared,
        an_auth_token_without_a_hash_gets_a_new_one;
    owners:
        owners_of_older_exports_are_found,
        the_team_that_owns_a_monitor_is_the_one_of_the_file,
        two_owners_of_one_thing_arrive_as_one,
        every_model_arrives_in_tables_with_the_products_checks;
    rules:
        a_project_or_team_without_a_slug_gets_one_from_its_name,
        subscriptions_to_queries_are_to_be_made,
        every_key_of_a_project_is_kept,
        an_owner_has_one_option_of_a_name,
        an_option_that_the_application_does_not_take_is_left_out,
        missing_fields_take_their_defaults,
        every_wanted_slug_becomes_one,
        a_thousand_organizations_of_one_slug_are_distinguished,
        rules_hold_between_chunks,
        rows_that_were_here_before_are_left_alone,
        an_unknown_field_is_reported_whatever_the_scope;
    only_here:
        a_user_whom_an_index_of_this_database_keeps_out_is_left_out,
        a_row_that_breaks_a_check_of_this_database_is_left_out,
        a_member_whose_higher_role_this_database_refuses_keeps_its_own,
        an_organization_whose_status_this_database_refuses_stays_hidden,
        a_status_that_is_refused_twice_is_reported_once,
        a_slug_that_this_database_refuses_is_asked_for_again,
        an_import_whose_slugs_this_database_all_refuses_fails_and_says_why;
    releases:
        a_model_is_known_by_all_its_names,
        a_key_that_stands_under_two_names_of_a_model_is_refused,
        an_invitation_comes_with_its_member,
        a_data_source_leads_to_what_its_type_names,
        data_sources_of_one_target_are_refused_however_they_are_written,
        a_target_that_is_empty_or_a_number_is_read,
        an_address_to_sign_in_with_is_cleared_if_it_is_taken,
        a_record_of_any_release_is_read,
        exports_of_each_release_arrive_in_all_ways;
    refused:
        two_teams_of_one_slug_are_refused,
        a_primary_key_that_stands_twice_is_refused,
        an_invalid_record_is_refused_with_its_place,
        a_refusal_is_a_finding_with_its_kind;
    suspended:
        an_import_of_a_suspended_region_waits_until_it_is_resumed,
        an_import_whose_region_is_suspended_half_way_ends_well;
    regions:
        two_regions_at_once_give_every_organization_its_own_slug,
        two_regions_that_merge_at_once_share_their_users,
        two_imports_at_once_into_one_region_do_not_meet,
        a_block_of_ids_with_a_row_in_it_is_given_up,
        the_directory_shows_what_was_imported;
    resume:
        a_region_that_is_stopped_goes_on_when_it_is_back,
        an_import_waits_for_control,
        services_that_stop_again_and_again_change_nothing,
        nothing_is_visible_before_the_end;
    survive:
        an_import_that_failed_goes_on_when_its_cause_is_gone,
        a_model_that_fails_ends_the_others_after_their_chunk,
        what_cannot_be_resumed_is_refused,
        a_process_that_lost_an_import_leaves_it_alone_until_the_lease_is_over;
    revert:
        an_import_that_is_reverted_leaves_nothing,
        imports_that_shared_rows_leave_nothing_when_all_are_reverted,
        what_was_reverted_can_be_imported_again_with_the_same_slugs,
        what_others_need_stays_and_is_reported,
        an_import_that_has_not_ended_can_be_reverted,
        an_import_whose_spool_directory_is_gone_can_be_reverted,
        an_import_that_failed_can_be_reverted;
    faults:
        a_revert_that_fails_or_dies_anywhere_once_leaves_nothing,
        a_resumption_that_fails_or_dies_once_is_one,
        an_import_gets_further_in_every_life;
    limits:
        a_record_may_have_as_many_bytes_as_the_limit,
        a_record_for_control_may_have_as_many_bytes_as_a_message_takes,
        a_record_may_be_nested_as_deep_as_the_limit,
        an_import_may_have_as_many_organizations_as_the_limit,
        an_import_whose_slugs_control_never_has_memory_for_fails,
        an_import_for_which_control_has_no_memory_any_more_fails,
        as_many_findings_are_stored_as_the_limit,
        as_many_watches_are_open_at_once_as_the_limit;
    uploads:
        as_many_uploads_are_taken_at_once_as_the_limit,
        an_upload_is_taken_whatever_becomes_of_another_one_of_its_import,
        an_upload_that_stalls_gives_its_place_to_others,
        an_upload_that_is_cut_off_leaves_nothing,
        an_upload_that_trickles_gives_its_place_to_others,
        one_address_has_as_many_uploads_as_its_limit;
    calls:
        a_watch_shows_an_import_from_its_beginning_to_its_end,
        an_upload_that_is_not_what_it_says_leaves_nothing,
        an_import_that_is_not_there_is_not_found;
    encrypted:
        an_encrypted_export_arrives_as_its_file_has_it,
        an_encrypted_export_stays_encrypted_and_waits_for_its_key,
        a_region_without_the_right_key_takes_no_encrypted_export,
        an_export_is_opened_with_the_key_that_it_was_encrypted_for,
        a_tar_that_is_not_in_order_leaves_nothing,
        places_in_an_encrypted_export_are_those_of_the_export,
        an_encrypted_export_in_no_order_arrives,
        an_upload_that_is_too_large_is_refused;
    paging:
        pages_cover_everything_once,
        a_list_of_imports_leaves_their_filters_out,
        what_a_region_is_asked_comes_back_short_or_not_at_all;
    sizes:
        every_list_has_pages_that_fit_into_a_message;
    real:
        exports_from_elsewhere_arrive_as_their_files_have_them;
}
