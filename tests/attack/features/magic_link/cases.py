"""The attacks on links that sign in, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
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
