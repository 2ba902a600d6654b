"""One-time tokens: derived from a row, for one purpose and one address."""

import string
from datetime import timedelta

import pytest

from app_auth.auth import Auth
from app_auth.errors import InvalidLink
from app_auth.one_time import OneTimeTokens
from app_auth.settings import AuthSettings
from app_auth.testing import new_key
from app_db.models import OneTimeToken, TokenPurpose, User
from app_db.types import new_id, utcnow

ADA = User(id=new_id(), email="Ada@example.test", email_canonical="ada@example.test")
RESET, VERIFY = TokenPurpose.RESET_PASSWORD, TokenPurpose.VERIFY_EMAIL


def issued(auth: Auth, purpose: TokenPurpose = RESET) -> OneTimeToken:
    return auth.one_time_tokens.issue(ADA, purpose, now=utcnow())


def refused(tokens: OneTimeTokens, token: str, row: OneTimeToken | None, purpose: TokenPurpose = RESET) -> bool:
    try:
        assert row is None or tokens.parse(token) == row.id
        tokens.check(token, row, purpose, now=utcnow())
    except InvalidLink:
        return True
    return False


def test_a_token_belongs_to_its_row(auth: Auth) -> None:
    row = issued(auth)
    token = auth.one_time_tokens.derive(row)

    assert auth.one_time_tokens.parse(token) == row.id
    assert auth.one_time_tokens.check(token, row, RESET, now=utcnow()) is row


def test_the_token_of_a_row_is_always_the_same(auth: Auth) -> None:
    row = issued(auth)

    assert auth.one_time_tokens.derive(row) == auth.one_time_tokens.derive(row)


@pytest.mark.parametrize(("purpose", "lifetime"), [(RESET, timedelta(minutes=30)), (VERIFY, timedelta(hours=24))])
def test_a_token_lives_as_long_as_its_purpose_allows(auth: Auth, purpose: TokenPurpose, lifetime: timedelta) -> None:
    row = issued(auth, purpose)
    token = auth.one_time_tokens.derive(row)

    assert row.expires_at - row.created_at == lifetime
    auth.one_time_tokens.check(token, row, purpose, now=row.expires_at - timedelta(microseconds=1))
    with pytest.raises(InvalidLink):
        auth.one_time_tokens.check(token, row, purpose, now=row.expires_at)


def test_a_token_for_one_purpose_is_none_for_another(auth: Auth) -> None:
    row = issued(auth, VERIFY)

    assert refused(auth.one_time_tokens, auth.one_time_tokens.derive(row), row, RESET)


def test_a_row_whose_purpose_was_changed_has_another_token(auth: Auth) -> None:
    row = issued(auth, VERIFY)
    token = auth.one_time_tokens.derive(row)
    row.purpose = RESET

    assert refused(auth.one_time_tokens, token, row, RESET)


def test_a_row_whose_address_was_changed_has_another_token(auth: Auth) -> None:
    row = issued(auth)
    token = auth.one_time_tokens.derive(row)
    row.email_canonical = "eve@example.test"

    assert refused(auth.one_time_tokens, token, row)


def test_a_changed_one_time_token_is_refused(auth: Auth) -> None:
    row = issued(auth)
    token = auth.one_time_tokens.derive(row)
    alphabet = string.ascii_letters + string.digits + "_-."
    changed = [
        token[:place] + letter + token[place + 1 :]
        for place in range(33, len(token))
        for letter in alphabet
        if letter != token[place]
    ]

    assert [other for other in changed if not refused(auth.one_time_tokens, other, row)] == []


@pytest.mark.parametrize("token", ["", "x", f"{'0' * 32}.", f"{'0' * 32}.{'A' * 44}", f"{'F' * 32}.{'A' * 43}"])
def test_what_cannot_be_a_one_time_token_is_refused(auth: Auth, token: str) -> None:
    with pytest.raises(InvalidLink):
        auth.one_time_tokens.parse(token)


def test_a_token_without_its_row_is_refused(auth: Auth) -> None:
    assert refused(auth.one_time_tokens, auth.one_time_tokens.derive(issued(auth)), None)


def test_a_token_of_a_retired_key_is_accepted_and_of_a_removed_one_is_not(
    auth: Auth, auth_settings: AuthSettings
) -> None:
    row = issued(auth)
    token = auth.one_time_tokens.derive(row)
    retired = auth_settings.token_keys[0].model_copy(update={"state": "verify"})
    rotated = OneTimeTokens(auth_settings.model_copy(update={"token_keys": (retired, new_key("2"))}))
    removed = OneTimeTokens(auth_settings.model_copy(update={"token_keys": (new_key("2"),)}))

    assert not refused(rotated, token, row)
    assert rotated.issue(ADA, RESET, now=utcnow()).key_id == "2"
    assert refused(removed, token, row)
