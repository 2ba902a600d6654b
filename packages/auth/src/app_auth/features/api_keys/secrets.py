"""The text of a key: an id, a secret, and a check that finds typing errors and fakes without a query."""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Final
from uuid import UUID

from app_auth.errors import InvalidToken
from app_auth.machines import PREFIX
from app_auth.settings import Key, active

ALPHABET: Final = digits + ascii_letters
SECRET_LENGTH: Final = 43
"""Of 62 characters each: 256 bits."""
CHECK_LENGTH: Final = 6
"""Enough for the 32 bits of a CRC."""

_KEY = re.compile(
    rf"{PREFIX}([0-9a-f]{{32}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})_([0-9A-Za-z]{{{CHECK_LENGTH}}})"
)  # one spelling per key
_PURPOSE = b"the secret of a machine\0"
"""No password is digested with such a message, so a digest of one is worth nothing in the place of the other."""


@dataclass(frozen=True, slots=True)
class KeyText:
    """The parts of a key whose check is right."""

    id: UUID
    secret: str

    def __str__(self) -> str:
        """Return the key as its owner sees it, once.

        Example:
            >>> str(KeyText(UUID(int=7), "a" * 43))
            'gw_00000000000000000000000000000007_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_0xE3Kp'
        """
        body = f"{PREFIX}{self.id.hex}_{self.secret}"
        return f"{body}_{check_of(body)}"


def new_key_text(key_id: UUID) -> KeyText:
    """Return a key with a random secret."""
    return KeyText(key_id, "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH)))


def parse_key(token: str) -> KeyText:
    """Return the parts of a key. Anybody can make a right check: it finds typing errors and costs no query.

    Raises:
        InvalidToken: it is no key, or its check is wrong.
    """
    parts = _KEY.fullmatch(token)
    if parts is None or check_of(token.rpartition("_")[0]) != parts[3]:
        raise InvalidToken  # guard: test_a_key_with_a_typing_error_costs_no_query
    return KeyText(UUID(parts[1]), parts[2])


def check_of(body: str) -> str:
    """Return the check of a key without it: CRC-32 in base 62, as GitHub's tokens have it."""
    number, text = zlib.crc32(body.encode()), ""
    while number:
        number, rest = divmod(number, len(ALPHABET))
        text = ALPHABET[rest] + text
    return text.rjust(CHECK_LENGTH, ALPHABET[0])


class KeyDigests:
    """`HMAC-SHA-256(pepper, purpose ‖ id ‖ secret)`, by the ring of peppers (ADR-0067).

    Whoever can write into the database, but does not know a pepper, can neither read nor plant a key.
    """

    def __init__(self, peppers: Iterable[Key]) -> None:
        ring = (*peppers,)
        self._ring = {key.kid: key.key_bytes for key in ring}
        self.active_id: Final = active(ring).kid

    def of(self, key: KeyText) -> bytes:
        """Return the digest by the active pepper."""
        return self._digest(key, self._ring[self.active_id])

    def is_right(self, key: KeyText, digest: bytes, *, pepper: str) -> bool:
        """Return whether a stored digest is that of this key; False if its pepper is not in the ring any more."""
        known = self._ring.get(pepper)
        return known is not None and hmac.compare_digest(self._digest(key, known), digest)

    @staticmethod
    def _digest(key: KeyText, pepper: bytes) -> bytes:
        return hmac.digest(pepper, _PURPOSE + key.id.bytes + key.secret.encode(), hashlib.sha256)
