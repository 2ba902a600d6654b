"""The errors of passkeys; the docstring is the `detail` that clients see."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from app_auth.audit import Event, audit
from app_auth.client import Client
from app_auth.errors import InvalidGrant
from app_db import Session
from app_db.errors import BadRequest, Conflict, Invalid, NotFound
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.features.passkeys.repository import UsedChallengeRepository
from app_db.jobs.outbox import enqueue
from app_db.jobs.unique import Unique

COUNTER = "passkey_counter"
"""Why a sign-in failed: the counter of the authenticator has not gone on, so there may be a copy of it."""
ONE_NOTICE = Unique(period=timedelta(hours=1))


class ResponseRejected(Exception):
    """The response of a browser does not fit; the message says why, for the log."""


class PasskeysUnavailable(NotFound):
    """Passkeys cannot be used here: browsers want https under a name, or localhost."""

    code = "passkeys_unavailable"


class PasskeyNotFound(NotFound):
    """You have no passkey with this id."""

    code = "passkey_not_found"


class PasskeyNotAdded(BadRequest):
    """This passkey could not be added. Begin anew: what the browser answers is taken once, within minutes."""

    code = "passkey_not_added"


class PasskeyTaken(Conflict):
    """This passkey is in use already."""

    code = "passkey_taken"


class TooManyPasskeys(Conflict):
    """You have as many passkeys as you may have: remove one first."""

    code = "too_many_passkeys"

    def __init__(self, *, limit: int) -> None:
        super().__init__()
        self.limit = limit

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """How many passkeys an account may have."""
        return {"limit": self.limit}


class InvalidPasskeyName(Invalid):
    """A passkey needs a name of 1 to 100 characters that can be seen."""

    code = "invalid_passkey_name"


class PasskeyRefused(InvalidGrant):
    """This passkey is not accepted."""

    code = "passkey_refused"

    def __init__(
        self,
        client: Client,
        *,
        challenge_id: UUID | None = None,
        user_id: UUID | None = None,
        because: str = "passkey",
    ) -> None:
        """`challenge_id` is that of a challenge of ours, which is used up now."""
        super().__init__()
        self.client, self.challenge_id, self.user_id, self.because = client, challenge_id, user_id, because

    async def aftermath(self, session: Session) -> None:
        """Keep the attempt in the audit, use up its challenge, and tell the owner of a passkey that may be copied."""
        audit(
            session, Event.SIGN_IN_FAILED, client=self.client, user_id=self.user_id, because=self.because
        )  # guard: test_a_passkey_that_is_refused_is_audited
        if self.challenge_id is not None:
            await UsedChallengeRepository(session).use(
                self.challenge_id
            )  # guard: test_a_challenge_is_used_up_by_a_response_that_is_refused
        if self.because == COUNTER and self.user_id is not None:
            notice = SecurityNotice(user_id=self.user_id, what=Notice.PASSKEY_COPIED)
            await enqueue(session, notice, owner_id=self.user_id, unique=ONE_NOTICE)
