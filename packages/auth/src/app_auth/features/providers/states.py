"""States: what a browser brings back from a provider, bound to that browser and good for minutes. Nothing is stored.

    <payload>.<HMAC-SHA-256(key, payload, provider, secret of the browser, session)>

The key is of the ring of refresh tokens. The nonce and the verifier of PKCE are derived in the same way, so that only
who has the secret of the browser and the state can have an answer taken, and a dump of the database helps nobody.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from app_auth.features.providers.errors import InvalidState
from app_auth.settings import AuthSettings, active
from app_db.types import new_id

LIFE: Final = timedelta(minutes=10)
LONGEST: Final = 2048
LONGEST_NEXT: Final = 512
_EXPIRY: Final = slice(16, 24)
_FLAG: Final = slice(24, 25)
_PURPOSE: Final = b"sign in with others"
"""No refresh token and no secret of a browser is derived from such a message."""


class Purpose(StrEnum):
    """What somebody is sent to a provider for; a letter of the state. All but the first are done in a session."""

    SIGN_IN = "s"
    LINK = "l"
    CONFIRM = "c"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a browser takes to a provider."""

    state: str
    nonce: str
    challenge: str
    """Of PKCE, by S256 (RFC 7636, 4.2)."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Returned:
    """What a state says that was brought back."""

    id: UUID
    nonce: str
    verifier: str
    """Of PKCE: 43 characters."""
    next: str
    """Where the browser wants to go afterwards; it is checked where it is used."""


def new_secret() -> str:
    """Return a secret for a browser, which keeps it in a cookie; a client of the API keeps it itself."""
    return secrets.token_urlsafe(32)


class States:
    """Makes states, and reads those that come back."""

    def __init__(self, settings: AuthSettings) -> None:
        self._ring = [key.key_bytes for key in settings.refresh_keys]
        self._active = active(settings.refresh_keys).key_bytes

    def begin(
        self,
        provider: str,
        purpose: Purpose,
        *,
        secret: str,
        session_id: UUID | None,
        now: datetime,
        next_page: str = "",
    ) -> Begun:
        """Return a new state for this browser, and for this session if there is one."""
        expires_at = now + LIFE
        page = next_page.encode() if len(next_page) <= LONGEST_NEXT else b""
        payload = new_id().bytes + int(expires_at.timestamp()).to_bytes(8) + purpose.encode() + page
        bound = (payload, provider.encode(), secret.encode(), _bytes(session_id))
        nonce, verifier = self._derive(b"nonce", *bound), self._derive(b"verifier", *bound)
        state = f"{_text(payload)}.{self._derive(b'state', *bound)}"
        return Begun(state, nonce, _text(hashlib.sha256(verifier.encode()).digest()), expires_at)

    def read(
        self, state: str, purpose: Purpose, *, provider: str, secret: str | None, session_id: UUID | None, now: datetime
    ) -> Returned:
        """Return what a state says, if this browser has begun it for this, with this provider and in this session.

        A forged one causes no query. That it is used once is up to the caller.

        Raises:
            InvalidState: it is another browser's, provider's or session's, changed, or too old.
        """
        text, _, mac = state.partition(".")
        if secret is None or len(state) > LONGEST or not state.isascii():
            raise InvalidState  # guard: test_an_answer_in_another_browser_signs_nobody_in
        payload = _bytes_of(text)
        if payload[_FLAG] != purpose.encode():
            raise InvalidState  # guard: test_a_state_is_good_for_one_purpose
        bound = (payload, provider.encode(), secret.encode(errors="surrogatepass"), _bytes(session_id))
        for key in self._ring:
            if hmac.compare_digest(self._derive(b"state", *bound, key=key), mac):
                break
        else:
            raise InvalidState  # guard: test_a_state_is_good_for_one_browser_provider_and_session
        if now.timestamp() >= int.from_bytes(payload[_EXPIRY]):
            raise InvalidState  # guard: test_a_state_is_good_for_ten_minutes
        nonce, verifier = self._derive(b"nonce", *bound, key=key), self._derive(b"verifier", *bound, key=key)
        return Returned(UUID(bytes=payload[:16]), nonce, verifier, payload[_FLAG.stop :].decode())

    @staticmethod
    def purpose_of(state: str) -> Purpose:
        """Return what a state says that it is for; `read` tells whether that is true.

        Raises:
            InvalidState: it says nothing.
        """
        try:
            return Purpose(_bytes_of(state.partition(".")[0])[_FLAG].decode())
        except ValueError:
            raise InvalidState from None

    def _derive(self, what: bytes, *parts: bytes, key: bytes | None = None) -> str:
        message = b"".join(len(part).to_bytes(4) + part for part in (_PURPOSE, what, *parts))
        return _text(hmac.digest(key or self._active, message, "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(session_id: UUID | None) -> bytes:
    return b"" if session_id is None else session_id.bytes


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise InvalidState from None
