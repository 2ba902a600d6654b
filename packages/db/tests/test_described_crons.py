"""Crons as workers describe them for others, and jobs of them that operators ask for."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text, update

from app_db import Database, Session
from app_db.clock import database_time
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import crons
from app_db.jobs.crons import CronDescription, CronNotFound, CronNotServed
from app_db.jobs.outbox import enqueue
from app_db.models import JobCron
from app_db.repositories.job_views import CronOverview
from app_db.repositories.jobs import JobRepository
from app_db.types import new_id

NAME = "sessions.prune"


async def describe(database: Database, now: datetime | None = None, **changes: str | None) -> CronDescription:
    """Describe a cron as a worker does that has it."""
    about = {"expression": "0 3 * * *", "timezone": "Europe/Berlin", "queue": "retention", "kind": NAME, **changes}
    description = CronDescription(NAME, **about, next_ticks=[now] if now else [])  # type: ignore[arg-type]  # no None
    async with database.sessions.begin() as session:
        await crons.cron_states(session, [NAME])
    async with database.sessions.begin() as session:
        await crons.describe_crons(session, [description])
    return description


async def state_of(database: Database) -> crons.CronState:
    async with database.sessions.begin() as session:
        return (await crons.cron_states(session, [NAME]))[NAME]


async def shown(session: Session) -> CronOverview:
    return (await JobRepository(session).crons())[0]


async def test_a_cron_is_shown_as_its_worker_describes_it(database: Database, session: Session) -> None:
    now = await database_time(session)

    await describe(database, now)

    cron = await shown(session)
    assert (cron.name, cron.expression, cron.timezone, cron.queue) == (NAME, "0 3 * * *", "Europe/Berlin", "retention")
    assert (cron.kind, cron.next_ticks, cron.is_served) == (NAME, [now], True)
    assert (cron.last_job_id, cron.run_requested_at) == (None, None)


async def test_a_cron_of_a_release_that_said_nothing_is_shown_too(database: Database, session: Session) -> None:
    async with database.sessions.begin() as other:
        await crons.cron_states(other, [NAME])

    cron = await shown(session)

    assert (cron.expression, cron.next_ticks, cron.seen_at, cron.is_served) == (None, [], None, False)


async def test_a_kind_that_a_worker_does_not_know_yet_stays_as_it_is(database: Database, session: Session) -> None:
    await describe(database)

    await describe(database, kind=None)

    assert (await shown(session)).kind == NAME


async def test_a_cron_is_described_again_when_it_has_changed_or_was_not_seen_for_a_minute(database: Database) -> None:
    await describe(database)
    described = await state_of(database)
    async with database.sessions.begin() as session:
        await session.execute(update(JobCron).values(seen_at=JobCron.seen_at - timedelta(minutes=2)))
    terms = ("0 3 * * *", "Europe/Berlin", "retention")

    assert described.is_described(*terms)
    assert not described.is_described("0 4 * * *", *terms[1:])
    assert not (await state_of(database)).is_described(*terms)


async def test_describing_does_not_wait_for_a_worker_that_has_the_row(database: Database, session: Session) -> None:
    """A worker that freezes with a tick would keep all others from their other crons."""
    await describe(database)
    await session.execute(text("SELECT FROM job_crons FOR NO KEY UPDATE"))

    await asyncio.wait_for(describe(database, expression="0 4 * * *"), 20)

    assert (await shown(session)).expression == "0 3 * * *"


async def test_postgres_ends_the_transaction_of_a_worker_that_freezes_with_a_description(
    database: Database, session: Session
) -> None:
    description = await describe(database)

    await crons.describe_crons(session, [description])

    assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "5s"


@pytest.mark.parametrize("by_hand", [True, False])
async def test_postgres_ends_the_transaction_of_a_process_that_freezes_with_a_run(
    database: Database, session: Session, *, by_hand: bool
) -> None:
    await describe(database)
    await crons.request_run(session, NAME)
    await session.commit()
    requested_at = (await state_of(database)).run_requested_at
    assert requested_at is not None

    await (crons.hold_cron(session, NAME) if by_hand else crons.take_request(session, NAME, requested_at=requested_at))

    assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "5s"


async def test_a_run_that_is_requested_twice_is_one_request(database: Database, session: Session) -> None:
    await describe(database)

    await crons.request_run(session, NAME)
    await session.commit()
    first = (await state_of(database)).run_requested_at
    await crons.request_run(session, NAME)
    await session.commit()

    assert first is not None
    assert (await state_of(database)).run_requested_at == first


async def test_one_of_many_workers_takes_a_request(database: Database, session: Session) -> None:
    await describe(database)
    await crons.request_run(session, NAME)
    await session.commit()
    requested_at = (await state_of(database)).run_requested_at
    assert requested_at is not None

    async def take() -> bool:
        async with database.sessions.begin() as other:
            return await crons.take_request(other, NAME, requested_at=requested_at)

    assert (await asyncio.gather(*(take() for _ in range(5)))).count(True) == 1
    assert (await state_of(database)).run_requested_at is None


async def test_a_run_of_a_cron_that_no_worker_has_is_refused(database: Database, session: Session) -> None:
    await describe(database)
    await session.execute(update(JobCron).values(seen_at=JobCron.seen_at - crons.UNSEEN))

    with pytest.raises(CronNotServed):
        await crons.request_run(session, NAME)
    with pytest.raises(CronNotFound):
        await crons.request_run(session, "misspelt")


async def test_the_newest_job_of_a_cron_is_on_record(database: Database, session: Session) -> None:
    await describe(database, kind=None)
    job_id = await enqueue(session, PruneSessions())

    assert await crons.note_job(session, NAME, job_id, kind=NAME, queue="default") is None

    cron = await shown(session)
    assert (cron.last_job_id, cron.kind) == (job_id, NAME)


async def test_a_job_that_is_gone_is_no_open_job(database: Database, session: Session) -> None:
    await describe(database)

    assert await crons.note_job(session, NAME, new_id(), kind=NAME, queue="default") is None


async def test_the_list_of_crons_is_read_in_the_order_of_its_key(database: Database, session: Session) -> None:
    """A product may name crons by what it serves, and the rows of removed ones stay."""
    await session.execute(
        text("INSERT INTO job_crons SELECT 'cron-' || lpad(n::text, 5, '0'), now() FROM generate_series(1, 5000) AS n")
    )
    await session.execute(text("ANALYZE job_crons"))

    found = await JobRepository(session).crons()

    assert len(found) == 1000
    plan = "\n".join(await session.scalars(text("EXPLAIN SELECT * FROM job_crons ORDER BY name LIMIT 1000")))
    assert "pk_job_crons" in plan
    assert "Sort" not in plan
