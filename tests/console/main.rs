//! The console of control, as its users meet it: what the pages say, who may see them and act, what is refused, and how
//! it all looks and behaves in a browser. A behaviour is one function; those that read the database run on both stores.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod access;
mod actions;
mod bad_input;
mod browser;
mod browser_instructions;
mod command;
mod http;
mod instructions;
mod markup;
mod pages;
mod support;
mod webdriver;

causeway_harness::on_each_store! {
    bad_input:
        a_zero_character_in_an_address_is_refused;
    pages:
        every_page_has_its_headers_and_nothing_of_elsewhere,
        every_command_in_a_page_can_be_pasted,
        what_holds_an_import_back_is_shown,
        an_import_is_shown_while_it_runs_and_when_it_has_ended,
        a_failed_import_is_shown_with_why_and_what_to_do,
        a_hidden_organization_has_the_command_that_shows_it,
        a_slug_is_found_with_its_owner_and_its_history,
        a_silent_region_is_shown_and_what_is_old_is_marked,
        what_is_stuck_is_named_with_its_import_and_its_silent_region,
        a_suspended_region_is_shown,
        a_difference_is_shown_with_what_to_do,
        a_hundred_thousand_imports_and_organizations_have_pages;
    instructions:
        an_import_is_resumed_and_reverted_after_a_question,
        what_became_of_an_instruction_is_reported,
        an_instruction_without_its_token_or_about_nothing_is_refused;
    actions:
        a_stuck_reservation_is_released_after_a_question,
        a_suspended_region_is_to_be_resumed_before_a_release,
        a_rename_is_not_shown_for_an_operation_of_another_region,
        a_rename_that_hangs_is_given_up_after_a_question,
        an_action_without_its_token_does_nothing_and_is_recorded;
}
