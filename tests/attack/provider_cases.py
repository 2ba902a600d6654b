"""The attacks on sign-in with others, each with its tests."""

PROVIDERS: dict[str, tuple[str, ...]] = {
    "mix-up: the answer of another provider": (
        "test_an_answer_of_another_provider_is_refused",
        "test_an_answer_that_is_not_the_providers_is_refused",
    ),
    "replay of an answer, a code, a nonce; at two servers at once": (
        "test_an_answer_is_taken_once",
        "test_of_answers_at_once_one_is_taken",
        "test_a_code_is_good_once_and_for_who_began",
    ),
    "a code or a callback of another browser": (
        "test_an_answer_in_another_browser_signs_nobody_in",
        "test_an_answer_in_another_browser_is_refused",
        "test_a_state_of_a_sign_in_links_nothing_and_the_other_way_round",
    ),
    "alg none, HS256 with a public key, another audience, azp, issuer, time": (
        "test_what_is_not_from_the_provider_for_us_and_now_is_refused",
    ),
    "next= that leads elsewhere": ("test_nobody_is_led_elsewhere_afterwards",),
    "an address of another, verified or not": (
        "test_an_address_that_has_an_account_signs_nobody_in",
        "test_an_address_that_is_not_verified_makes_no_account",
        "test_a_closed_registration_lets_nobody_new_in_and_does_not_tell_who_is_here",
    ),
    "an identity of the attacker in the account of another": (
        "test_no_form_of_another_site_begins_a_sign_in",
        "test_linking_needs_a_fresh_sign_in",
        "test_a_link_is_made_in_the_session_that_has_begun_it",
        "test_a_session_that_has_ended_links_nothing",
    ),
    "a provider that is down, frozen, endless, or no provider": (
        "test_a_provider_that_is_frozen_is_given_up",
        "test_what_is_no_answer_is_an_outage_of_the_provider",
        "test_no_connection_is_held_while_a_provider_is_asked",
    ),
}
"""The attacks on sign-in with others, with a provider that is spoken to over HTTP."""
