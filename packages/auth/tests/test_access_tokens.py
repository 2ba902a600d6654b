"""The claims of the access tokens that we issue, and the key that signs them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
import pytest

from app_auth.auth import Auth
from app_auth.errors import InvalidToken
from app_auth.settings import AuthSettings
from app_auth.testing import new_key
from app_auth.tokens import AccessClaims, AccessTokens
from app_db.types import utcnow

USER_ID, SESSION_ID = UUID(int=1), UUID(int=2)


def issue(tokens: AccessTokens) -> str:
    return tokens.issue(user_id=USER_ID, session_id=SESSION_ID, now=utcnow())[0]


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_an_issued_token_names_its_user_and_its_session(auth: Auth) -> None:
    assert auth.access_tokens.verify(issue(auth.access_tokens)) == AccessClaims(USER_ID, SESSION_ID)


def test_the_claims_are_exactly_the_promised_ones(auth: Auth) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    token, expires_at = auth.access_tokens.issue(user_id=USER_ID, session_id=SESSION_ID, now=now)

    claims = claims_of(token)
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "iss": "groundwork",
        "aud": "groundwork",
        "sub": str(USER_ID),
        "sid": str(SESSION_ID),
        "iat": now.timestamp(),
        "nbf": now.timestamp(),
        "exp": expires_at.timestamp(),
        "client_id": "first-party",
        "scope": "account",
    }
    assert (expires_at - now).total_seconds() == 900


def test_no_two_tokens_have_one_jti(auth: Auth) -> None:
    first, second = issue(auth.access_tokens), issue(auth.access_tokens)

    assert claims_of(first)["jti"] != claims_of(second)["jti"]


def test_the_header_names_the_type_and_the_key(auth: Auth) -> None:
    assert jwt.get_unverified_header(issue(auth.access_tokens)) == {"alg": "HS256", "typ": "at+jwt", "kid": "1"}


def test_the_audience_may_differ_from_the_issuer(auth: Auth, auth_settings: AuthSettings) -> None:
    tokens = AccessTokens(auth_settings.model_copy(update={"audience": "shop"}))

    assert tokens.verify(issue(tokens)) == AccessClaims(USER_ID, SESSION_ID)
    with pytest.raises(InvalidToken):
        tokens.verify(issue(auth.access_tokens))


def test_an_instance_with_other_keys_refuses_our_tokens(auth: Auth, auth_settings: AuthSettings) -> None:
    elsewhere = AccessTokens(auth_settings.model_copy(update={"keys": (new_key("1"),)}))

    with pytest.raises(InvalidToken):
        elsewhere.verify(issue(auth.access_tokens))


def test_a_retired_key_still_verifies_and_signs_no_more(auth: Auth, auth_settings: AuthSettings) -> None:
    retired = auth_settings.keys[0].model_copy(update={"state": "verify"})
    rotated = AccessTokens(auth_settings.model_copy(update={"keys": (retired, new_key("2"))}))

    assert rotated.verify(issue(auth.access_tokens)) == AccessClaims(USER_ID, SESSION_ID)
    assert jwt.get_unverified_header(issue(rotated))["kid"] == "2"


def test_a_removed_key_verifies_nothing(auth: Auth, auth_settings: AuthSettings) -> None:
    rotated = AccessTokens(auth_settings.model_copy(update={"keys": (new_key("2"),)}))

    with pytest.raises(InvalidToken):
        rotated.verify(issue(auth.access_tokens))
