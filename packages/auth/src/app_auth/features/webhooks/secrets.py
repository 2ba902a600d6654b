"""Secrets of endpoints: made, sealed, and used to sign, as Standard Webhooks says (standardwebhooks.com, 1.0.0)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app_auth.features.webhooks.errors import SecretLost
from app_auth.settings import Key, KeyRing, active

LENGTH: Final = 32
"""Bytes of a secret."""
PREFIX: Final = "whsec_"
_NONCE: Final = 12
"""Bytes, random for each seal (NIST SP 800-38D, 8.2.2)."""
_PURPOSE: Final = b"secrets of webhooks\0"
"""No link is derived from such a message, so that this key and the links of the ring tell nothing of each other."""


def new_secret() -> bytes:
    """Return a random secret."""
    return secrets.token_bytes(LENGTH)


def text_of(secret: bytes) -> str:
    """Return a secret as its owner sees it, once. Libraries read the standard alphabet of base64 only.

    Example:
        >>> text_of(bytes(32))
        'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='
    """
    return PREFIX + base64.b64encode(secret).decode()


def signature(keys: Iterable[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return `webhook-signature`: one for each valid secret, so that receivers may change theirs at any time."""
    message = b".".join((message_id.encode(), str(timestamp).encode(), body))
    macs = [hmac.digest(key, message, hashlib.sha256) for key in keys]
    return " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs)


def seal(ring: KeyRing, keys: Sequence[bytes], *, endpoint_id: UUID) -> tuple[bytes, str]:
    """Return the secrets of an endpoint, the newest first, encrypted for its row, and the id of the key.

    The key is derived from the ring of links in mails, which API and worker have. A cron seals anew what another key
    than the active one has sealed, so a key may be retired a day after it was replaced.
    """
    key, nonce = active(ring), secrets.token_bytes(_NONCE)
    return nonce + _cipher(key).encrypt(nonce, b"".join(keys), endpoint_id.bytes), key.kid


def unseal(ring: KeyRing, sealed: bytes, *, endpoint_id: UUID, key_id: str) -> list[bytes]:
    """Return the secrets of an endpoint, the newest first.

    Raises:
        SecretLost: the key is not in the ring any more, or the row holds something else.
    """
    key = next((key for key in ring if key.kid == key_id), None)
    if key is None:
        raise SecretLost
    try:
        opened = _cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], endpoint_id.bytes)
    except (InvalidTag, ValueError):
        raise SecretLost from None  # guard: test_a_secret_belongs_to_its_endpoint
    return [opened[start : start + LENGTH] for start in range(0, len(opened), LENGTH)]


def _cipher(key: Key) -> AESGCM:
    return AESGCM(hmac.digest(key.key_bytes, _PURPOSE, hashlib.sha256))
