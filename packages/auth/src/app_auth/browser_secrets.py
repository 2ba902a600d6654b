"""The secrets in the cookies of browsers: derived as refresh tokens are, so that none is stored (ADR-0059)."""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from uuid import UUID

from app_auth.errors import InvalidToken
from app_auth.settings import AuthSettings, active

_SECRET = re.compile(r"bs_([0-9a-f]{32})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")  # one spelling per secret
_PURPOSE = b"the secret of a browser\0"
"""No refresh token is derived from such a message, so that neither is worth anything in the place of the other."""


@dataclass(frozen=True, slots=True)
class BrowserClaims:
    """The user and the session of a secret whose MAC is right."""

    user_id: UUID
    session_id: UUID


class BrowserSecrets:
    """`bs_<user id>.<session id>.<HMAC-SHA-256(key, purpose ‖ user id ‖ session id)>`, by the ring of refresh tokens.

    A dump of the database holds no usable secret. It is good as long as its session, which its owner can end.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._ring = {key.kid: key.key_bytes for key in settings.refresh_keys}
        self._active = active(settings.refresh_keys).kid

    def derive(self, user_id: UUID, session_id: UUID) -> str:
        """Return the secret of a session."""
        mac = self._mac(self._ring[self._active], user_id, session_id)
        return f"bs_{user_id.hex}.{session_id.hex}.{mac}"

    def parse(self, secret: str) -> BrowserClaims:
        """Check the MAC of a secret and return its claims, so that a forged one causes no query.

        Raises:
            InvalidToken: it is no secret that one of our keys has derived.
        """
        parts = _SECRET.fullmatch(secret)
        if parts is None:
            raise InvalidToken
        user_id, session_id, mac = UUID(parts[1]), UUID(parts[2]), parts[3]
        macs = (self._mac(key, user_id, session_id) for key in self._ring.values())
        if not any(hmac.compare_digest(ours, mac) for ours in macs):
            raise InvalidToken  # guard: test_a_changed_secret_of_a_browser_is_refused
        return BrowserClaims(user_id, session_id)

    @staticmethod
    def _mac(key: bytes, user_id: UUID, session_id: UUID) -> str:
        digest = hmac.digest(key, _PURPOSE + user_id.bytes + session_id.bytes, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
