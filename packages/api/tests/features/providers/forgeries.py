"""ID tokens of attackers, made of one that the provider has signed."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

from joserfc.jwk import RSAKey

from packages.api.tests.features.providers.issuer import CLIENT_ID, CLIENT_SECRET, KEY


def unsigned(token: str) -> str:
    return f"{segment({'alg': 'none'})}.{token.split('.')[1]}."


def with_shared_secret(secret: bytes) -> Callable[[str], str]:
    """Sign with HS256: with our client secret, or with the public key that everybody can read."""

    def sign(token: str) -> str:
        claims = f"{segment({'alg': 'HS256', 'kid': '1'})}.{token.split('.')[1]}"
        return f"{claims}.{text(hmac.digest(secret, claims.encode(), 'sha256'))}"

    return sign


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(content: dict[str, Any]) -> str:  # Any: JSON
    return text(json.dumps(content).encode())


EVIL = RSAKey.generate_key(2048, {"kid": "1"})


HOUR = 3600
FORGERIES: dict[str, dict[str, Any]] = {  # Any: of Issuer
    "alg none": {"token": unsigned},
    "HS256 with our secret": {"token": with_shared_secret(CLIENT_SECRET.encode())},
    "HS256 with the public key": {"token": with_shared_secret(KEY.as_pem(private=False))},
    "another key of this id": {"keys": [KEY.as_dict(private=False)], "key": EVIL},
    "a key that it brings along": {
        "keys": [KEY.as_dict(private=False)], "key": EVIL, "header": {"jwk": EVIL.as_dict(private=False)},
    },
    "for another client": {"claims": {"aud": "another"}},
    "given to another client": {"claims": {"aud": [CLIENT_ID, "another"], "azp": "another"}},
    "of another sign-in": {"claims": {"nonce": "another"}},
    "expired": {"moved": {"exp": -HOUR}},
    "from the future": {"moved": {"iat": HOUR, "exp": 2 * HOUR}},
    "from before it began": {"moved": {"iat": -HOUR}},
    "not yet": {"moved": {"nbf": HOUR}},
    "with an address that is told of somebody else": {"claims": {"email": None}, "told": {"sub": "another"}},
}  # fmt: skip
"""What to bend a provider with, so that its token is no good."""
