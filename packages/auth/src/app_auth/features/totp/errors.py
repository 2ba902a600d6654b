"""What can go wrong with one-time codes."""

from uuid import UUID

from app_auth.audit import Event, audit
from app_auth.client import Client
from app_auth.errors import InvalidGrant
from app_db import Session
from app_db.errors import Conflict, Unavailable


class InvalidCode(InvalidGrant):
    """This code is wrong, too old, or was used before. Enter the one that your generator shows now."""

    code = "invalid_code"

    def __init__(self, client: Client, *, user_id: UUID, session_id: UUID | None = None) -> None:
        super().__init__()
        self.client, self.user_id, self.session_id = client, user_id, session_id

    async def aftermath(self, session: Session) -> None:
        """Keep the failed attempt in the audit: whoever guesses here knows the password."""
        audit(
            session, Event.SECOND_FACTOR_FAILED, client=self.client, user_id=self.user_id, session_id=self.session_id
        )  # guard: test_a_wrong_code_is_audited


class TotpOn(Conflict):
    """This account has a generator already: remove it first."""

    code = "totp_on"


class TotpOff(Conflict):
    """This account has no generator, or waited too long for its first code. Begin again."""

    code = "totp_off"


class TotpUnavailable(Unavailable):
    """One-time codes cannot be checked here: the operator has to set the keys of APP_TOTP__KEYS."""

    code = "totp_unavailable"
