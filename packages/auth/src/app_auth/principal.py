"""The principal: the user and session of a request."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from app_auth.errors import SessionEnded, UserRemoved
from app_db import Database
from app_db.models import Role
from app_db.repositories.user_sessions import find_authenticated


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a `Principal`, who has signed in, or a `Machine`, which has a key. A service of both takes a Caller."""

    user_id: UUID
    email: str
    role: Role


@dataclass(frozen=True, slots=True)
class Principal(Caller):
    """The user and the login session behind a request, as the database knew them a moment ago."""

    session_id: UUID
    signed_in_at: datetime
    last_used_at: datetime | None = field(default=None, compare=False)
    """When its tokens were refreshed last, or a page was asked for: to some minutes."""
    seen_at: datetime | None = field(default=None, compare=False)
    """When the database found them, by its own clock."""


async def recognise(database: Database, *, user_id: UUID, session_id: UUID, now: datetime | None = None) -> Principal:
    """Return the user and session of a proof that was verified, by one query.

    Raises:
        UserRemoved, SessionEnded.
    """
    row = await find_authenticated(database, user_id=user_id, session_id=session_id, now=now)
    if row is None:
        raise UserRemoved
    if row.session_id is None or row.signed_in_at is None:
        raise SessionEnded  # guard: test_signing_out_ends_the_access_token_at_once
    return Principal(row.user_id, row.email, row.role, row.session_id, row.signed_in_at, row.last_used_at, row.seen_at)
