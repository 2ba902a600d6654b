"""Sign-ins that wait for a second factor: a challenge is handed out instead of a session, and becomes that session."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidGrant, InvalidLink
from app_db import Session
from app_db.clock import database_time
from app_db.errors import Forbidden
from app_db.models import OneTimeToken, TokenPurpose
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import SignInNote, UserRepository

type Kept = Callable[[Session], Awaitable[object]]
"""Work that is done in the transaction of a challenge."""


class InvalidChallenge(InvalidGrant):
    """This sign-in has ended, or waited for too long. Sign in again."""

    code = "invalid_challenge"


class SecondFactorRequired(Forbidden):
    """This account asks for a second factor: answer the challenge."""

    code = "second_factor_required"

    def __init__(
        self, auth: Auth, row: OneTimeToken, note: SignInNote, *, methods: Sequence[str], how: str, client: Client
    ) -> None:
        super().__init__()
        self.challenge = auth.one_time_tokens.derive(row)
        """The text that answers have to come with: good once, for the session that it becomes."""
        self.expires_at, self.methods = row.expires_at, tuple(methods)
        self._row, self._note, self._how, self._client = row, note, how, client
        self._kept: list[Kept] = []

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """The challenge, when it expires in epoch seconds, and what can answer it."""
        return {"challenge": self.challenge, "expires_at": int(self.expires_at.timestamp()), "methods": [*self.methods]}

    def keep(self, work: Kept) -> None:
        """Do this beside the challenge too, as the refusal rolls back what the request has done.

        A first proof that is good once has to be used up here: `required.keep(lambda session: tokens.use(…))`.
        """
        self._kept.append(work)

    async def aftermath(self, session: Session) -> None:
        """Store the challenge, unless the account has changed since the first proof; then nothing answers it."""
        row, note, client = self._row, self._note, self._client
        users = UserRepository(session)
        audit(session, Event.SIGN_IN_CHALLENGED, client=client, user_id=row.user_id, session_id=row.id, how=self._how)
        if not await users.lock_unchanged(row.user_id, email=note.email, password_hash=note.password_hash):
            return  # guard: test_a_password_that_is_changed_before_the_challenge_is_stored_leaves_none
        for work in self._kept:
            await work(session)
        session.add(row)


async def find_challenge(auth: Auth, session: Session, challenge: str, *, now: datetime | None = None) -> OneTimeToken:
    """Return the row of a challenge; `admission.complete` makes a session of it, once.

    Raises:
        InvalidChallenge: it is not ours, has expired, or has ended: answered, or by a change of the account.
    """
    tokens = auth.one_time_tokens
    try:
        row = await OneTimeTokenRepository(session).get(tokens.parse(challenge))
        return tokens.check(challenge, row, TokenPurpose.SECOND_FACTOR, now=await database_time(session, now))
    except InvalidLink:
        raise InvalidChallenge from None
