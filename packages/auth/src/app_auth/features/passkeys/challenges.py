"""Challenges: derived, so that asking for one writes nothing; a row says that one was used (ADR-0066)."""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from app_auth.features.passkeys.errors import ResponseRejected
from app_auth.principal import Principal
from app_auth.settings import AuthSettings, active
from app_db.types import new_id

LIFE: Final = timedelta(minutes=6)
"""How long a challenge may be answered."""
PATIENCE: Final = timedelta(minutes=5)
"""How long browsers give people for it, as WebAuthn Level 3 advises (15.1)."""
_MAC_BYTES: Final = 32
_LABEL: Final = b"a challenge for a passkey\0"
"""No refresh token and no secret of a browser is derived from such a message, so that none stands for another."""


class Purpose(StrEnum):
    """What a challenge is for."""

    REGISTRATION = "registration"
    SIGN_IN = "sign_in"


@dataclass(frozen=True, slots=True)
class Challenges:
    """`<id><expiry in ms><HMAC-SHA-256(key, label ‖ purpose ‖ 0 ‖ holder ‖ id ‖ expiry)>`, by the refresh keys.

    The holder is the user with the session, for whom alone a challenge of a registration is good.
    """

    settings: AuthSettings

    def make(self, purpose: Purpose, *, now: datetime, holder: Principal | None = None) -> bytes:
        """Return a new challenge."""
        body = new_id().bytes + int((now + LIFE).timestamp() * 1000).to_bytes(8)
        return body + self._mac(active(self.settings.refresh_keys).key_bytes, purpose, holder, body)

    def check(self, challenge: bytes, purpose: Purpose, *, now: datetime, holder: Principal | None = None) -> UUID:
        """Return the id of a challenge of ours, by which it is used up.

        Raises:
            ResponseRejected: it is not ours, for another purpose or holder, or too old.
        """
        body, mac = challenge[:-_MAC_BYTES], challenge[-_MAC_BYTES:]
        ring = [key.key_bytes for key in self.settings.refresh_keys]
        if not any(hmac.compare_digest(self._mac(key, purpose, holder, body), mac) for key in ring):
            raise ResponseRejected("its challenge is not ours")  # guard: test_a_challenge_of_others_is_refused
        if now >= datetime.fromtimestamp(int.from_bytes(body[16:]) / 1000, UTC):
            raise ResponseRejected("its challenge is too old")  # guard: test_an_old_challenge_is_refused
        return UUID(bytes=body[:16])

    @staticmethod
    def _mac(key: bytes, purpose: Purpose, holder: Principal | None, body: bytes) -> bytes:
        who = b"" if holder is None else holder.user_id.bytes + holder.session_id.bytes
        return hmac.digest(key, _LABEL + purpose.value.encode() + b"\0" + who + body, "sha256")
