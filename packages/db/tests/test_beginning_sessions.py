"""A session begins with its event, and room is made for it."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select

from app_db import Database, Session
from app_db.models import AuditEvent, User, UserSession
from app_db.repositories.beginning_sessions import begin_session
from app_db.testing.plugin import MakeUser
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow

NOW = utcnow().replace(microsecond=0)
LATER = NOW + timedelta(days=14)


def a_session(user: User, *, ends: timedelta = timedelta(days=14)) -> UserSession:
    """Return a session that begins now."""
    return UserSession(
        id=new_id(), user_id=user.id, created_at=NOW, last_used_at=NOW, refresh_counter=0, refresh_key_id="k1",
        idle_expires_at=NOW + ends, expires_at=LATER,
    )  # fmt: skip


async def begin(session: Session, user: User, *, cap: int = 10, ends: timedelta = timedelta(days=14)) -> UUID:
    """Begin a session of a user and return its id."""
    begun = a_session(user, ends=ends)
    assert await begin_session(session, begun, AuditEvent(event="signed_in", details={}), cap=cap) == 0
    return begun.id


async def left(session: Session) -> set[UUID]:
    return set(await session.scalars(select(UserSession.id)))


async def test_a_session_begins_with_its_event_by_one_statement(
    database: Database, session: Session, make_user: MakeUser
) -> None:
    user = await make_user()
    begun = a_session(user)
    event = AuditEvent(event="signed_in", user_id=user.id, session_id=begun.id, details={"how": "password"})

    with assert_queries(database, max=1):
        ended = await begin_session(session, begun, event, cap=1)

    assert ended == 0
    stored = (await session.scalars(select(UserSession))).one()
    assert (stored.id, stored.user_id, stored.created_at, stored.expires_at) == (begun.id, user.id, NOW, LATER)
    noted = (await session.scalars(select(AuditEvent))).one()
    assert (noted.user_id, noted.session_id, noted.details) == (user.id, begun.id, {"how": "password"})


async def test_room_is_made_by_ending_the_oldest(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    ids = [await begin(session, user) for _ in range(4)]
    anothers = await begin(session, await make_user())
    begun = a_session(user)

    assert await begin_session(session, begun, AuditEvent(event="signed_in", details={}), cap=3) == 2
    assert await left(session) == {*ids[2:], anothers, begun.id}


async def test_room_is_made_of_expired_sessions_first(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    oldest = await begin(session, user)
    await begin(session, user, ends=timedelta(0))
    begun = a_session(user)

    assert await begin_session(session, begun, AuditEvent(event="signed_in", details={}), cap=2) == 1
    assert await left(session) == {oldest, begun.id}
