"""Login sessions: found with their user, rotated once, ended."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from app_db import Database, Session
from app_db.models import Role, User, UserSession
from app_db.repositories import user_sessions
from app_db.repositories.user_sessions import AuthenticatedRow, Rotation, UserSessionRepository, find_authenticated
from app_db.testing.plugin import MakeUser
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow

type MakeUserSession = Callable[..., Awaitable[UserSession]]

NOW = utcnow().replace(microsecond=0)
GRACE = timedelta(seconds=10)
IDLE = timedelta(days=14)
ABSOLUTE = timedelta(days=30)
SECOND = timedelta(seconds=1)


@pytest.fixture
def make_user_session(database: Database, make_user: MakeUser) -> MakeUserSession:
    """Return a factory of committed login sessions that began at NOW."""

    async def make(user: User | None = None, **columns: Any) -> UserSession:  # Any: columns of UserSession
        user_id = (user or await make_user()).id
        defaults = {"refresh_key_id": "k1", "idle_expires_at": NOW + IDLE, "expires_at": NOW + ABSOLUTE}
        user_session = UserSession(**{"id": new_id(), "user_id": user_id, **defaults, **columns})
        async with database.sessions.begin() as session:
            session.add(user_session)
        return user_session

    return make


async def rotate(
    database: Database, user_session: UserSession, *, counter: int = 0, now: datetime = NOW, key_id: str = "k2"
) -> Rotation | None:
    return await user_sessions.rotate(
        database, user_session.id, counter=counter, key_id=key_id, now=now, grace=GRACE, idle=IDLE
    )


async def stored(session: Session, user_session: UserSession) -> UserSession:
    statement = select(UserSession).where(UserSession.id == user_session.id).execution_options(populate_existing=True)
    return (await session.scalars(statement)).one()


# --- finding -------------------------------------------------------------------------------------------------------


async def test_session_and_user_are_found_together_in_one_query(
    database: Database, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user(role=Role.OPERATOR)
    theirs = await make_user_session(user)

    with assert_queries(database, max=1):
        row = await find_authenticated(database, user_id=user.id, session_id=theirs.id, now=NOW)

    assert row is not None
    assert row.signed_in_at is not None
    assert row == AuthenticatedRow(
        user.id, user.email, Role.OPERATOR, theirs.id, row.signed_in_at, row.last_used_at, NOW
    )


async def test_a_session_ends_by_the_clock_of_postgres(
    database: Database, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    ended = await make_user_session(user, idle_expires_at=func.now())
    living = await make_user_session(user, idle_expires_at=func.now() + timedelta(minutes=1))

    rows = [await find_authenticated(database, user_id=user.id, session_id=one.id) for one in (ended, living)]

    assert [row and row.session_id for row in rows] == [None, living.id]


async def test_a_session_that_has_ended_leaves_the_user_alone(database: Database, make_user: MakeUser) -> None:
    user = await make_user()

    row = await find_authenticated(database, user_id=user.id, session_id=new_id(), now=NOW)

    assert row == AuthenticatedRow(user.id, user.email, Role.USER, None, None, None, NOW)


async def test_anothers_session_is_not_found(
    database: Database, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    anothers = await make_user_session()

    row = await find_authenticated(database, user_id=user.id, session_id=anothers.id, now=NOW)

    assert row is not None
    assert row.session_id is None


async def test_a_disabled_user_has_no_session(
    database: Database, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user(disabled_at=NOW)
    theirs = await make_user_session(user)

    row = await find_authenticated(database, user_id=user.id, session_id=theirs.id, now=NOW)

    assert row == AuthenticatedRow(user.id, user.email, Role.USER, None, None, None, NOW)


async def test_a_user_who_is_gone_is_not_found(database: Database) -> None:
    assert await find_authenticated(database, user_id=new_id(), session_id=new_id(), now=NOW) is None


async def test_a_session_is_found_by_its_id(session: Session, make_user_session: MakeUserSession) -> None:
    user_session = await make_user_session()

    found = await UserSessionRepository(session).get(user_session.id)

    assert found is not None
    assert found.id == user_session.id


async def test_the_sessions_of_a_user_are_theirs_and_the_newest_comes_first(
    session: Session, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    older, newer = await make_user_session(user), await make_user_session(user)
    await make_user_session()

    found = await UserSessionRepository(session).of_user(user.id)

    assert [user_session.id for user_session in found] == [newer.id, older.id]


@pytest.mark.parametrize(("late", "expired"), [(-SECOND, False), (timedelta(0), True), (SECOND, True)])
async def test_a_session_expires_at_the_moment_that_it_names(
    make_user_session: MakeUserSession, late: timedelta, *, expired: bool
) -> None:
    user_session = await make_user_session()

    assert user_session.is_expired(NOW + IDLE + late) is expired


# --- rotating ------------------------------------------------------------------------------------------------------


async def test_a_rotation_moves_the_session_on(
    database: Database, session: Session, make_user_session: MakeUserSession
) -> None:
    user_session = await make_user_session(idle_expires_at=NOW + SECOND)

    rotation = await rotate(database, user_session)

    assert rotation == Rotation(user_session.user_id, 1, "k2", NOW + IDLE)
    row = await stored(session, user_session)
    assert (row.refresh_counter, row.refresh_key_id, row.rotated_at, row.last_used_at, row.idle_expires_at) == (
        1, "k2", NOW, NOW, NOW + IDLE,
    )  # fmt: skip


async def test_twenty_refreshes_at_once_get_one_and_the_same_successor(
    database: Database, session: Session, make_user_session: MakeUserSession
) -> None:
    user_session = await make_user_session()

    async def refresh(client: int) -> Rotation | None:
        return await rotate(database, user_session, now=NOW + client * timedelta(milliseconds=1), key_id=f"k{client}")

    rotations = await asyncio.gather(*(refresh(client) for client in range(20)))

    successors = {rotation and (rotation.counter, rotation.key_id) for rotation in rotations}
    row = await stored(session, user_session)
    assert successors == {(1, row.refresh_key_id)}
    assert row.refresh_counter == 1


async def test_the_predecessor_gets_the_same_successor_again_within_the_grace(
    database: Database, make_user_session: MakeUserSession
) -> None:
    user_session = await make_user_session()
    await rotate(database, user_session)

    again = await rotate(database, user_session, now=NOW + GRACE - SECOND, key_id="k3")

    assert again is not None
    assert (again.counter, again.key_id) == (1, "k2")


async def test_the_grace_is_not_prolonged_by_its_use(database: Database, make_user_session: MakeUserSession) -> None:
    user_session = await make_user_session()
    await rotate(database, user_session)
    await rotate(database, user_session, now=NOW + GRACE - SECOND)

    assert await rotate(database, user_session, now=NOW + GRACE + SECOND) is None


@pytest.mark.parametrize("late", [timedelta(0), SECOND])
async def test_the_predecessor_is_refused_after_the_grace(
    database: Database, make_user_session: MakeUserSession, late: timedelta
) -> None:
    user_session = await make_user_session()
    await rotate(database, user_session)

    assert await rotate(database, user_session, now=NOW + GRACE + late) is None


async def test_a_token_before_the_predecessor_is_refused_within_the_grace(
    database: Database, make_user_session: MakeUserSession
) -> None:
    user_session = await make_user_session()
    await rotate(database, user_session, counter=0)
    await rotate(database, user_session, counter=1)

    assert await rotate(database, user_session, counter=0) is None


async def test_a_token_that_was_never_given_out_is_refused(
    database: Database, make_user_session: MakeUserSession
) -> None:
    assert await rotate(database, await make_user_session(), counter=1) is None


async def test_a_refusal_changes_nothing(
    database: Database, session: Session, make_user_session: MakeUserSession
) -> None:
    user_session = await make_user_session()

    await rotate(database, user_session, counter=1)

    row = await stored(session, user_session)
    assert (row.refresh_counter, row.refresh_key_id, row.rotated_at) == (0, "k1", None)


async def test_an_expired_session_is_not_rotated(database: Database, make_user_session: MakeUserSession) -> None:
    user_session = await make_user_session(idle_expires_at=NOW)

    assert await rotate(database, user_session) is None


async def test_no_rotation_outlives_the_absolute_end(database: Database, make_user_session: MakeUserSession) -> None:
    end = NOW + timedelta(days=1)
    user_session = await make_user_session(expires_at=end)

    rotation = await rotate(database, user_session)

    assert rotation is not None
    assert rotation.idle_expires_at == end


async def test_rotating_leaves_other_sessions_alone(
    database: Database, session: Session, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    one, other = await make_user_session(user), await make_user_session(user)

    await rotate(database, one)

    assert (await stored(session, other)).refresh_counter == 0


# --- ending --------------------------------------------------------------------------------------------------------


async def test_a_session_that_was_ended_is_gone_and_may_be_ended_again(
    database: Database, session: Session, make_user_session: MakeUserSession
) -> None:
    user_session = await make_user_session()

    await UserSessionRepository(session).end(user_session.id)
    await UserSessionRepository(session).end(user_session.id)
    await session.commit()

    assert await rotate(database, user_session) is None


async def test_ending_tells_whose_session_it_was_once(session: Session, make_user_session: MakeUserSession) -> None:
    user_session = await make_user_session()
    sessions = UserSessionRepository(session)

    assert [await sessions.end(user_session.id) for _ in range(2)] == [user_session.user_id, None]


async def test_a_user_ends_only_sessions_of_their_own(
    session: Session, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    theirs, anothers = await make_user_session(user), await make_user_session()
    sessions = UserSessionRepository(session)

    ended = [await sessions.end_owned(one.id, user_id=user.id) for one in (theirs, anothers)]

    assert ended == [True, False]
    assert list(await session.scalars(select(UserSession.id))) == [anothers.id]


async def test_ending_all_counts_them_and_spares_other_users(
    session: Session, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    for _ in range(3):
        await make_user_session(user)
    anothers = await make_user_session()

    assert await UserSessionRepository(session).end_all(user.id) == 3
    assert list(await session.scalars(select(UserSession.id))) == [anothers.id]


async def test_a_session_that_lives_holds_the_others_and_one_that_ended_does_not(
    session: Session, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    user_session = await make_user_session(user)
    sessions = UserSessionRepository(session)

    assert await sessions.hold(user.id, user_session.id)
    assert not await sessions.hold(user.id, new_id())


async def test_ending_the_others_keeps_one_and_those_of_other_users(
    session: Session, make_user: MakeUser, make_user_session: MakeUserSession
) -> None:
    user = await make_user()
    kept, _ended = await make_user_session(user), await make_user_session(user)
    anothers = await make_user_session()

    assert await UserSessionRepository(session).end_others(user.id, keep=kept.id) == 1
    assert set(await session.scalars(select(UserSession.id))) == {kept.id, anothers.id}


async def test_only_expired_sessions_are_pruned_and_they_are_counted(
    session: Session, make_user_session: MakeUserSession
) -> None:
    await make_user_session(idle_expires_at=NOW - SECOND)
    await make_user_session(idle_expires_at=NOW)
    living = await make_user_session(idle_expires_at=NOW + SECOND)

    count = await UserSessionRepository(session).delete_expired(NOW)

    assert count == 2
    assert list(await session.scalars(select(UserSession.id))) == [living.id]


async def test_pruning_waits_for_nobody_who_ends_sessions(
    database: Database, session: Session, make_user_session: MakeUserSession
) -> None:
    await make_user_session(idle_expires_at=NOW)
    being_ended = await make_user_session(idle_expires_at=NOW)

    async with database.sessions() as somebody:
        await UserSessionRepository(somebody).end(being_ended.id)
        pruned = await UserSessionRepository(session).delete_expired(NOW)

    assert pruned == 1
