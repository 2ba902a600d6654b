"""The attacks by webhooks, each with its tests."""

ATTACKS: dict[str, tuple[str, ...]] = {
    "a name or number of this machine, a private network, a cloud's metadata, a group, IPv4 within IPv6": (
        "test_nothing_connects_to_an_address_that_is_not_public",
        "test_an_address_that_is_not_public_is_refused",
        "test_a_number_in_the_address_is_looked_up_nowhere",
        "test_no_endpoint_has_a_private_number",
        "test_a_name_with_one_private_address_among_others_is_refused",
    ),
    "a name that changes between look-up and connection": (
        "test_a_name_that_changes_between_look_up_and_connection_changes_nothing",
    ),
    "a redirect to an address that is not public": ("test_a_redirect_is_not_followed",),
    "another scheme, a password, a number in disguise, another certificate": (
        "test_what_is_no_address_of_an_endpoint_is_refused",
        "test_an_endpoint_that_proves_another_name_gets_nothing",
        "test_an_endpoint_of_an_unknown_authority_gets_nothing",
    ),
    "an endpoint that is slow or never ends, and a name server that hangs": (
        "test_an_endpoint_that_is_slow_is_given_up",
        "test_an_answer_without_end_is_cut_off",
        "test_slow_endpoints_leave_slots_to_other_jobs",
        "test_a_resolver_that_hangs_costs_no_more_than_the_limit",
    ),
    "the endpoint, log or secret of another": (
        "test_the_endpoint_of_another_is_not_found",
        "test_a_secret_belongs_to_its_endpoint",
        "test_a_secret_is_shown_once_and_stored_encrypted",
    ),
    "an endpoint of an attacker that outlives a reset, or is made by a stolen token": (
        "test_a_reset_of_the_password_ends_the_endpoints",
        "test_no_endpoint_is_made_by_a_session_that_was_just_ended",
        "test_what_decides_who_gets_events_needs_a_fresh_sign_in",
    ),
    "the worker is killed in the middle of a delivery": (
        "test_an_event_arrives_although_the_worker_was_killed_while_sending_it",
    ),
}
