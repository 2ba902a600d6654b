"""A token that was verified is remembered: it is believed as long as any other, and nothing else is."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app_auth.errors import InvalidToken
from app_auth.settings import AuthSettings
from app_auth.testing import new_key
from app_auth.tokens import REMEMBERED, AccessClaims, AccessTokens
from app_db.types import new_id, utcnow

CLAIMS = AccessClaims(UUID(int=1), UUID(int=2))
TTL, LEEWAY = 900, 5


@pytest.fixture
def tokens(auth_settings: AuthSettings) -> AccessTokens:
    return AccessTokens(auth_settings)


def issue(tokens: AccessTokens) -> str:
    return tokens.issue(user_id=CLAIMS.user_id, session_id=CLAIMS.session_id, now=utcnow())[0]


def signed(auth_settings: AuthSettings, **times: int) -> str:
    """Return a token with these times."""
    ids = {"sub": str(CLAIMS.user_id), "sid": str(CLAIMS.session_id), "jti": "a"}
    claims = {"iss": "groundwork", "aud": "groundwork", "client_id": "first-party", "scope": "account", **ids, **times}
    content = f"{encoded({'alg': 'HS256', 'kid': '1', 'typ': 'at+jwt'})}.{encoded(claims)}"
    return f"{content}.{encoded(hmac.digest(auth_settings.keys[0].key_bytes, content.encode(), 'sha256'))}"


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).decode().rstrip("=")


def believed(tokens: AccessTokens, token: str, at: float | None = None) -> bool:
    try:
        return tokens.verify(token, now=None if at is None else datetime.fromtimestamp(at, UTC)) == CLAIMS
    except InvalidToken:
        return False


def junk(token: str) -> Iterator[str]:
    """Yield tokens that are nearly this one."""
    header, claims, signature = token.split(".")
    other = encoded(json.loads(base64.urlsafe_b64decode(claims + "==")) | {"sub": str(new_id())})
    yield from (f"{token}x", f"{header}.{other}.{signature}", f"{header}.{claims}.", token.upper(), f" {token}", "")


def test_a_remembered_token_has_the_claims_of_the_first_time(tokens: AccessTokens) -> None:
    token = issue(tokens)

    assert [tokens.verify(token) for _ in range(3)] == [CLAIMS] * 3
    assert len(tokens._verified) == 1


@settings(deadline=None)
@given(
    issued=st.integers(-800, 0), begins=st.integers(-800, 0), life=st.integers(60, TTL), later=st.integers(-1800, 1800)
)
def test_a_remembered_token_is_believed_as_long_as_any_other(
    auth_settings: AuthSettings, issued: int, begins: int, life: int, later: int
) -> None:
    """What PyJWT says of a token whose times are shifted, is said of the remembered one at another time."""
    expires = issued + life
    assume(expires > 2)
    # Not at the second of a limit, where the moments of the two comparisons would decide; the next test is exact.
    assume(all(abs(edge - later) > 2 for edge in (issued - LEEWAY, begins - LEEWAY, expires + LEEWAY)))
    tokens, now = AccessTokens(auth_settings), time.time()
    times = {"iat": int(now) + issued, "nbf": int(now) + begins, "exp": int(now) + expires}
    token = signed(auth_settings, **times)
    assert believed(tokens, token)

    remembered = believed(tokens, token, now + later)

    shifted = signed(auth_settings, **{name: at - later for name, at in times.items()})
    assert remembered == believed(AccessTokens(auth_settings), shifted)
    assert len(tokens._verified) == remembered  # an expired one is forgotten


def test_the_limits_of_a_remembered_token_are_exact(auth_settings: AuthSettings, tokens: AccessTokens) -> None:
    now = int(time.time())
    token = signed(auth_settings, iat=now - 10, nbf=now - 10, exp=now + 60)
    later = signed(auth_settings, iat=now - 10, nbf=now - 5, exp=now + 60)

    moments = [now - 15.5, now - 15, now + 64.5, now + 65]

    assert [believed(tokens, token) and believed(tokens, token, at) for at in moments] == [False, True, True, False]
    assert [believed(tokens, later) and believed(tokens, later, at) for at in (now - 10.5, now - 10)] == [False, True]


def test_nothing_but_claims_is_remembered(tokens: AccessTokens) -> None:
    token = issue(tokens)
    tokens.verify(token)

    remembered = repr(tokens._verified)

    assert str(CLAIMS.user_id) in remembered
    assert not any(part in remembered for part in token.split("."))


def test_what_is_refused_is_not_remembered(auth_settings: AuthSettings, tokens: AccessTokens) -> None:
    token, now = issue(tokens), int(time.time())
    expired = signed(auth_settings, iat=now - 600, nbf=now - 600, exp=now - 60)

    for refused in [*junk(token), expired, signed(auth_settings, iat=now, nbf=now, exp=now + TTL + 1)]:
        assert not believed(tokens, refused)

    assert not tokens._verified


def test_a_token_like_a_remembered_one_is_refused(tokens: AccessTokens) -> None:
    token = issue(tokens)
    tokens.verify(token)

    assert not any(believed(tokens, other) for other in junk(token))


def test_another_ring_remembers_nothing(auth_settings: AuthSettings, tokens: AccessTokens) -> None:
    token = issue(tokens)
    tokens.verify(token)

    rotated = AccessTokens(auth_settings.model_copy(update={"keys": (new_key("2"),)}))

    assert not believed(rotated, token)


def test_the_tokens_that_were_used_last_are_remembered(tokens: AccessTokens) -> None:
    first, second = issue(tokens), issue(tokens)
    for token in (first, second, first, *(issue(tokens) for _ in range(REMEMBERED - 1))):
        tokens.verify(token)
    remembered = len(tokens._verified)

    tokens.verify(first)
    unchanged = list(tokens._verified)
    tokens.verify(second)

    assert remembered == len(unchanged) == len(tokens._verified) == REMEMBERED
    assert unchanged[1:] == list(tokens._verified)[:-1]  # `first` was there, `second` took the place of the oldest
