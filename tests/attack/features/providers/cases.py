"""The attacks on sign-in with others, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
    "mix-up: the answer of another provider": (
        "test_an_answer_of_another_provider_is_refused",
        "test_an_answer_that_is_not_the_providers_is_refused",
        "test_the_answer_of_one_provider_is_taken_from_no_other",
        "test_the_same_subject_at_another_provider_is_somebody_else",
    ),
    "replay of an answer, a code, a nonce; at two servers at once": (
        "test_an_answer_is_taken_once",
        "test_of_answers_at_once_one_is_taken",
        "test_a_code_is_good_once_and_for_who_began",
        "test_an_answer_is_good_once_at_all_servers_together",
        "test_of_one_answer_at_two_servers_at_once_one_signs_in",
        "test_a_new_person_at_two_servers_at_once_gets_one_account",
    ),
    "a code or a callback of another browser": (
        "test_an_answer_in_another_browser_signs_nobody_in",
        "test_an_answer_in_another_browser_is_refused",
        "test_a_stolen_code_is_of_no_use_in_another_browser",
        "test_a_victim_who_is_sent_back_with_a_code_of_the_attacker_stays_out",
        "test_a_state_of_a_sign_in_links_nothing_and_the_other_way_round",
    ),
    "alg none, HS256 with a public key, another audience, azp, issuer, time": (
        "test_what_is_not_from_the_provider_for_us_and_now_is_refused",
        "test_a_forged_token_signs_nobody_in",
    ),
    "a key that the provider has not published": (
        "test_a_new_key_of_the_provider_is_found_at_once",
        "test_a_new_key_is_found_by_each_server_and_one_that_is_not_published_by_none",
    ),
    "next= that leads elsewhere": ("test_nobody_is_led_elsewhere_afterwards", "test_no_sign_in_leads_elsewhere"),
    "an address of another, verified or not": (
        "test_an_address_that_has_an_account_signs_nobody_in",
        "test_an_address_that_is_not_verified_makes_no_account",
        "test_a_closed_registration_lets_nobody_new_in_and_does_not_tell_who_is_here",
        "test_an_address_of_somebody_else_opens_and_links_nothing",
        "test_an_address_that_the_provider_does_not_vouch_for_makes_no_account",
        "test_an_address_of_another_subject_is_refused",
        "test_an_address_is_verified_where_it_is_told",
    ),
    "an identity of the attacker in the account of another": (
        "test_no_form_of_another_site_begins_a_sign_in",
        "test_linking_needs_a_fresh_sign_in",
        "test_a_link_is_made_in_the_session_that_has_begun_it",
        "test_a_session_that_has_ended_links_nothing",
        "test_an_identity_of_the_attacker_is_not_linked_with_a_victim",
    ),
    "a provider that is down, frozen, endless, or no provider": (
        "test_a_provider_that_is_frozen_is_given_up",
        "test_what_is_no_answer_is_an_outage_of_the_provider",
        "test_no_connection_is_held_while_a_provider_is_asked",
        "test_a_provider_that_is_down_takes_nothing_else_down",
        "test_a_frozen_provider_holds_up_nobody_else",
    ),
    "a provider instead of the second factor, into a disabled account": (
        "test_a_second_factor_is_asked_for",
        "test_a_provider_does_not_spare_the_second_factor",
        "test_a_disabled_account_stays_shut",
        "test_a_provider_opens_no_disabled_account",
    ),
    "codes, states, secrets and addresses in the log": ("test_no_log_has_what_a_sign_in_is_made_of",),
}
