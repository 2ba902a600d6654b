"""The keys that sign access tokens: a secret of ours, or a private key whose public half others may have (RFC 7517)."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt import PyJWK

from app_auth.base64url import base64url
from app_auth.settings import PRIVATE_KEY_BYTES, Key

type Jwk = dict[str, Any]  # Any: JSON


def signing_key(key: Key) -> PyJWK:
    """Return a key as PyJWT takes it, with its algorithm: no token chooses another one (RFC 8725, 3.1)."""
    match key.alg:
        case "HS256":
            jwk = {"kty": "oct", "k": base64url(key.key_bytes)}
        case _:
            jwk = {**_public_members(key), "d": base64url(key.key_bytes)}
    return PyJWK(jwk, key.alg)


def public_jwk(key: Key) -> Jwk | None:
    """Return the public half of a key, for others to verify with; None for a secret, which is nobody's but ours.

    Example:
        >>> from app_auth.keys import new_key
        >>> from datetime import date
        >>> sorted(public_jwk(new_key(date(2026, 11, 30), alg="EdDSA")) or ())
        ['alg', 'crv', 'kid', 'kty', 'use', 'x']
    """
    if key.alg == "HS256":
        return None  # guard: test_no_secret_is_ever_listed
    return {**_public_members(key), "kid": key.kid, "alg": key.alg, "use": "sig"}


def _public_members(key: Key) -> Jwk:
    if key.alg == "EdDSA":
        public = Ed25519PrivateKey.from_private_bytes(key.key_bytes).public_key()
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(public.public_bytes_raw())}
    point = derive_private_key(int.from_bytes(key.key_bytes), SECP256R1()).public_key().public_numbers()
    x, y = (base64url(number.to_bytes(PRIVATE_KEY_BYTES)) for number in (point.x, point.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
