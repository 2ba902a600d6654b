"""Login sessions of browsers, which hold them by the secret in a cookie instead of by tokens."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from app_auth import sessions
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidToken
from app_auth.principal import Principal, recognise
from app_db import Database, Session
from app_db.models import UserSession
from app_db.outage import DatabaseUnavailable
from app_db.repositories.user_sessions import UserSessionRepository, touch

TOUCH = timedelta(minutes=10)
"""How old `last_used_at` gets while a session is in use."""


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A login session as its browser gets it; the secret is derived, returned, and stored nowhere."""

    secret: str
    expires_at: datetime
    """When it ends at the latest."""


async def sign_in(
    auth: Auth, session: Session, *, email: str, password: str, client: Client, before: str | None = None
) -> BrowserSession:
    """Start a login session under a new id, and end the one whose secret the browser had `before`.

    Raises:
        InvalidCredentials, EmailNotVerified, SecondFactorRequired, Throttled, HashingBusy: as for `sessions.sign_in`.
    """
    begun = await sessions.begin(auth, session, email=email, password=password, client=client)
    return await hand_over(auth, session, begun, client=client, before=before)


async def hand_over(
    auth: Auth, session: Session, begun: UserSession, *, client: Client, before: str | None = None
) -> BrowserSession:
    """Return what the browser keeps of a login session that has just begun, and end the one that it had `before`."""
    if before is not None:
        await sign_out(auth, session, secret=before, client=client)  # guard: test_a_sign_in_ends_the_session_before
    return BrowserSession(auth.browser_secrets.derive(begun.user_id, begun.id), begun.expires_at)


async def authenticate(auth: Auth, database: Database, *, secret: str, now: datetime | None = None) -> Principal:
    """Return the user and session of a secret, by one query, so that an ended session is refused at once.

    Raises:
        InvalidToken: the secret is not valid; UserRemoved and SessionEnded are subclasses of it.
    """
    claims = auth.browser_secrets.parse(secret)
    return await recognise(database, user_id=claims.user_id, session_id=claims.session_id, now=now)


def is_use_unnoted(principal: Principal) -> bool:
    """Whether `note_use` has not noted for `TOUCH` that the session is in use: nothing else does, without tokens."""
    used_at, seen_at = principal.last_used_at, principal.seen_at
    return used_at is not None and seen_at is not None and seen_at - used_at >= TOUCH


async def note_use(auth: Auth, database: Database, principal: Principal, *, now: datetime | None = None) -> None:
    """Note that a session is in use, by one statement; for after the answer, which has not to wait for it."""
    with suppress(DatabaseUnavailable):  # what can be read is shown, although nothing can be written
        await touch(database, principal.session_id, now=now, idle=auth.settings.refresh_idle)


async def sign_out(auth: Auth, session: Session, *, secret: str, client: Client) -> None:
    """End the session of a secret. May be repeated; a secret that is not ours is no error either: it opens nothing."""
    try:
        claims = auth.browser_secrets.parse(secret)
    except InvalidToken:
        return
    if await UserSessionRepository(session).end(claims.session_id):
        audit(session, Event.SIGNED_OUT, client=client, user_id=claims.user_id, session_id=claims.session_id)
