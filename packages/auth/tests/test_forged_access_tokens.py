"""Access tokens that are not believed: each differs from a right one in one thing."""

import base64
import hmac
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app_auth.auth import Auth
from app_auth.errors import InvalidToken
from app_auth.settings import AuthSettings, Key
from app_auth.testing import new_key
from app_auth.tokens import AccessClaims, AccessTokens
from app_db.types import new_id, utcnow

USER_ID, SESSION_ID = UUID(int=1), UUID(int=2)

type Forge = Callable[..., str]


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).decode().rstrip("=")


def signed(key: Key, header: object, claims: object, *, digest: str = "sha256") -> str:
    """Sign any header and claims, also those that PyJWT would refuse."""
    content = f"{encoded(header)}.{encoded(claims)}"
    return f"{content}.{encoded(hmac.digest(key.key_bytes, content.encode(), digest))}"


def right_header() -> dict[str, Any]:
    return {"alg": "HS256", "kid": "1", "typ": "at+jwt"}


def right_claims() -> dict[str, Any]:
    now = math.floor(time.time())
    ours = {"iss": "groundwork", "aud": "groundwork", "sub": str(USER_ID), "sid": str(SESSION_ID), "jti": "a"}
    client = {"client_id": "first-party", "scope": "account"}
    return {**ours, **client, "iat": now, "nbf": now, "exp": now + 900}


@pytest.fixture
def forge(auth_settings: AuthSettings) -> Forge:
    """Return a function that makes a token with our key; its arguments change the header or the claims."""

    def forge(*, header: dict[str, Any] | None = None, without: str = "", **claims: Any) -> str:
        claims = right_claims() | claims
        claims.pop(without, None)
        return signed(auth_settings.keys[0], right_header() | (header or {}), claims)

    return forge


def refused(tokens: AccessTokens, token: str) -> bool:
    try:
        tokens.verify(token)
    except InvalidToken:
        return True
    return False


def test_what_the_tests_below_change_is_accepted_unchanged(auth: Auth, forge: Forge) -> None:
    assert auth.access_tokens.verify(forge()) == AccessClaims(USER_ID, SESSION_ID)


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", "HS384", "RS256", None, 5, ["HS256"]])
def test_another_algorithm_is_refused(auth: Auth, forge: Forge, alg: object) -> None:
    assert refused(auth.access_tokens, forge(header={"alg": alg}))


def test_an_algorithm_of_our_key_that_the_ring_does_not_name_is_refused(
    auth: Auth, auth_settings: AuthSettings
) -> None:
    token = signed(auth_settings.keys[0], right_header() | {"alg": "HS384"}, right_claims(), digest="sha384")

    assert refused(auth.access_tokens, token)


@pytest.mark.parametrize("alg", ["none", "HS256"])
def test_a_token_without_a_signature_is_refused(auth: Auth, forge: Forge, alg: str) -> None:
    content, _, _ = forge(header={"alg": alg}).rpartition(".")

    assert refused(auth.access_tokens, f"{content}.")
    assert refused(auth.access_tokens, content)


def test_the_signature_of_another_key_is_refused(auth: Auth) -> None:
    assert refused(auth.access_tokens, signed(new_key("1"), right_header(), right_claims()))


def test_a_changed_claim_is_refused(auth: Auth, forge: Forge) -> None:
    header, _, signature = forge().split(".")

    assert refused(auth.access_tokens, f"{header}.{encoded(right_claims() | {'sub': str(new_id())})}.{signature}")


@pytest.mark.parametrize(
    "kid", ["2", "", "../../etc/passwd", "k" * 10_240, 1, 1.5, True, None, ["1"], {"1": "1"}, "\ud800"], ids=str
)
def test_an_unknown_kid_is_refused(auth: Auth, forge: Forge, kid: object) -> None:
    assert refused(auth.access_tokens, forge(header={"kid": kid}))


def test_a_header_without_kid_is_refused(auth: Auth, auth_settings: AuthSettings) -> None:
    token = signed(auth_settings.keys[0], {"alg": "HS256", "typ": "at+jwt"}, right_claims())

    assert refused(auth.access_tokens, token)


@pytest.mark.parametrize("typ", ["JWT", "at+JWT ", "", None, 1, ["at+jwt"]])
def test_a_token_of_another_type_is_refused(auth: Auth, forge: Forge, typ: object) -> None:
    assert refused(auth.access_tokens, forge(header={"typ": typ}))


def test_a_token_without_a_type_is_refused(auth: Auth, auth_settings: AuthSettings) -> None:
    token = signed(auth_settings.keys[0], {"alg": "HS256", "kid": "1"}, right_claims())

    assert refused(auth.access_tokens, token)


@pytest.mark.parametrize(
    "times",
    [
        {"exp": 901},
        {"exp": 10_000},
        {"exp": 900.5},
        {"iat": -3600, "exp": 600},
        {"iat": -3600, "nbf": -3600, "exp": 60},
    ],
    ids=str,
)
def test_a_token_that_would_live_longer_than_ours_is_refused(auth: Auth, forge: Forge, times: dict[str, float]) -> None:
    """Somebody with our key might make one (RFC 8725, 3.5; NIST SP 800-63B-4, 5.3: access tokens are short-lived)."""
    now = math.floor(time.time())

    assert refused(auth.access_tokens, forge(**{name: now + seconds for name, seconds in times.items()}))


def test_a_shorter_setting_ends_the_tokens_of_before(auth: Auth, auth_settings: AuthSettings) -> None:
    token, _ = auth.access_tokens.issue(user_id=USER_ID, session_id=SESSION_ID, now=utcnow())
    shorter = AccessTokens(auth_settings.model_copy(update={"access_ttl": timedelta(minutes=14)}))

    assert refused(shorter, token)


