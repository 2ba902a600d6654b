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
        self.keys: Final = settings.token_keys
        """The ring, for what else is derived from it."""
        self._ring = {key.kid: key.key_bytes for key in settings.token_keys}
        self.active_key_id = active(settings.token_keys).kid
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
            key_id=self.active_key_id,
            created_at=now,
            expires_at=now + self._ttl[purpose],
        )

    def derive(self, row: OneTimeToken) -> str:
        """Return the token of a row.

        Raises:
            InvalidLink: when its key is not in the ring any more.
        """
        return self.sign(row.id, row.purpose.value, row.email_canonical, key_id=row.key_id)

    def sign(self, row_id: UUID, purpose: str, *parts: str, key_id: str) -> str:
        """Return the token of any row: for this purpose, and for these values of the row alone.

        Raises:
            InvalidLink: when the key is not in the ring any more.
        """
        key = self._ring.get(key_id)
        if key is None:
            raise InvalidLink
        message = row_id.bytes + b"\0".join(text.encode() for text in (purpose, *parts))
        mac = base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=").decode()
        return f"{row_id.hex}.{mac}"

    @staticmethod
    def equal(expected: str, token: str) -> bool:
        """Whether this is the expected token; takes as long for every other one."""
        return hmac.compare_digest(expected, token)

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
        if not self.equal(self.derive(row), token):
            raise InvalidLink  # guard: test_a_changed_one_time_token_is_refused
        return row
