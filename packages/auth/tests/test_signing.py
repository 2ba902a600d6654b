"""Keys of several algorithms in one ring: each kid has one, and only public halves are given away."""

import base64
import json
from datetime import date
from typing import Any
from uuid import UUID

import jwt
import pytest
from jwt.algorithms import HMACAlgorithm
from pydantic import ValidationError

from app_auth.errors import InvalidToken
from app_auth.keys import activated, added, new_key, weaknesses
from app_auth.settings import P256_ORDER, Algorithm, AuthSettings, Key
from app_auth.signing import public_jwk
from app_auth.tokens import AccessClaims, AccessTokens
from app_db.types import utcnow

IDS = AccessClaims(UUID(int=1), UUID(int=2))
TODAY = date(2026, 11, 30)
PUBLIC: list[Algorithm] = ["EdDSA", "ES256"]
ALL: list[Algorithm] = ["HS256", *PUBLIC]


def ring(settings: AuthSettings, *keys: Key) -> AccessTokens:
    return AccessTokens(AuthSettings.model_validate(dict(iter(settings)) | {"keys": keys}))


def issue(tokens: AccessTokens) -> str:
    return tokens.issue(user_id=IDS.user_id, session_id=IDS.session_id, now=utcnow())[0]


@pytest.mark.parametrize("alg", ALL)
def test_a_key_signs_by_its_own_algorithm(auth_settings: AuthSettings, alg: Algorithm) -> None:
    tokens = ring(auth_settings, new_key(TODAY, alg=alg))

    token = issue(tokens)

    assert jwt.get_unverified_header(token)["alg"] == alg
    assert tokens.verify(token) == IDS
    with pytest.raises(InvalidToken):
        ring(auth_settings, new_key(TODAY, alg=alg)).verify(token)


def test_keys_of_all_algorithms_verify_side_by_side(auth_settings: AuthSettings) -> None:
    """As while an installation turns from one to the other: nobody is signed out."""
    keys = [new_key(TODAY, alg=alg) for alg in ALL]
    tokens = [issue(ring(auth_settings, key)) for key in keys]

    turned: tuple[Key, ...] = (keys[0],)
    for key in keys[1:]:
        turned = activated(added(turned, key), key.kid)

    assert [ring(auth_settings, *turned).verify(token) for token in tokens] == [IDS] * 3


@pytest.mark.parametrize("alg", PUBLIC)
def test_a_public_key_is_no_secret(auth_settings: AuthSettings, alg: Algorithm) -> None:
    """RFC 8725, 2.1: what everybody may know would sign, if the token chose the algorithm."""
    key = new_key(TODAY, alg=alg)
    tokens = ring(auth_settings, key)
    claims = jwt.decode(issue(tokens), options={"verify_signature": False})
    jwk = public_jwk(key)
    assert jwk

    for secret in (json.dumps(jwk).encode(), base64.urlsafe_b64decode(jwk["x"] + "="), jwk["x"].encode() * 2):
        forged = sign_by_hmac(claims, secret, kid=key.kid)
        with pytest.raises(InvalidToken):
            tokens.verify(forged)


def sign_by_hmac(claims: dict[str, Any], secret: bytes, *, kid: str) -> str:
    """Sign as an attacker does: with what PyJWT itself would not take as a secret."""
    parts = ({"alg": "HS256", "typ": "at+jwt", "kid": kid}, claims)
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    mac = HMACAlgorithm(HMACAlgorithm.SHA256).sign(text, secret)
    return b".".join([text, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


@pytest.mark.parametrize("alg", ALL)
def test_the_kid_of_another_key_brings_its_algorithm(auth_settings: AuthSettings, alg: Algorithm) -> None:
    keys = {each: new_key(TODAY, alg=each) for each in ALL}
    tokens = ring(auth_settings, *(activated(tuple(keys.values()), keys["HS256"].kid)))
    head, payload, signature = issue(ring(auth_settings, keys[alg])).split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))

    for other in {*ALL} - {alg}:
        for changed in (header | {"kid": keys[other].kid}, header | {"alg": other}):
            mixed = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
            with pytest.raises(InvalidToken):
                tokens.verify(f"{mixed}.{payload}.{signature}")


def test_no_secret_is_ever_listed(auth_settings: AuthSettings) -> None:
    keys = [new_key(TODAY, alg=alg) for alg in ALL]
    private = {key.secret.get_secret_value().replace("+", "-").replace("/", "_").rstrip("=") for key in keys}

    listed = ring(auth_settings, *activated(tuple(keys), keys[0].kid)).public_keys

    assert [jwk["kid"] for jwk in listed] == [keys[1].kid, keys[2].kid]
    assert all(not {"d", "k"} & jwk.keys() for jwk in listed)
    assert not {value for jwk in listed for value in jwk.values()} & private


def test_a_key_is_listed_before_it_signs_and_after(auth_settings: AuthSettings) -> None:
    old, new = new_key(TODAY, alg="ES256"), new_key(TODAY, alg="EdDSA")

    waiting = added((old,), new)

    for keys in (waiting, activated(waiting, new.kid)):
        assert {jwk["kid"] for jwk in ring(auth_settings, *keys).public_keys} == {old.kid, new.kid}


@pytest.mark.parametrize("alg", PUBLIC)
@pytest.mark.parametrize("size", [33, 64])
def test_a_private_key_of_another_size_is_refused(alg: Algorithm, size: int) -> None:
    with pytest.raises(ValidationError, match="exactly 32 bytes"):
        Key.model_validate({"kid": "1", "alg": alg, "secret": base64.b64encode(b"\x01" * size).decode()})


@pytest.mark.parametrize("number", [0, P256_ORDER, 2**256 - 1])
def test_a_number_that_is_no_private_key_is_refused(number: int) -> None:
    with pytest.raises(ValidationError, match="no private key of P-256"):
        Key.model_validate({"kid": "1", "alg": "ES256", "secret": base64.b64encode(number.to_bytes(32)).decode()})


@pytest.mark.parametrize("name", ["refresh_keys", "token_keys", "peppers"])
def test_the_other_rings_have_secrets_only(auth_settings: AuthSettings, name: str) -> None:
    with pytest.raises(ValidationError, match="secrets only"):
        AuthSettings.model_validate(dict(iter(auth_settings)) | {name: [new_key(TODAY, alg="EdDSA")]})


def test_one_key_for_two_algorithms_is_weak(auth_settings: AuthSettings) -> None:
    key = new_key(TODAY)
    twin = key.model_copy(update={"kid": "twin", "alg": "EdDSA", "state": "verify"})

    found = [*weaknesses(auth_settings.model_copy(update={"keys": (key, twin)}))]

    assert found == [("keys", f"the key twin is the key {key.kid} again")]