@pytest.mark.parametrize("crit", [["x"], [], ["exp"], "exp", None])
def test_a_header_that_must_be_understood_is_refused(auth: Auth, forge: Forge, crit: object) -> None:
    assert refused(auth.access_tokens, forge(header={"crit": crit}))


def test_a_key_in_the_header_is_not_used(auth: Auth) -> None:
    theirs = new_key("1")
    jwk = {"kty": "oct", "k": encoded(theirs.key_bytes)}

    token = signed(theirs, right_header() | {"jwk": jwk, "jku": "https://example.test/jwks.json"}, right_claims())

    assert refused(auth.access_tokens, token)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"])
def test_every_claim_is_required(auth: Auth, forge: Forge, claim: str) -> None:
    assert refused(auth.access_tokens, forge(without=claim))
    assert refused(auth.access_tokens, forge(**{claim: None}))


@pytest.mark.parametrize("claim", ["iss", "aud"])
@pytest.mark.parametrize("value", ["", "groundwor", "groundwork2", "Groundwork", "elsewhere", 1, ["elsewhere"], {}])
def test_a_token_of_or_for_someone_else_is_refused(auth: Auth, forge: Forge, claim: str, value: object) -> None:
    assert refused(auth.access_tokens, forge(**{claim: value}))


@pytest.mark.parametrize("claim", ["client_id", "scope"])
@pytest.mark.parametrize("value", ["", "somebody", None, 1, ["account"], {}])
def test_a_token_for_another_client_or_scope_is_refused(auth: Auth, forge: Forge, claim: str, value: object) -> None:
    assert refused(auth.access_tokens, forge(**{claim: value}))


@pytest.mark.parametrize("claim", ["client_id", "scope"])
def test_a_token_of_the_release_before_is_believed(auth: Auth, forge: Forge, claim: str) -> None:
    assert auth.access_tokens.verify(forge(without=claim)) == AccessClaims(USER_ID, SESSION_ID)


@pytest.mark.parametrize("claim", ["sub", "sid"])
@pytest.mark.parametrize("value", ["", "1", "groundwork", "\ud800", 1, ["a"], {}, str(USER_ID)[:-1]])
def test_a_user_or_session_that_is_no_uuid_is_refused(auth: Auth, forge: Forge, claim: str, value: object) -> None:
    assert refused(auth.access_tokens, forge(**{claim: value}))


def test_a_token_is_accepted_for_some_seconds_after_it_expired(auth: Auth, forge: Forge) -> None:
    assert not refused(auth.access_tokens, forge(exp=math.ceil(time.time()) - 3))


def test_a_token_is_refused_eight_seconds_after_it_expired(auth: Auth, forge: Forge) -> None:
    assert refused(auth.access_tokens, forge(exp=math.floor(time.time()) - 8))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_the_clock_of_who_signed_may_be_some_seconds_ahead(auth: Auth, forge: Forge, claim: str) -> None:
    assert not refused(auth.access_tokens, forge(**{claim: math.floor(time.time()) + 3}))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_the_future_is_refused(auth: Auth, forge: Forge, claim: str) -> None:
    assert refused(auth.access_tokens, forge(**{claim: math.floor(time.time()) + 60}))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("exp", str(2**32)),
        ("exp", 10**400),
        ("exp", 1e300),
        ("exp", [2**32]),
        ("exp", math.inf),
        ("exp", math.nan),
        ("nbf", "1"),
        ("nbf", -(10**400)),
        ("iat", "1"),
        ("iat", {}),
    ],
    ids=lambda value: str(value)[:10],
)
def test_a_time_that_is_no_time_is_refused(auth: Auth, forge: Forge, claim: str, value: object) -> None:
    assert refused(auth.access_tokens, forge(**{claim: value}))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.ÿ.☃",
        "\ud800.\udfff.\ud800",
        "\0",
        "e30.e30.",
        encoded([]) + ".e30.",
        encoded(b'{"kid":' * 100_000) + ".e30.",
        encoded(b'{"kid":' + b"9" * 5000 + b"}") + ".e30.",
        encoded(b"\xff\xfe") + ".e30.",
        "x" * 100_000,
    ],
    ids=lambda token: ascii(token)[:20],
)
def test_garbage_is_refused(auth: Auth, token: str) -> None:
    assert refused(auth.access_tokens, token)


def test_every_changed_character_of_the_signature_is_refused(auth: Auth, forge: Forge) -> None:
    token = forge()
    start = token.rindex(".") + 1

    # Of the last character only the first four bits count: the others are no part of the signature (RFC 4648, 3.5).
    changed = [
        f"{token[:at]}{'A' if token[at] != 'A' else 'B'}{token[at + 1 :]}" for at in range(start, len(token) - 1)
    ]

    assert all(refused(auth.access_tokens, token) for token in changed)


any_text = st.text(st.characters())
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda children: st.lists(children) | st.dictionaries(any_text, children),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(text=any_text | st.lists(any_text, min_size=3, max_size=3).map(".".join))
def test_no_text_makes_verifying_fail_in_another_way(auth: Auth, text: str) -> None:
    assert refused(auth.access_tokens, text)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5u"]), any_json),
    claims=st.dictionaries(st.sampled_from(sorted(right_claims())), any_json, min_size=1),
)
def test_no_header_and_no_claims_make_verifying_fail_in_another_way(
    auth: Auth, auth_settings: AuthSettings, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    key = auth_settings.keys[0]

    for token in (
        signed(key, right_header() | header, right_claims()),
        signed(key, right_header(), right_claims() | claims),
    ):
        with suppress(InvalidToken):
            auth.access_tokens.verify(token)
