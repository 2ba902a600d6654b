"""The attacks on one-time codes, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
    "another way in, which does not ask": (
        "test_no_way_in_opens_an_account_with_a_second_factor",
        "test_no_first_proof_alone_opens_an_account_with_a_second_factor",
    ),
    "a code that somebody has seen, also at two servers at once": (
        "test_a_code_works_once",
        "test_one_code_at_two_servers_at_once_opens_one_session",
        "test_one_recovery_code_at_two_servers_at_once_opens_one_session",
        "test_the_code_that_turned_it_on_is_used_up",
    ),
    "a challenge as a token, or answered twice": (
        "test_a_challenge_is_no_token",
        "test_one_challenge_at_two_servers_at_once_opens_one_session",
    ),
    "codes are guessed": ("test_guesses_at_codes_are_throttled", "test_guesses_at_once_are_throttled"),
    "a copy of the database": (
        "test_the_database_holds_neither_the_secret_nor_a_recovery_code",
        "test_a_secret_that_was_copied_to_another_account_is_worthless",
    ),
}
