"""Keeps secrets of generators so that a copy of the database holds none, and recognises recovery codes."""

import hmac
import os
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app_auth.features.totp.errors import TotpUnavailable
from app_auth.settings import KeyRing, active
from app_db.features.totp.models import TotpSecret

NONCE: Final = 12
"""Bytes that AES-GCM wants (NIST SP 800-38D, 8.2); random, as a key seals far fewer than 2^32 secrets."""


class Vault:
    """Seals by AES-256-GCM. Each purpose has a key of its own, derived from the ring by HKDF (RFC 5869)."""

    def __init__(self, keys: KeyRing | None) -> None:
        self._sealing = {key.kid: AESGCM(_derived(key.key_bytes, b"totp secret")) for key in keys or ()}
        self._digesting = {key.kid: _derived(key.key_bytes, b"totp recovery code") for key in keys or ()}
        self._active = active(keys).kid if keys else None

    @property
    def key_id(self) -> str:
        """The key that seals.

        Raises:
            TotpUnavailable: there is none.
        """
        if self._active is None:
            raise TotpUnavailable
        return self._active

    def seal(self, secret: bytes, *, secret_id: UUID, user_id: UUID) -> bytes:
        """Return the secret for the row with this id, of this user: it can be opened in no other.

        Raises:
            TotpUnavailable: there are no keys.
        """
        nonce = os.urandom(NONCE)
        return nonce + self._sealing[self.key_id].encrypt(nonce, secret, secret_id.bytes + user_id.bytes)

    def open(self, row: TotpSecret) -> bytes:
        """Return the secret of a row.

        Raises:
            TotpUnavailable: its key is not in the ring, or the row was changed, or copied from another.
        """
        cipher = self._sealing.get(row.key_id)
        if cipher is None:
            raise TotpUnavailable
        nonce, sealed = row.sealed[:NONCE], row.sealed[NONCE:]
        try:
            return cipher.decrypt(
                nonce, sealed, row.id.bytes + row.user_id.bytes
            )  # guard: test_a_secret_that_was_copied_to_another_account_is_worthless
        except InvalidTag as error:
            raise TotpUnavailable from error

    def digest(self, code: str, *, user_id: UUID) -> bytes:
        """Return the digest of a recovery code to store.

        Raises:
            TotpUnavailable: there are no keys.
        """
        return _digest(self._digesting[self.key_id], code, user_id)

    def digests(self, code: str, *, user_id: UUID) -> list[bytes]:
        """Return the digests that a recovery code may have, one for each key of the ring."""
        return [_digest(key, code, user_id) for key in self._digesting.values()]


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(key)


def _digest(key: bytes, code: str, user_id: UUID) -> bytes:
    return hmac.digest(key, user_id.bytes + code.encode(), "sha256")
