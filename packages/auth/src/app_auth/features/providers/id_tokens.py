"""ID tokens: who signed them, for whom, when, and for which sign-in (OpenID Connect Core 1.0, 3.1.3.7)."""

import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from app_auth.features.providers.errors import InvalidProviderAnswer
from app_auth.features.providers.states import LIFE

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""With public keys only: with HS256, whoever reads our client secret, or a public key, could sign."""
LEEWAY: Final = timedelta(seconds=60)
"""Clocks of providers are not ours."""
MOST_KEYS: Final = 100
LONGEST: Final = 64 * 1024
"""Some providers put all groups of a person into it."""
_PARTS: Final = 3
_END_OF_TIME: Final = 1e12

type Claims = Mapping[str, Any]  # Any: JSON


class _Registry(jws.JWSRegistry):
    """Headers of providers have members of their own, and certificates. Algorithms are allowed here, not there."""

    max_header_length = 8 * 1024

    def get_alg(self, name: str) -> Any:  # Any: a class that joserfc keeps to itself
        # Theirs warns of EdDSA, which RFC 9864 names anew, and which is in use.
        return self.algorithms[name]


_REGISTRY: Final = _Registry(strict_check_header=False)


class NoSuchKey(InvalidProviderAnswer):
    """The ID token names a key that is not known, or none of those that are known has signed it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an ID token has to say."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: frozenset[str]
    now: datetime


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key of a provider."""

    kid: str | None
    alg: str | None
    """The only algorithm that it is for, if the provider says so."""
    key: RSAKey | ECKey | OKPKey


class Keys:
    """The public keys of a provider, read one by one: a kind that nobody knows here leaves the others usable."""

    def __init__(self, document: Mapping[str, Any]) -> None:  # Any: JSON
        listed = document.get("keys")
        self._keys = [*_usable(listed[:MOST_KEYS])] if isinstance(listed, list) else []

    def matching(self, kid: str | None, alg: str) -> list[ProviderKey]:
        """Return the keys that may have signed: the one of this id, or without an id all of the right kind."""
        of_kind = [key for key in self._keys if key.alg in {None, alg}]
        return of_kind if kid is None else [key for key in of_kind if key.kid == kid]


def _usable(listed: Iterable[object]) -> Iterator[ProviderKey]:
    for each in listed:
        if not isinstance(each, dict) or each.get("use") not in {None, "sig"}:
            continue
        try:
            key = JWKRegistry.import_key(each)
        except Exception:  # noqa: S112  # whatever a library makes of a key that it does not know: KeyError, for one
            continue
        if isinstance(key, RSAKey | ECKey | OKPKey):
            kid, alg = each.get("kid"), each.get("alg")
            yield ProviderKey(kid if isinstance(kid, str) else None, alg if isinstance(alg, str) else None, key)


def verified(token: object, keys: Keys, expected: Expected) -> Claims:
    """Return the claims of an ID token.

    Raises:
        NoSuchKey: none of these keys has signed it; the provider may have a new one, even with the id of an old one.
        InvalidProviderAnswer: it is not signed by the provider, or not for this sign-in.
    """
    if not isinstance(token, str) or len(token) > LONGEST or token.count(".") != _PARTS - 1:
        raise InvalidProviderAnswer
    try:
        header = jws.extract_compact(token.encode(), registry=_REGISTRY).headers()
    except (JoseError, ValueError, RecursionError):
        raise InvalidProviderAnswer from None
    alg, kid = header.get("alg"), header.get("kid")
    if (
        not isinstance(alg, str)
        or alg not in expected.algorithms
        or "crit" in header
        or not isinstance(kid, str | None)
    ):
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    candidates = keys.matching(kid, alg)
    claims = next((claims for key in candidates if (claims := _signed_by(key, token, alg)) is not None), None)
    if claims is None:
        raise NoSuchKey  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    _check(claims, expected)
    return claims


def _signed_by(key: ProviderKey, token: str, alg: str) -> Claims | None:
    try:
        claims = json.loads(jws.deserialize_compact(token, key.key, registry=_REGISTRY).payload)
    except (JoseError, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _check(claims: Claims, expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    aud, azp = claims.get("aud"), claims.get("azp")
    audiences = aud if isinstance(aud, list) else [aud]
    if expected.client_id not in audiences:
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    if azp != expected.client_id and (azp is not None or len(audiences) > 1):
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(errors="replace"), expected.nonce.encode()):
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    now, leeway = expected.now.timestamp(), LEEWAY.total_seconds()
    if now >= _time(claims, "exp") + leeway:
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    issued = _time(claims, "iat")
    if not -leeway <= now - issued <= LIFE.total_seconds() + leeway:
        raise InvalidProviderAnswer  # guard: test_what_is_not_from_the_provider_for_us_and_now_is_refused
    if "nbf" in claims and now < _time(claims, "nbf") - leeway:
        raise InvalidProviderAnswer


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _END_OF_TIME:
        raise InvalidProviderAnswer  # NaN too, which compares with nothing
    return value
