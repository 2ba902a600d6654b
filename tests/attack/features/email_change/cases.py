"""The attacks on changes of an address, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
    "a session is used for a minute, to give the account another address, and then another": (
        "test_an_address_is_stolen_twice_and_comes_back",
        "test_changing_the_address_needs_a_fresh_sign_in",
        "test_who_comes_back_to_an_address_leaves_nothing_to_undo",
        "test_registering_the_old_address_does_not_stop_its_owner",
    ),
    "a change is asked for, and confirmed after the owner has come back": (
        "test_a_change_that_waits_ends_with_what_its_asker_may",
    ),
    "the old mailbox is read by somebody, who keeps a link from there": (
        "test_a_reset_that_was_mailed_before_a_change_is_worth_nothing_after",
        "test_a_sign_in_that_was_mailed_before_a_change_is_worth_nothing_after",
    ),
    "the mail of a change goes to a stranger": (
        "test_who_gets_the_mail_of_a_change_by_mistake_gets_no_account",
        "test_a_confirmation_by_a_stranger_needs_the_password",
        "test_the_link_goes_to_the_new_address_and_names_no_other",
    ),
    "addresses are tried out by changes to them": (
        "test_asking_looks_the_same_for_a_taken_address",
        "test_nobody_is_flooded_with_changes_of_address",
    ),
    "two changes, or a change and a registration, at once": (
        "test_two_accounts_that_move_to_one_address_at_once_end_with_one",
        "test_of_a_change_and_a_registration_at_once_one_account_has_the_address",
        "test_of_two_confirmations_one_is_done",
    ),
}
