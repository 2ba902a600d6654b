"""Key rings in a file of secrets: functions that make, rotate and check keys."""

import base64
import secrets
from collections.abc import Iterator
from datetime import date
from typing import Final

from pydantic import BaseModel

from app_auth.settings import Algorithm, Key

RINGS: Final = ("keys", "refresh_keys", "token_keys", "peppers")
"""The fields of AuthSettings that hold keys: each is a variable `APP_AUTH__<RING>`."""
SIGNING_RING: Final = "keys"
"""The ring whose keys may have public halves."""
KEPT_FOR: Final = 300
"""Seconds for which others may keep the public keys. A key is published for longer than that before it signs."""
KEY_BYTES: Final = 32
DISTINCT_BYTES: Final = 20
"""A random key of 32 bytes has 30 distinct bytes on average; fewer than 20 occur once in 10^10 keys."""

# Keys that are public: tests and examples of this repository contain them.
_PUBLISHED: Final = frozenset({
    bytes(range(KEY_BYTES)),
    base64.b64decode("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="),
})  # fmt: skip


class RingUnchanged(Exception):
    """The ring was not changed; the message says why."""


def new_key(today: date, *, alg: Algorithm = "HS256") -> Key:
    """Return a fresh random key; its kid starts with the date."""
    secret = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return Key.model_validate({"kid": f"{today:%Y%m%d}-{secrets.token_hex(3)}", "alg": alg, "secret": secret})


def added(ring: tuple[Key, ...], key: Key) -> tuple[Key, ...]:
    """Return the ring plus this key, which only verifies: every process must know a key before one signs with it."""
    return (*ring, key.model_copy(update={"state": "verify"}))


def activated(ring: tuple[Key, ...], kid: str) -> tuple[Key, ...]:
    """Return the ring with this key signing and all others verifying.

    Raises:
        RingUnchanged: when there is no such key.
    """
    _find(ring, kid)
    return tuple(key.model_copy(update={"state": "active" if key.kid == kid else "verify"}) for key in ring)


def retired(ring: tuple[Key, ...], kid: str) -> tuple[Key, ...]:
    """Return the ring without this key; everything that it signed is refused from then on.

    Raises:
        RingUnchanged: when there is no such key, or when it is the one that signs.
    """
    if _find(ring, kid).state == "active":
        raise RingUnchanged(f"the key {kid} signs: rotate first")
    return tuple(key for key in ring if key.kid != kid)


def rings_of(settings: BaseModel) -> Iterator[tuple[str, tuple[Key, ...]]]:
    """Yield each ring with its name: `auth__keys` in the settings of an application, `totp__keys` for a feature."""
    for name, value in settings:
        if isinstance(value, BaseModel):
            yield from ((f"{name}__{ring}", keys) for ring, keys in rings_of(value))
        elif isinstance(value, tuple) and value and all(isinstance(key, Key) for key in value):
            yield name, value


def weaknesses(settings: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield each ring that is not safe, and why."""
    seen: dict[bytes, str] = {}
    known: dict[bytes, str] = {}
    for ring, keys in rings_of(settings):
        for key in keys:
            if key.key_bytes in _PUBLISHED:
                yield ring, f"the key {key.kid} has been published"
            elif len(set(key.key_bytes)) < DISTINCT_BYTES or key.key_bytes.isascii():
                yield ring, f"the key {key.kid} is not random: `openssl rand -base64 32` makes one"
            if (other := seen.setdefault(key.key_bytes, ring)) != ring:
                yield ring, f"the key {key.kid} is in {other} too; each ring needs keys of its own"
            elif (twin := known.setdefault(key.key_bytes, key.kid)) != key.kid:
                # Also of two algorithms: what is safe for one may show something to the other (RFC 8725, 3.1).
                yield ring, f"the key {key.kid} is the key {twin} again"


def _find(ring: tuple[Key, ...], kid: str) -> Key:
    for key in ring:
        if key.kid == kid:
            return key
    raise RingUnchanged(f"there is no key {kid}; there is {', '.join(key.kid for key in ring)}")
