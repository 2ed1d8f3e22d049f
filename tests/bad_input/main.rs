//! Wrong, old and odd files. A file that is refused is refused as a whole, and the refusal names the place. What is
//! skipped or changed has its finding, and the rest is imported. A behaviour is one function that does not depend on
//! the store and tries many named files on one cluster. The table below makes a test of it for both stores.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod calls;
mod changed;
mod documented;
mod fields;
mod form;
mod habits;
mod passed_over;
mod records;
mod support;
mod waited_out;

causeway_harness::on_each_store! {
    form:
        a_file_that_is_no_array_of_records_is_refused,
        a_string_of_a_hundred_megabytes_is_refused;
    records:
        a_record_without_its_three_parts_is_refused,
        records_that_contradict_each_other_are_refused;
    fields:
        a_field_that_its_column_cannot_take_is_refused,
        values_at_their_bounds_arrive;
    calls:
        a_filter_that_matches_nothing_is_refused,
        an_import_id_with_other_content_is_refused,
        an_unregistered_region_is_refused;
    passed_over:
        a_file_of_which_nothing_is_imported_says_so,
        models_and_fields_that_are_not_imported_are_reported,
        a_name_that_only_looks_known_is_reported,
        records_with_lost_references_are_reported_and_counted,
        a_second_membership_after_a_merge_is_reported,
        a_defect_of_what_an_existing_user_keeps_is_reported,
        a_defect_is_decided_after_a_restart_too,
        a_slug_of_the_filter_that_the_export_lacks_is_reported,
        nul_characters_are_removed_and_reported,
        records_of_other_scopes_that_belong_to_an_import_are_reported;
    changed:
        slugs_that_cannot_be_kept_are_changed_and_reported,
        slugs_that_are_taken_are_changed_and_reported,
        usernames_keys_and_tokens_that_are_taken_are_changed_and_reported;
    waited_out:
        control_that_goes_away_at_any_step_is_waited_for,
        databases_that_go_away_at_any_step_are_waited_for;
    habits:
        files_of_other_habits_import_alike,
        times_in_all_forms_are_the_same_time,
        json_in_strings_is_the_json,
        lists_in_all_forms_are_the_same_list,
        flags_are_numbers_or_texts;
}
