"""The attacks on keys for machines and on repetitions, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
    "a stolen key at each route: to sign in, change credentials, make keys, end sessions, delete, operate": (
        "test_a_key_opens_no_route_that_does_not_ask_for_a_scope",
        "test_the_jobs_of_everybody_are_for_no_key",
        "test_a_stolen_key_does_no_more_than_its_scopes",
    ),
    "keys guessed, mistyped, planted in the database, as cookie or parameter": (
        "test_guesses_at_a_key_are_throttled_and_the_key_goes_on",
        "test_a_key_with_a_typing_error_costs_no_query",
        "test_a_digest_that_somebody_has_planted_opens_nothing",
        "test_a_key_is_no_cookie_and_no_query_parameter",
    ),
    "a key that outlives its revocation, account, reset or disabling, at another process": (
        "test_a_revoked_key_is_dead_at_each_process_at_once",
        "test_a_reset_revokes_every_key",
        "test_disabling_an_account_revokes_its_keys",
        "test_the_key_of_a_deleted_account_is_gone",
    ),
    "a key made by a session that a reset has just ended, or beyond the number": (
        "test_no_key_is_made_by_a_session_that_was_just_ended",
        "test_an_account_has_so_many_keys_at_most",
    ),
    "an Idempotency-Key at two processes at once, of another account, with another body": (
        "test_of_repetitions_at_two_processes_one_makes_the_key",
        "test_accounts_do_not_share_their_keys",
        "test_a_key_is_good_for_one_request",
    ),
    "the process is killed between the commit and the answer": (
        "test_what_was_done_by_a_process_that_was_killed_is_answered_by_another",
    ),
    "the answer with a key is read from the database, or repeated by an old sign-in": (
        "test_a_key_that_is_shown_once_is_not_stored_for_its_repetition",
        "test_a_key_is_shown_again_to_a_fresh_sign_in_only",
    ),
}
