"""Login sessions: found with their user in one query, rotated in one statement."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Interval,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    delete,
    func,
    or_,
    select,
    update,
)

from app_db.clock import NOW
from app_db.engine import Database
from app_db.models import Role, User, UserSession
from app_db.repositories.expiry import BATCH, delete_batch, deletion_of_expired
from app_db.repositories.users import UserRepository
from app_db.session import Session


@dataclass(frozen=True, slots=True)
class AuthenticatedRow:
    """A user with their session; the session's fields are None if it has ended or the user is disabled."""

    user_id: UUID
    email: str
    role: Role
    session_id: UUID | None
    signed_in_at: datetime | None
    last_used_at: datetime | None
    seen_at: datetime
    """Now, by Postgres's clock."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The current refresh token of a session, and when it expires."""

    user_id: UUID
    counter: int
    key_id: str
    idle_expires_at: datetime


# Both statements are built once, because building a select costs more CPU than running it. `_AUTHENTICATE`, which runs
# on every request, uses the columns of the tables, because attributes of the models cost a third more.
_USERS, _SESSIONS = User.__table__.c, UserSession.__table__.c
_TIMESTAMP = DateTime(timezone=True)
_ASKED = (
    func.unnest(
        bindparam("user_id", type_=ARRAY(Uuid)),
        bindparam("session_id", type_=ARRAY(Uuid)),
        bindparam("now", type_=ARRAY(_TIMESTAMP)),
    )
    .table_valued(
        column("user_id", Uuid), column("session_id", Uuid), column("now", _TIMESTAMP), with_ordinality="number"
    )
    .render_derived(name="asked")
)
_AT = func.coalesce(_ASKED.c.now, func.now(), type_=_TIMESTAMP)
_AUTHENTICATE = (
    select(
        _USERS.id,
        _USERS.email,
        _USERS.role,
        _SESSIONS.id.label("session_id"),
        _SESSIONS.created_at,
        _SESSIONS.last_used_at,
        _AT,
        _ASKED.c.number,
    )
    .select_from(_ASKED)
    .join(User.__table__, _USERS.id == _ASKED.c.user_id)
    .outerjoin(
        UserSession.__table__,
        and_(
            _SESSIONS.user_id == _USERS.id,
            _SESSIONS.id == _ASKED.c.session_id,
            _SESSIONS.idle_expires_at > _AT,  # guard: test_a_session_ends_by_the_clock_of_postgres
            _USERS.disabled_at.is_(None),  # guard: test_a_disabled_user_has_no_session
        ),
    )
)

_IS_CURRENT = UserSession.refresh_counter == bindparam("counter")
# A statement that has waited for the row lock sees the row as the one before has left it. So the first of N parallel
# refreshes rotates, the other N - 1 match the condition with the grace, and all get the same successor.
_ROTATE = (
    update(UserSession)
    .where(
        UserSession.id == bindparam("session_id"),
        UserSession.idle_expires_at > NOW,
        or_(
            _IS_CURRENT,
            and_(
                UserSession.refresh_counter == bindparam("counter") + 1,
                UserSession.rotated_at > NOW - bindparam("grace", type_=Interval),
            ),
        ),
    )
    .values(
        refresh_counter=bindparam("counter") + 1,
        refresh_key_id=case((_IS_CURRENT, bindparam("key_id")), else_=UserSession.refresh_key_id),
        rotated_at=case((_IS_CURRENT, NOW), else_=UserSession.rotated_at),
        last_used_at=NOW,
        idle_expires_at=func.least(NOW + bindparam("idle", type_=Interval), UserSession.expires_at),
    )
    .returning(
        UserSession.user_id, UserSession.refresh_counter, UserSession.refresh_key_id, UserSession.idle_expires_at
    )
    .execution_options(synchronize_session=False)
)

_TOUCH = (
    update(UserSession)
    .where(UserSession.id == bindparam("session_id"), UserSession.idle_expires_at > NOW)
    .values(
        last_used_at=NOW, idle_expires_at=func.least(NOW + bindparam("idle", type_=Interval), UserSession.expires_at)
    )
    .returning(UserSession.idle_expires_at)
    .execution_options(synchronize_session=False)
)

_DELETE_EXPIRED = deletion_of_expired("user_sessions", column="idle_expires_at")


async def find_authenticated(
    database: Database, *, user_id: UUID, session_id: UUID, now: datetime | None = None
) -> AuthenticatedRow | None:
    """Return the user with their session, by primary keys; None when the user is gone. Calls at once share a query."""
    row = await database.read_gathered(_AUTHENTICATE, {"user_id": user_id, "session_id": session_id, "now": now})
    if row is None:
        return None
    found_id, email, role, *rest, _ = row
    return AuthenticatedRow(found_id, email, Role(role), *rest)


