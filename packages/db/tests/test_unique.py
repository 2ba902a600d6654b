"""Jobs that are accepted once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, func, select, text, update
from sqlalchemy.util import await_only

from app_db import Database, Session
from app_db.jobs.outbox import UNIQUE_TRIES, enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_db.models import OPEN_STATES, Job, JobState
from app_db.testing.queries import assert_queries
from app_db.types import new_id

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]

RACERS = 50
WIDE: dict[str, Any] = {
    "pool_size": RACERS,
    # Fifty connections at once take their time on a busy machine.
    "connect_timeout": timedelta(seconds=20),
    "lock_timeout": timedelta(seconds=20),
}


class Report(JobPayload):
    """A payload with enough fields to choose from."""

    kind = "test.report"
    team_id: UUID
    page: int = 1


class OtherReport(Report):
    """Another kind with the same fields."""

    kind = "test.other_report"


async def accept(database: Database, payload: JobPayload, unique: Unique) -> UUID:
    async with database.sessions.begin() as session:
        return await enqueue(session, payload, unique=unique)


async def move(database: Database, job_id: UUID, state: JobState) -> None:
    async with database.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(state=state))


async def ids_in(database: Database, state: JobState) -> list[UUID]:
    async with database.sessions() as session:
        return list(await session.scalars(select(Job.id).where(Job.state == state).order_by(Job.id)))


async def count(database: Database) -> int:
    async with database.sessions() as session:
        return (await session.scalars(select(func.count()).select_from(Job))).one()


async def waiting_for_locks(database: Database) -> int:
    waiting = text("""
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    """)
    async with database.engine.connect() as connection:
        return int((await connection.scalars(waiting)).one())


async def test_the_same_job_is_accepted_once(database: Database) -> None:
    report = Report(team_id=new_id())
    first = await accept(database, report, Unique())

    again = await accept(database, report, Unique())

    assert again == first
    assert await count(database) == 1


async def test_the_same_job_is_accepted_once_within_a_transaction(database: Database, session: Session) -> None:
    report = Report(team_id=new_id())
    first = await enqueue(session, report, unique=Unique())

    again = await enqueue(session, report, unique=Unique())

    assert again == first


async def test_a_unique_job_is_one_statement_whether_it_is_there_or_not(database: Database) -> None:
    report = Report(team_id=new_id())

    with assert_queries(database, max=2):
        await accept(database, report, Unique())
        await accept(database, report, Unique())


async def test_a_unique_job_holds_what_it_was_enqueued_with(session: Session) -> None:
    report, owner_id = Report(team_id=new_id()), new_id()

    job_id = await enqueue(session, report, unique=Unique(), queue="mail", priority=7, owner_id=owner_id)

    job = (await session.scalars(select(Job).where(Job.id == job_id))).one()
    assert (job.kind, job.payload, job.queue, job.priority, job.owner_id, job.state) == (
        "test.report", {"team_id": str(report.team_id), "page": 1}, "mail", 7, owner_id, JobState.AVAILABLE,
    )  # fmt: skip


async def test_a_job_that_was_there_already_does_not_count(database: Database) -> None:
    before = database.enqueued.copy()
    report = Report(team_id=new_id())

    for _ in range(3):
        await accept(database, report, Unique())

    assert database.enqueued - before == {"test.report": 1}


@pytest.mark.parametrize(
    ("other", "unique", "is_the_same"),
    [
        (Report(team_id=UUID(int=1), page=2), Unique(), False),
        (Report(team_id=UUID(int=1), page=2), Unique(by=("team_id",)), True),
        (Report(team_id=UUID(int=2), page=1), Unique(by=("team_id",)), False),
        (Report(team_id=UUID(int=2), page=2), Unique(by=()), True),
        (OtherReport(team_id=UUID(int=1)), Unique(), False),
        (OtherReport(team_id=UUID(int=1)), Unique(by=()), False),
    ],
)
async def test_the_kind_and_the_chosen_fields_make_a_job_the_same(
    database: Database, other: Report, unique: Unique, is_the_same: bool
) -> None:
    first = await accept(database, Report(team_id=UUID(int=1), page=1), unique)

    second = await accept(database, other, unique)

    assert (second == first) is is_the_same


async def test_jobs_that_are_not_unique_are_never_the_same(database: Database, session: Session) -> None:
    report = Report(team_id=new_id())

    ids = {await enqueue(session, report) for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
async def test_an_open_job_is_the_same_whatever_it_is_doing(database: Database, state: JobState) -> None:
    report = Report(team_id=new_id())
    first = await accept(database, report, Unique())
    await move(database, first, state)

    again = await accept(database, report, Unique())

    assert again == first


@pytest.mark.parametrize("state", sorted(set(JobState) - OPEN_STATES))
async def test_a_job_that_has_ended_makes_room_for_the_next(database: Database, state: JobState) -> None:
    report = Report(team_id=new_id())
    first = await accept(database, report, Unique())
    await move(database, first, state)

    again = await accept(database, report, Unique())

    assert again != first


async def test_a_job_that_has_ended_counts_where_its_state_was_named(database: Database) -> None:
    unique = Unique(states=OPEN_STATES | {JobState.DISCARDED})
    report = Report(team_id=new_id())
    first = await accept(database, report, unique)
    await move(database, first, JobState.DISCARDED)

    again = await accept(database, report, unique)

    assert again == first


async def test_a_completed_job_counts_for_its_period(database: Database) -> None:
    unique = Unique(period=timedelta(days=36500))
    report = Report(team_id=new_id())
    first = await accept(database, report, unique)
    await move(database, first, JobState.COMPLETED)

    again = await accept(database, report, unique)

    assert again == first


async def test_the_next_period_takes_another_job(database: Database) -> None:
    every_transaction = Unique(period=timedelta(microseconds=1))
    report = Report(team_id=new_id())
    first = await accept(database, report, every_transaction)

    second = await accept(database, report, every_transaction)

    assert second != first


async def test_periods_of_different_lengths_have_nothing_to_do_with_each_other(database: Database) -> None:
    report = Report(team_id=new_id())
    first = await accept(database, report, Unique(period=timedelta(days=36500)))

    second = await accept(database, report, Unique(period=timedelta(days=36501)))

    assert second != first


def test_a_unique_job_counts_in_all_open_states() -> None:
    with pytest.raises(ValueError, match=r"lack executing, retryable: a job that left them and came back"):
        Unique(states=OPEN_STATES - {JobState.RETRYABLE, JobState.EXECUTING})


def test_a_period_of_uniqueness_has_a_length() -> None:
    with pytest.raises(ValueError, match="must be positive, not 0:00:00"):
        Unique(period=timedelta(0))


async def test_a_job_cannot_be_unique_by_a_field_that_it_lacks(session: Session) -> None:
    with pytest.raises(ValueError, match="Report has no colour to be unique by"):
        await enqueue(session, Report(team_id=new_id()), unique=Unique(by=("team_id", "colour")))


async def test_the_same_job_of_fifty_transactions_at_once_is_accepted_once(
    database: Database, open_with: OpenWith
) -> None:
    report = Report(team_id=new_id())
    async with open_with(**WIDE) as wide:
        everybody_is_in = asyncio.Barrier(RACERS)

        async def race() -> UUID:
            async with wide.sessions.begin() as session:
                await session.execute(text("SELECT 1"))
                await everybody_is_in.wait()
                return await enqueue(session, report, unique=Unique())

        ids = await asyncio.gather(*(race() for _ in range(RACERS)))

    assert len(set(ids)) == 1
    assert await count(database) == 1


async def test_the_next_of_fifty_transactions_takes_over_when_the_first_is_rolled_back(
    database: Database, open_with: OpenWith, until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> None:
    report = Report(team_id=new_id())
    async with open_with(**WIDE) as wide, wide.sessions() as first:
        rolled_back = await enqueue(first, report, unique=Unique())
        others = [asyncio.create_task(accept(wide, report, Unique())) for _ in range(RACERS - 1)]

        async def all_wait() -> bool:
            return await waiting_for_locks(database) == RACERS - 1

        await until(all_wait)
        await first.rollback()
        ids = Counter(await asyncio.gather(*others))

    assert list(ids.values()) == [RACERS - 1]
    assert rolled_back not in ids
    assert await count(database) == 1


async def test_who_enqueues_the_same_job_does_not_wait_for_its_handler(database: Database, open_with: OpenWith) -> None:
    report = Report(team_id=new_id())
    job_id = await accept(database, report, Unique())
    async with open_with() as other, other.sessions.begin() as handler:
        await handler.execute(update(Job).where(Job.id == job_id).values(state=JobState.COMPLETED))

        again = await accept(database, report, Unique())

    assert again == job_id


class Rival:
    """Enqueues the same job just before each statement of another transaction, commits when that one waits for it, and
    ends the job before the next statement, `rounds` times."""

    def __init__(self, database: Database, payload: JobPayload, *, rounds: int) -> None:
        self.database = database
        self.payload = payload
        self.rounds = rounds
        self.ids: list[UUID] = []
        self.tasks: list[asyncio.Task[None]] = []

    def before_statement(self, connection: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        await_only(self.next_round())

    async def next_round(self) -> None:
        await asyncio.gather(*self.tasks)
        if self.ids:
            await move(self.database, self.ids[-1], JobState.COMPLETED)
        if len(self.ids) < self.rounds:
            inserted = asyncio.Event()
            self.tasks.append(asyncio.create_task(self.insert(inserted)))
            await inserted.wait()

    async def insert(self, inserted: asyncio.Event) -> None:
        async with self.database.sessions.begin() as session:
            self.ids.append(await enqueue(session, self.payload, unique=Unique()))
            inserted.set()
            while await waiting_for_locks(self.database) == 0:  # noqa: ASYNC110  # Postgres sets no event of ours
                await asyncio.sleep(0.005)


async def enqueue_against(rival: Rival, database: Database, session: Session) -> UUID:
    event.listen(database.engine.sync_engine, "before_cursor_execute", rival.before_statement)
    try:
        return await enqueue(session, rival.payload, unique=Unique())
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", rival.before_statement)
        await asyncio.gather(*rival.tasks)  # or its last connection comes back when its pool has gone


async def test_a_job_that_ends_while_the_same_is_enqueued_is_followed_by_a_new_one(
    database: Database, open_with: OpenWith, session: Session
) -> None:
    async with open_with() as other:
        rival = Rival(other, Report(team_id=new_id()), rounds=2)

        job_id = await enqueue_against(rival, database, session)
        await session.commit()

    assert await ids_in(database, JobState.AVAILABLE) == [job_id]
    assert await ids_in(database, JobState.COMPLETED) == rival.ids


async def test_a_job_that_comes_and_goes_for_ever_is_given_up(
    database: Database, open_with: OpenWith, session: Session
) -> None:
    async with open_with() as other:
        rival = Rival(other, Report(team_id=new_id()), rounds=UNIQUE_TRIES)

        with pytest.raises(RuntimeError, match=f"an equal job was enqueued and ended {UNIQUE_TRIES} times"):
            await enqueue_against(rival, database, session)
