"""An index that is rebuilt without a lock has a twin for a while, and either of them may be the one that is violated.

PostgreSQL, REINDEX, "Rebuilding Indexes Concurrently": the twin is called `…_ccnew`, and `…_ccold` once it has taken
over. ON CONFLICT does not see both at each moment, so it does not keep 23505 away meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app_db import Database, Session
from app_db.errors import Conflict
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_db.models import JobQueue, User
from app_db.outage import DatabaseUnavailable
from app_db.repositories.users import UserRepository
from app_db.types import new_id
from app_db.violations import violation_as

pytestmark = pytest.mark.integration

RACERS = 4
SECONDS = 6.0


class Taken(Conflict):
    """It is taken."""


class Note(JobPayload):
    kind = "test.note"
    number: int


@asynccontextmanager
async def rebuilding(database: Database, index: str) -> AsyncIterator[None]:
    """Rebuild an index again and again during the block."""

    async def rebuild() -> None:
        async with database.autocommit_sessions() as session:
            while True:
                await session.execute(text(f"REINDEX INDEX CONCURRENTLY {index}"))

    task = asyncio.create_task(rebuild())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def race(turn: Callable[[int], Awaitable[object]]) -> int:
    """Let RACERS do each turn at the same time, turn after turn, for SECONDS; return the number of turns."""
    until, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        number += 1
        await asyncio.gather(*(turn(number) for _ in range(RACERS)))
    return number


def user(number: int) -> User:
    email = f"{number}@example.test"
    return User(id=new_id(), email=email, email_canonical=email, password_hash="-")


@pytest.mark.parametrize("ending", ["", "_ccnew", "_ccold", "_ccnew1", "_ccold12"])
async def test_a_violation_of_a_rebuilt_index_is_one_of_its_constraint(session: Session, ending: str) -> None:
    name = f"pk_job_queues{ending}"
    await session.execute(text(f"ALTER TABLE job_queues RENAME CONSTRAINT pk_job_queues TO {name}x"))
    await session.execute(text(f"ALTER INDEX {name}x RENAME TO {name}"))
    session.add_all([JobQueue(name="mail"), JobQueue(name="mail")])

    with pytest.raises(Taken), violation_as(Taken, of="pk_job_queues"):
        await session.flush()


@pytest.mark.parametrize("length", [63, 58, 57, 56])
async def test_a_long_name_is_cut_to_make_room_for_the_ending(session: Session, length: int) -> None:
    """PostgreSQL, makeObjectName(): the ending stays whole, the name in front of it is shortened."""
    constraint = "u" * length
    await session.execute(text(f"CREATE UNIQUE INDEX {constraint[:57]}_ccnew ON job_queues (name)"))
    await session.execute(text("ALTER TABLE job_queues DROP CONSTRAINT pk_job_queues CASCADE"))
    session.add_all([JobQueue(name="mail"), JobQueue(name="mail")])

    with pytest.raises(Taken), violation_as(Taken, of=constraint):
        await session.flush()


async def test_an_index_of_another_constraint_is_not_taken_for_a_twin(session: Session) -> None:
    await session.execute(text("CREATE UNIQUE INDEX pk_job_ccnew ON job_queues (name)"))
    await session.execute(text("ALTER TABLE job_queues DROP CONSTRAINT pk_job_queues CASCADE"))
    session.add_all([JobQueue(name="mail"), JobQueue(name="mail")])

    with pytest.raises(IntegrityError), violation_as(Taken, of="pk_job_queues"):
        await session.flush()


async def test_a_violation_of_an_index_that_is_rebuilt_is_nobodys_fault(session: Session, database: Database) -> None:
    """A caller that does not name the constraint is told to try again: then the write violates it, or succeeds."""
    twin = text("CREATE UNIQUE INDEX pk_job_queues_ccnew ON job_queues ((paused_at IS NULL))")
    await session.execute(twin)
    await session.commit()
    try:
        with pytest.raises(DatabaseUnavailable):
            async with database.unit_of_work() as own:
                own.add_all([JobQueue(name="mail"), JobQueue(name="other")])
    finally:
        await session.execute(text("DROP INDEX pk_job_queues_ccnew"))
        await session.commit()


@pytest.mark.parametrize("way", ["add", "add_new"])
async def test_an_address_is_taken_while_its_index_is_rebuilt(database: Database, way: str) -> None:
    added = []

    async def register(number: int) -> None:
        async with database.sessions.begin() as session:
            users = UserRepository(session)
            if way == "add_new":
                if await users.add_new(user(number)):
                    added.append(number)
                return
            try:
                await users.add(user(number), taken=Taken)
                added.append(number)
            except Taken:
                await session.rollback()

    async with rebuilding(database, "uq_users_email_canonical"):
        turns = await race(register)

    assert sorted(added) == list(range(1, turns + 1))


async def test_a_job_is_unique_while_its_index_is_rebuilt(database: Database) -> None:
    jobs: dict[int, set[UUID]] = {}

    async def accept(number: int) -> None:
        async with database.sessions.begin() as session:
            job_id = await enqueue(session, Note(number=number), unique=Unique())
            jobs.setdefault(number, set()).add(job_id)

    async with rebuilding(database, "uq_jobs_unique_key"):
        turns = await race(accept)

    assert [len(jobs[number]) for number in range(1, turns + 1)] == [1] * turns
