"""The tests that prove each of the seventy cases: marked by `# case 12` in this folder, or listed in ELSEWHERE.

A case that a package or the end-to-end tests already try over the same wire is not tried here again.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
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
}
"""The attacks on addresses, and on what proves them."""


def proofs() -> dict[int, set[str]]:
    """Return the names of all tests of each case."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in HERE.rglob("test_*.py"):
        for numbers, test in COMMENT.findall(path.read_text()):
            for number in numbers.split(","):
                found[int(number)].add(test)
    for number, tests in ELSEWHERE.items():
        found[number].update(tests)
    return dict(found)


def of_features() -> Iterator[dict[str, tuple[str, ...]]]:
    """Yield the attacks on each optional feature; its folder, with its tests, goes when the feature is removed."""
    for path in HERE.glob("features/*/cases.py"):
        attacks: dict[str, tuple[str, ...]] = import_module(f"tests.attack.features.{path.parent.name}.cases").ATTACKS
        yield attacks
