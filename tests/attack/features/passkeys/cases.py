"""The attacks on passkeys, most of them with a software authenticator, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
    "another origin, domain, ceremony or key, a frame, flags that are not set, another's credential": (
        "test_a_bent_registration_is_refused",
        "test_a_bent_sign_in_is_refused",
        "test_a_passkey_of_another_account_is_refused_with_the_id_of_this_one",
    ),
    "a response that is sent again, or to another challenge, at two servers too": (
        "test_of_twenty_answers_to_one_challenge_at_two_servers_one_signs_in",
        "test_of_twenty_answers_to_one_registration_at_two_servers_one_is_taken",
        "test_a_challenge_for_one_thing_is_not_good_for_another",
        "test_an_old_challenge_signs_nobody_in",
    ),
    "a copy of an authenticator": (
        "test_a_counter_that_goes_back_is_refused_and_audited",
        "test_of_a_passkey_and_its_copy_at_two_servers_one_signs_in",
    ),
    "CBOR and JSON of any kind": ("test_no_response_is_a_fault_of_ours", "test_no_sign_in_is_a_fault_of_ours"),
    "asking who has which passkey, and guessing": (
        "test_what_is_refused_says_nothing_about_passkeys",
        "test_no_more_passkeys_are_tried_from_one_address_than_passwords",
    ),
    "a passkey of the attacker in the account of another": (
        "test_a_passkey_is_added_only_after_a_fresh_sign_in",
        "test_a_challenge_dies_with_the_session_that_asked_for_it",
        "test_a_passkey_ends_with_the_stranger_who_registered_the_address",
    ),
    "an account that nobody can enter any more": (
        "test_the_last_way_in_is_not_removed",
        "test_of_the_last_two_that_are_removed_at_once_one_is_left",
    ),
}