async def rotate(
    database: Database,
    session_id: UUID,
    *,
    counter: int,
    key_id: str,
    now: datetime | None,
    grace: timedelta,
    idle: timedelta,
) -> Rotation | None:
    """Make the successor of refresh token `counter` the current one, atomically; repeatable within `grace`.

    N concurrent calls with one counter return the same rotation. None means that this token is not the current one, or
    that the session has ended or expired.

    Raises:
        DatabaseUnavailable: as for `Database.unit_of_work`; the rotation may be made nevertheless.
    """
    parameters = {
        "session_id": session_id, "counter": counter, "key_id": key_id, "now": now, "grace": grace, "idle": idle
    }  # fmt: skip
    row = await database.write_one(_ROTATE, parameters)
    return None if row is None else Rotation(*row)


async def touch(database: Database, session_id: UUID, *, now: datetime | None, idle: timedelta) -> datetime | None:
    """Note that a session without tokens is in use; return when it expires by idleness, None if it has ended.

    Raises:
        DatabaseUnavailable: as for `Database.unit_of_work`.
    """
    row = await database.write_one(_TOUCH, {"session_id": session_id, "now": now, "idle": idle})
    return None if row is None else row.idle_expires_at


@dataclass(frozen=True, slots=True)
class UserSessionRepository:
    """Finds, rotates and ends login sessions."""

    session: Session

    async def get(self, session_id: UUID) -> UserSession | None:
        """Return the session with this id, unless it has ended."""
        return await self.session.get(UserSession, session_id)

    async def of_user(self, user_id: UUID) -> list[UserSession]:
        """Return all sessions of a user, newest first."""
        statement = select(UserSession).where(UserSession.user_id == user_id).order_by(UserSession.id.desc())
        return list(await self.session.scalars(statement))

    async def alive_of_each(self, user_ids: Collection[UUID]) -> dict[UUID, list[UserSession]]:
        """Return the sessions of each of these users that have not expired, newest first, by one query."""
        asked = func.any(bindparam("user_ids", [*user_ids], type_=ARRAY(Uuid)))
        alive = select(UserSession).where(UserSession.user_id == asked, UserSession.idle_expires_at > func.now())
        sessions: dict[UUID, list[UserSession]] = {user_id: [] for user_id in user_ids}
        for one in await self.session.scalars(alive.order_by(UserSession.id.desc())):
            sessions[one.user_id].append(one)
        return sessions

    async def roles_behind(self, session_ids: Collection[UUID]) -> dict[UUID, Role]:
        """Return the role of the user behind each of these sessions that has not ended, by one query."""
        alive = UserSession.idle_expires_at > func.now(), User.disabled_at.is_(None)
        of_users = select(UserSession.id, User.role).join(User, User.id == UserSession.user_id)
        asked = func.any(bindparam("session_ids", [*session_ids], type_=ARRAY(Uuid)))
        rows = await self.session.execute(of_users.where(UserSession.id == asked, *alive))
        return {row.id: row.role for row in rows}

    async def hold(self, user_id: UUID, session_id: UUID) -> bool:
        """Lock the user, so that no other transaction starts or ends sessions; return whether this session lives.

        If two sessions end each other at the same time, only the first one succeeds.
        """
        await UserRepository(self.session).lock(user_id)  # guard: test_of_sessions_that_end_each_other_one_is_left
        # A second statement, because it sees the commits that were made while the first one waited for the lock.
        own = select(UserSession.id).where(UserSession.id == session_id)
        return (await self.session.scalars(own)).one_or_none() is not None

    async def end(self, session_id: UUID) -> UUID | None:
        """End one session: no token of its family is accepted from the commit on.

        Returns the id of its user; None, which is no error, if the session has ended already.
        """
        statement = delete(UserSession).where(UserSession.id == session_id).returning(UserSession.user_id)
        return (await self.session.scalars(statement)).one_or_none()

    async def end_owned(self, session_id: UUID, *, user_id: UUID) -> bool:
        """End one session of this user; return False if the user has none with this id."""
        return await self._end(UserSession.id == session_id, UserSession.user_id == user_id) > 0

    async def end_others(self, user_id: UUID, *, keep: UUID) -> int:
        """End all sessions of the user except `keep`; return how many."""
        return await self._end(UserSession.user_id == user_id, UserSession.id != keep)

    async def end_all(self, user_id: UUID) -> int:
        """End all sessions of the user; return how many."""
        return await self._end(UserSession.user_id == user_id)

    async def _end(self, *which: ColumnElement[bool]) -> int:
        return len((await self.session.scalars(delete(UserSession).where(*which).returning(UserSession.id))).all())

    async def delete_expired(self, now: datetime | None = None, *, limit: int = BATCH) -> int:
        """Delete up to `limit` sessions that have expired; return how many.

        Call it again, in a transaction of its own, while it returns `limit`. Sessions that another transaction has
        locked are skipped, because waiting for them could deadlock.
        """
        return await delete_batch(self.session, _DELETE_EXPIRED, now=now, limit=limit)
