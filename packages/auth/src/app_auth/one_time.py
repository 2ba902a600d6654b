"""One-time tokens: derived from a row, and from a key that is not in the database (ADR-0028)."""

import base64
import hashlib
import hmac
import re
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app_auth.errors import InvalidLink
from app_auth.settings import OneTimeSettings, active
from app_db.models import OneTimeToken, TokenPurpose, User
from app_db.types import new_id

_TOKEN = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")  # one spelling per token

CHALLENGE_TTL: Final = timedelta(minutes=5)
"""How long a sign-in waits for its second factor."""


class OneTimeTokens:
    """`<id>.<HMAC-SHA-256(key, id ‖ purpose ‖ 0 ‖ address)>`: good for one purpose and one address, and only once.

    A dump of the database holds no usable token, and a mail that is sent again carries the same one.
    """

    def __init__(self, settings: OneTimeSettings) -> None:
        self._ring = {key.kid: key.key_bytes for key in settings.token_keys}
        self._active = active(settings.token_keys).kid
        self._ttl = {
            TokenPurpose.VERIFY_EMAIL: settings.verify_ttl,
            TokenPurpose.RESET_PASSWORD: settings.reset_ttl,
            TokenPurpose.SECOND_FACTOR: CHALLENGE_TTL,
        }

    def issue(self, user: User, purpose: TokenPurpose, *, now: datetime) -> OneTimeToken:
        """Return the row of a new token for the address that the user has now."""
        return self.issue_to(user.id, user.email_canonical, purpose, now=now)

    def issue_to(self, user_id: UUID, email: str, purpose: TokenPurpose, *, now: datetime) -> OneTimeToken:
        """Return the row of a new token for this canonical address."""
        return OneTimeToken(
            id=new_id(),
            user_id=user_id,
            purpose=purpose,
            email_canonical=email,
            key_id=self._active,
            created_at=now,
            expires_at=now + self._ttl[purpose],
        )

    def derive(self, row: OneTimeToken) -> str:
        """Return the token of a row.

        Raises:
            InvalidLink: when its key is not in the ring any more.
        """
        return f"{row.id.hex}.{self._mac(row)}"

    @staticmethod
    def parse(token: str) -> UUID:
        """Return the id of the row that the token may belong to; `check` tells whether it does.

        Raises:
            InvalidLink: when the text cannot be a token of this application; no query is made.
        """
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            raise InvalidLink
        return UUID(parts[1])

    def check(self, token: str, row: OneTimeToken | None, purpose: TokenPurpose, *, now: datetime) -> OneTimeToken:
        """Return the row, if the token belongs to it and is for this purpose.

        Raises:
            InvalidLink: for every other token, and for an expired one.
        """
        if row is None or row.purpose is not purpose or now >= row.expires_at:
            raise InvalidLink  # guard: test_a_token_for_one_purpose_is_none_for_another
        if not hmac.compare_digest(self.derive(row), token):
            raise InvalidLink  # guard: test_a_changed_one_time_token_is_refused
        return row

    def _mac(self, row: OneTimeToken) -> str:
        key = self._ring.get(row.key_id)
        if key is None:
            raise InvalidLink
        message = row.id.bytes + row.purpose.value.encode() + b"\0" + row.email_canonical.encode()
        digest = hmac.digest(key, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
