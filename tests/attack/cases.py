"""The tests that prove each of the seventy cases: marked by `# case 12` in this folder, or listed in ELSEWHERE.

A case that a package or the end-to-end tests already try over the same wire is not tried here again.
"""

import re
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
COMMENT = re.compile(r"^# cases? ([0-9, ]+)$\n(?:^[@ )\]].*\n)*^(?:async )?def (test_\w+)", re.MULTILINE)

CASES = range(1, 71)
LATER: dict[int, str] = {}
"""Cases about features that do not exist yet."""

DIFFERENT = {
    9: "400, but 413 below /auth: a hundred thousand brackets are more than the 64 KiB that are read there at all",
    47: "204 for the second verification with one link too, with the password that counts: it changes nothing",
    56: "400, but for a length beside chunks: HAProxy reads the chunks (RFC 9112, 6.3), passes on no length and closes "
    "the connection, so there is one reading and one answer, and nothing behind it is served",
    69: "there is no switch for debugging that could be on, and docs load nothing from elsewhere where they are on",
}
"""Cases whose answer differs from the expected one, because another promise requires it."""

ELSEWHERE: dict[int, tuple[str, ...]] = {
    25: ("test_a_public_key_is_no_secret", "test_the_kid_of_another_key_brings_its_algorithm"),
    28: ("test_a_time_that_is_no_time_is_refused",),
    54: ("test_what_is_too_long_is_refused_with_a_problem", "test_a_header_without_end_is_cut_off_early"),
    56: (
        "test_what_can_be_read_in_two_ways_is_refused_with_all_that_follows",
        "test_length_and_chunks_together_leave_one_reading",
        "test_a_strange_field_does_no_harm",
    ),
    60: ("test_docs_are_off_in_production_unless_enabled", "test_no_request_of_a_docs_page_leaves_the_host"),
    61: ("test_a_database_that_is_stopped_is_said_to_be_away_until_it_is_back",),
    62: ("test_no_request_hangs_on_a_database_that_is_frozen",),
    63: ("test_no_sign_in_hangs_on_a_table_that_is_locked",),
    64: (
        "test_a_database_that_lets_nobody_in_is_said_to_be_away_until_it_does",
        "test_a_server_without_a_free_connection_is_said_to_be_away_until_it_has_one",
        "test_a_database_that_became_read_only_is_said_to_be_away_and_still_read",
        "test_a_disk_that_is_full_is_an_outage_for_writes_until_it_has_room",
    ),
    65: ("test_accounts_work_without_valkey", "test_wrong_passwords_are_limited_without_valkey"),
    66: (
        "test_sign_ins_that_run_when_it_is_told_to_stop_are_answered",
        "test_whoever_comes_new_to_a_process_that_is_stopping_is_sent_away",
        "test_a_process_that_is_told_to_stop_behind_the_proxy_costs_no_request",
        "test_a_process_that_is_killed_takes_no_more_along_than_what_it_was_writing",
    ),
    67: (
        "test_a_mail_is_sent_although_the_worker_was_killed_while_sending_it",
        "test_a_stopped_worker_gives_its_job_back_with_the_attempt",
    ),
    68: ("test_a_constraint_that_nobody_knows_is_a_fault_after_which_the_connection_goes_on",),
    69: (
        "test_production_refuses_weak_secrets",
        "test_production_refuses_every_host",
        "test_a_refused_value_is_not_repeated",  # that browsers of all origins may ask, among others
        "test_production_refuses_every_proxy",
        "test_production_refuses_a_role_that_may_do_anything",
    ),
}


