"""Refresh tokens: one spelling each, derived from a key; every other text is refused."""

import string
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app_auth.auth import Auth
from app_auth.errors import RefreshTokenNotFound
from app_auth.settings import AuthSettings
from app_auth.testing import new_key
from app_auth.tokens import RefreshClaims, RefreshTokens
from app_db.types import new_id

SESSION_ID = UUID("01933f2e-8d1a-7abc-9def-0123456789ab")


def refused(tokens: RefreshTokens, token: str) -> bool:
    try:
        tokens.parse(token)
    except RefreshTokenNotFound:
        return True
    return False


@pytest.mark.parametrize("counter", [0, 1, 9, 10, 2**31, 10**19 - 1])
def test_a_derived_token_names_its_session_and_its_number(auth: Auth, counter: int) -> None:
    token = auth.refresh_tokens.derive(SESSION_ID, counter, key_id="1")

    assert auth.refresh_tokens.parse(token) == RefreshClaims(SESSION_ID, counter)


def test_a_token_can_be_derived_again(auth: Auth) -> None:
    first, second = (auth.refresh_tokens.derive(SESSION_ID, 7, key_id="1") for _ in range(2))

    assert first == second


def test_no_two_tokens_of_sessions_and_numbers_share_a_mac(auth: Auth) -> None:
    tokens = [
        auth.refresh_tokens.derive(session_id, counter, key_id="1")
        for session_id in (SESSION_ID, new_id())
        for counter in range(3)
    ]

    assert len({token.split(".")[2] for token in tokens}) == 6


def test_a_mac_has_256_bits(auth: Auth) -> None:
    mac = auth.refresh_tokens.derive(SESSION_ID, 0, key_id="1").split(".")[2]

    assert len(mac) == 43  # base64url of 32 bytes, without padding


def test_a_changed_refresh_token_is_refused(auth: Auth) -> None:
    token = auth.refresh_tokens.derive(SESSION_ID, 7, key_id="1")
    alphabet = string.ascii_letters + string.digits + "_-."
    changed = [
        f"{token[:at]}{character}{token[at + 1 :]}"
        for at in range(len(token))
        for character in alphabet.replace(token[at], "")
    ]

    accepted = [other for other in changed if not refused(auth.refresh_tokens, other)]

    assert accepted == []


def test_a_cut_or_doubled_token_is_refused(auth: Auth) -> None:
    token = auth.refresh_tokens.derive(SESSION_ID, 7, key_id="1")

    assert all(refused(auth.refresh_tokens, token[:length]) for length in range(len(token)))
    assert refused(auth.refresh_tokens, token + token)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SESSION_ID.hex, SESSION_ID.hex.upper()),
        (SESSION_ID.hex, str(SESSION_ID)),
        (SESSION_ID.hex, f"{{{SESSION_ID}}}"),
        (SESSION_ID.hex, SESSION_ID.hex.replace("0", "\u0660")),
        ("rt_", ""),
        ("rt_", "RT_"),
        ("rt_", "rt_rt_"),
        (".12.", ".012."),
        (".12.", ".+12."),
        (".12.", ".1_2."),
        (".12.", ". 12."),
        (".12.", ".\u0661\u0662."),
        (".12.", ".12.0."),
        (".12.", f".{12 + 2**64}."),
    ],
    ids=ascii,
)
def test_another_spelling_of_a_token_is_refused(auth: Auth, ours: str, theirs: str) -> None:
    token = auth.refresh_tokens.derive(SESSION_ID, 12, key_id="1")

    assert refused(auth.refresh_tokens, token.replace(ours, theirs, 1))


@pytest.mark.parametrize("around", ["{}\n", " {}", "{}=", "{}\0"])
def test_a_token_with_something_around_it_is_refused(auth: Auth, around: str) -> None:
    token = auth.refresh_tokens.derive(SESSION_ID, 12, key_id="1")

    assert refused(auth.refresh_tokens, around.format(token))


@pytest.mark.parametrize(
    "counter", ["9" * 30, "9" * 5000, str(2**64), "-1", "", "1.5", "1e3"], ids=lambda text: text[:9]
)
def test_a_number_that_no_token_can_have_is_refused(auth: Auth, counter: str) -> None:
    mac = "A" * 43

    assert refused(auth.refresh_tokens, f"rt_{SESSION_ID.hex}.{counter}.{mac}")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(
    text=st.text(st.characters())
    | st.builds(
        "rt_{}.{}.{}".format,
        st.text(st.sampled_from("0123456789abcdef"), min_size=32, max_size=32) | st.text(st.characters()),
        st.integers() | st.text(st.characters()),
        st.text(st.sampled_from(string.ascii_letters), min_size=43, max_size=43) | st.text(st.characters()),
    )
)
def test_no_text_is_a_token_and_none_fails_in_another_way(auth: Auth, text: str) -> None:
    assert refused(auth.refresh_tokens, text)


def test_an_instance_with_other_keys_refuses_our_tokens(auth: Auth, auth_settings: AuthSettings) -> None:
    elsewhere = RefreshTokens(auth_settings.model_copy(update={"refresh_keys": (new_key("1"),)}))

    assert refused(elsewhere, auth.refresh_tokens.derive(SESSION_ID, 0, key_id="1"))


def test_a_retired_refresh_key_is_still_believed(auth: Auth, auth_settings: AuthSettings) -> None:
    retired = auth_settings.refresh_keys[0].model_copy(update={"state": "verify"})
    rotated = RefreshTokens(auth_settings.model_copy(update={"refresh_keys": (retired, new_key("2"))}))

    token = auth.refresh_tokens.derive(SESSION_ID, 0, key_id="1")

    assert rotated.parse(token) == RefreshClaims(SESSION_ID, 0)
    assert rotated.active_key_id == "2"


def test_a_removed_refresh_key_is_not_believed(auth: Auth, auth_settings: AuthSettings) -> None:
    rotated = RefreshTokens(auth_settings.model_copy(update={"refresh_keys": (new_key("2"),)}))

    assert refused(rotated, auth.refresh_tokens.derive(SESSION_ID, 0, key_id="1"))
