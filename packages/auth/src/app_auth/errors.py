"""The errors of accounts, login sessions and tokens; the docstring is the `detail` that clients see."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from app_auth.audit import Event, audit
from app_auth.client import NOBODY, Client
from app_db import Session
from app_db.errors import AppError, BadRequest, Conflict, Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.jobs.outbox import enqueue
from app_db.repositories.user_sessions import UserSessionRepository


class InvalidToken(Unauthenticated):
    """Token invalid"""

    code = "invalid_token"


class UserRemoved(InvalidToken):
    """User removed"""


class SessionEnded(InvalidToken):
    """Session ended"""


class InvalidGrant(BadRequest):
    """The credentials or the refresh token are not accepted."""

    code = "invalid_grant"


class InvalidCredentials(InvalidGrant):
    """Incorrect email or password"""

    def __init__(
        self,
        client: Client = NOBODY,
        *,
        user_id: UUID | None = None,
        event: Event = Event.SIGN_IN_FAILED,
        because: str | None = None,
    ) -> None:
        super().__init__()
        self.client, self.user_id, self.event = client, user_id, event
        self.because = because

    async def aftermath(self, session: Session) -> None:
        """Keep the failed attempt in the audit; `user_id` is None when the address has no account."""
        user_id, because = self.user_id, self.because
        audit(
            session, self.event, client=self.client, user_id=user_id, because=because
        )  # guard: test_a_failed_login_is_audited


class EmailNotVerified(Forbidden):
    """Confirm your address first, by the link that we have mailed to you."""

    code = "email_not_verified"

    def __init__(self, client: Client, *, user_id: UUID) -> None:
        super().__init__()
        self.client, self.user_id = client, user_id

    async def aftermath(self, session: Session) -> None:
        """Keep the attempt in the audit."""
        audit(session, Event.SIGN_IN_FAILED, client=self.client, user_id=self.user_id, because=self.code)


class RefreshTokenNotFound(InvalidGrant):
    """Refresh token not found"""


class RefreshTokenExpired(InvalidGrant):
    """Refresh token expired"""


class RefreshTokenUsed(InvalidGrant):
    """Refresh token already used"""

    def __init__(self, session_id: UUID, client: Client, *, age: timedelta | None = None, newer: int = 0) -> None:
        """`age` is the age of the current token; `newer` counts the tokens made after the one that was used."""
        super().__init__()
        self.session_id, self.client, self.newer = session_id, client, newer
        self.seconds = None if age is None else max(0, round(age.total_seconds()))

    async def aftermath(self, session: Session) -> None:
        """End the family, because either a thief or the owner has reused the token (RFC 9700, 4.14.2).

        Of N parallel reuses, only the first ends it, writes to the audit and mails the owner. A tab that slept sends a
        token with one successor, some seconds old; a thief, or a restored backup, one with many or old successors.
        """
        user_id = await UserSessionRepository(session).end(self.session_id)  # guard: test_reuse_ends_the_family
        if user_id is not None:
            audit(
                session, Event.REFRESH_REUSED, client=self.client, user_id=user_id, session_id=self.session_id,
                successor_seconds=self.seconds, successors=self.newer,
            )  # fmt: skip  # guard: test_the_audit_of_a_reuse_says_how_old_the_successor_was
            notice = SecurityNotice(user_id=user_id, what=Notice.REFRESH_REUSED)
            await enqueue(session, notice, owner_id=user_id)  # guard: test_reuse_is_told_to_the_owner_once


class EmailTaken(Conflict):
    """Cannot use this email address"""

    code = "email_unavailable"


class InvalidEmail(Invalid):
    """This is not an e-mail address that can receive mail."""

    code = "invalid_email"


class AddressNotCarried(Invalid):
    """No mail can be sent to this address from here: use one with ASCII before the @ (a to z, digits, . _ - +)."""

    code = "email_not_carried"


class PasswordTooShort(Invalid):
    """The password is too short."""

    code = "password_too_short"

    def __init__(self, *, min_length: int) -> None:
        super().__init__()
        self.min_length = min_length

    def explain(self) -> str:
        """Say how long it has to be."""
        return f"The password is too short: it needs at least {self.min_length} characters."

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """How many characters it needs."""
        return {"min_length": self.min_length}


class PasswordTooLong(Invalid):
    """The password is too long."""

    code = "password_too_long"

    def __init__(self, *, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length

    def explain(self) -> str:
        """Say how long it may be."""
        return f"The password is too long: it may have at most {self.max_length} characters."

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """How many characters it may have."""
        return {"max_length": self.max_length}


class PasswordTooCommon(Invalid):
    """The password is too easy to guess: it is made of common words, of a sequence, or of your address."""

    code = "password_too_common"


class PasswordUnchanged(Invalid):
    """The new password is the current one."""

    code = "password_unchanged"


class InvalidLink(BadRequest):
    """The link is not valid, or not valid any more. Ask for a new one."""

    code = "invalid_link"


class RegistrationClosed(Forbidden):
    """Nobody can register here."""

    code = "registration_closed"


class AccountNotFound(NotFound):
    """No account has this address."""

    code = "account_not_found"


class UnknownAccount(NotFound):
    """No account has this id; it may have been deleted."""

    code = "unknown_account"


class OwnAccount(Conflict):
    """This is your own account: another operator has to do it, or a shell on the server."""

    code = "own_account"


class AccountDisabled(Conflict):
    """This account is disabled: enable it first."""

    code = "account_disabled"


class LinksSent(Conflict):
    """This address was sent as many links as it may be in an hour: look into its mails, or wait."""

    code = "links_sent"


class ReauthenticationRequired(Forbidden):
    """Sign in again: this needs a sign-in of the last minutes."""

    code = "reauthentication_required"

    def __init__(self, *, max_age: timedelta) -> None:
        super().__init__()
        self.max_age = round(max_age.total_seconds())
        """Seconds."""

    def explain(self) -> str:
        """Say how old a sign-in may be."""
        return f"Sign in again: this needs a sign-in that is not older than {self.max_age} seconds."

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """The greatest age of a sign-in in seconds, under its name in RFC 9470."""
        return {"max_age": self.max_age}


class HashingBusy(Unavailable):
    """Too many sign-ins at once. Try again in a moment."""

    code = "busy"


class Throttled(AppError):
    """Too many attempts. Wait before you try again."""

    code = "too_many_requests"

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after
        """Seconds, 1 to 300."""

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """For how many seconds to wait, as in the header."""
        return {"retry_after": self.retry_after}