CONSOLE: dict[str, tuple[str, ...]] = {
    "a form of another origin, at each unsafe route": (
        "test_no_form_of_another_site_is_taken",
        "test_a_form_that_does_not_say_where_it_is_from_is_refused",
        "test_a_form_of_another_site_is_refused",
    ),
    "a session that the attacker knows is put into the browser before the sign-in": (
        "test_a_session_that_somebody_else_put_into_the_browser_is_not_that_of_who_signs_in",
        "test_a_sign_in_has_a_new_session_and_ends_the_one_before",
    ),
    "the cookie as a bearer token, a bearer or refresh token as the cookie": (
        "test_a_cookie_is_no_bearer_token_and_a_token_is_no_cookie",
        "test_signing_out_ends_the_session_and_drops_the_cookie",
    ),
    "markup and scripts in each text of a stranger, at each page": (
        "test_no_page_has_a_text_of_a_stranger_as_markup",
        "test_what_strangers_write_is_shown_as_text",
        "test_every_page_of_operators_fits_and_can_be_used_by_everybody",
    ),
    "a user at each address of operators, and at their live parts": (
        "test_the_pages_of_operators_do_not_exist_for_others",
        "test_what_operators_watch_is_nothing_for_others",
    ),
    "a stream that outlives the session or the role": (
        "test_an_ended_session_ends_its_streams",
        "test_a_change_of_the_role_ends_the_streams_too",
    ),
    "a page in a frame": (
        "test_pages_are_kept_by_nobody_and_framed_by_nobody",
        "test_no_page_of_another_site_can_frame_the_console",
    ),
    "the back button, and any cache, after signing out": (
        "test_the_back_button_shows_nothing_after_signing_out",
        "test_pages_are_kept_by_nobody_and_framed_by_nobody",
    ),
    "next= and Referer that lead elsewhere": (
        "test_no_address_of_another_site_is_a_next_page",
        "test_what_cannot_be_undone_asks_for_the_password_again",
    ),
    "what cannot be undone, by who finds a browser signed in": (
        "test_what_cannot_be_undone_asks_for_the_password_again",
    ),
    "whatever is sent to each route": ("test_no_page_fails_whatever_is_sent_to_it",),
    "more streams than one may have": (
        "test_a_stream_too_many_is_refused",
        "test_more_windows_than_a_browser_has_connections_load_and_take_turns",
    ),
}
"""The attacks on the console, each with its tests; they loop over the routes, so a new page is attacked as well."""

ADDRESSES: dict[str, tuple[str, ...]] = {
    "the address of another is registered first, with a password and all else that an account may have": (
        "test_who_registers_the_address_of_another_keeps_nothing_there",
        "test_nothing_of_who_registered_first_is_left",
        "test_a_reset_of_an_address_that_nobody_proved_leaves_no_way_in",
    ),
    "passwords are guessed by a link that was used": (
        "test_an_old_link_is_no_way_to_guess_the_password",
        "test_a_used_link_sets_no_other_password",
    ),
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
        "test_what_was_mailed_before_a_change_is_worth_nothing_after",
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
    "a link to sign in is opened by a scanner, elsewhere, twice, late, or past a second factor": (
        "test_programs_that_open_links_use_nothing_up",
        "test_a_link_signs_in_only_where_it_was_asked_for",
        "test_a_browser_signs_in_by_the_link_that_it_asked_for",
        "test_of_parallel_sign_ins_by_one_link_one_is_done",
        "test_a_link_to_sign_in_lives_for_a_quarter_of_an_hour",
        "test_a_link_is_used_up_by_the_challenge_too",
        "test_a_link_to_sign_in_ends_with_the_change_of_the_account",
    ),
}
"""The attacks on addresses, and on what proves them."""

PASSKEYS: dict[str, tuple[str, ...]] = {
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
"""The attacks on passkeys, most of them with a software authenticator."""


KEYS: dict[str, tuple[str, ...]] = {
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
"""The attacks on keys for machines and on repetitions."""


def proofs() -> dict[int, set[str]]:
    """Return the names of all tests of each case."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in HERE.glob("test_*.py"):
        for numbers, test in COMMENT.findall(path.read_text()):
            for number in numbers.split(","):
                found[int(number)].add(test)
    for number, tests in ELSEWHERE.items():
        found[number].update(tests)
    return dict(found)


SECOND_FACTOR: dict[str, tuple[str, ...]] = {
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
"""The attacks on one-time codes, each with its tests."""
