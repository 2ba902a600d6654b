"""What ended is counted in the minute in which it ended: once, whoever counts and whatever is killed."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app_db import Database
from app_db.features.figures.figures import Figures
from app_db.features.figures.models import JobFigures, Span
from app_db.features.figures.payloads import CountMinutes
from app_db.features.figures.repository import AT_ONCE, LONGEST_TRANSACTION, FigureRepository, hour_of
from app_db.jobs.control import retry
from app_db.models import AuditEvent, Job, JobError, JobState
from app_db.testing.queries import assert_queries
from app_db.types import first_id_at, new_id, utcnow

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def job(
    state: JobState, *, ended: datetime, kind: str = "mail", ran: timedelta = timedelta(0), **columns: Any
) -> Job:  # Any: columns
    times = {"finished_at": ended, "started_at": ended - ran}
    return Job(id=new_id(), kind=kind, payload={}, payload_version=1, state=state, **times, **columns)


async def count_all(database: Database, now: datetime | None = None) -> int:
    total, count = 0, 1
    while count:
        async with database.unit_of_work() as session:
            count = await FigureRepository(session).count(now)
        total += count
    return total


async def counted(database: Database, span: Span = Span.MINUTE) -> list[Figures]:
    async with database.unit_of_work(read_only=True) as session:
        return list(await FigureRepository(session).within(span, timedelta(days=20)))


def totals(figures: list[Figures]) -> Counter[tuple[str, str]]:
    return Counter({key: ended.count for key, ended in Figures.sum(utcnow(), figures).ended.items()})


async def test_jobs_are_counted_by_kind_and_outcome_in_the_minute_of_their_end(database: Database) -> None:
    ended = utcnow().replace(second=5) - 7 * MINUTE
    async with database.unit_of_work() as session:
        session.add_all([job(JobState.COMPLETED, ended=ended, ran=timedelta(seconds=0.7)) for _ in range(3)])
        session.add(job(JobState.COMPLETED, ended=ended + MINUTE, kind="sums"))
        session.add_all([job(JobState.DISCARDED, ended=ended), job(JobState.CANCELLED, ended=ended)])
        session.add(job(JobState.COMPLETED, ended=ended, kind=CountMinutes.kind))

    minutes = await count_all(database)

    figures = {each.began_at: each for each in await counted(database)}
    assert minutes == len(figures) >= 59
    of_minute = figures[ended.replace(second=0, microsecond=0)]
    assert {key: value.count for key, value in of_minute.ended.items()} == {
        ("mail", "completed"): 3, ("mail", "discarded"): 1, ("mail", "cancelled"): 1,
    }  # fmt: skip
    assert of_minute.ended["mail", "completed"].quantile(0.5) == pytest.approx(0.75)
    untimed = figures[(ended + MINUTE).replace(second=0, microsecond=0)].ended["sums", "completed"]
    assert untimed.quantile(0.5) is None


async def test_an_attempt_that_failed_is_counted_unless_it_ended_its_job(database: Database) -> None:
    ended = utcnow().replace(second=5) - 7 * MINUTE
    async with database.unit_of_work() as session:
        gone = job(JobState.DISCARDED, ended=ended, attempt=2)
        session.add(gone)
        await session.flush()
        for attempt in (1, 2):
            session.add(
                JobError(id=first_id_at(utcnow()), job_id=gone.id, attempt=attempt, failed_at=ended, error="no")
            )
            await session.flush()

    await count_all(database)

    assert totals(await counted(database)) == {("mail", "failed"): 1, ("mail", "discarded"): 1}


async def test_a_job_that_was_retried_before_it_was_counted_has_failed_an_attempt(database: Database) -> None:
    ended = utcnow().replace(second=5) - 7 * MINUTE
    async with database.unit_of_work() as session:
        gone = job(JobState.DISCARDED, ended=ended, attempt=1)
        session.add(gone)
        await session.flush()
        session.add(JobError(job_id=gone.id, attempt=1, failed_at=ended, error="no"))
        await session.flush()
        await retry(session, gone.id)

    await count_all(database)

    assert totals(await counted(database)) == {("mail", "failed"): 1}


async def test_events_of_the_audit_and_what_waits_are_counted(database: Database) -> None:
    async with database.unit_of_work() as session:
        ended = utcnow() - 7 * MINUTE
        session.add_all([AuditEvent(event="signed_in", happened_at=ended) for _ in range(2)])
        waiting = {"kind": "mail", "payload": {}, "payload_version": 1, "state": JobState.AVAILABLE}
        session.add(Job(id=new_id(), claim_at=func.now(), queue="slow", **waiting))

    await count_all(database)

    total = Figures.sum(utcnow(), await counted(database))
    assert total.events == {"signed_in": 2}
    assert total.queues == {"slow": 1}


async def test_what_waits_now_is_no_figure_of_an_hour_ago(database: Database) -> None:
    waiting = {"kind": "mail", "payload": {}, "payload_version": 1, "state": JobState.AVAILABLE}
    async with database.unit_of_work() as session:
        session.add(Job(id=new_id(), claim_at=func.now(), queue="slow", **waiting))

    await count_all(database)

    figures = await counted(database)
    newest, looked_at = max(each.began_at for each in figures), [each.began_at for each in figures if each.queues]
    assert looked_at[-1] == newest
    assert looked_at[0] >= newest - MINUTE  # one more, if a minute ended meanwhile


async def test_a_minute_is_counted_once_by_many(database: Database) -> None:
    """Several count at once, some are killed before their commit, and jobs keep ending."""
    random, wanted = Random(7), Counter[tuple[str, str]]()  # no secret
    states = [JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED]
    now = utcnow()

    async def count() -> None:
        async with database.sessions() as session:
            await FigureRepository(session).count(now)
            await asyncio.sleep(random.random() / 50)
            await (session.rollback() if random.random() < 0.4 else session.commit())

    async with database.unit_of_work() as session:
        for _ in range(300):
            ended, state = now - timedelta(seconds=random.uniform(90, 3500)), random.choice(states)
            session.add(job(state, ended=ended, kind=random.choice(["a", "b"])))
    for _ in range(12):
        await asyncio.gather(*(count() for _ in range(4)))
    await count_all(database, now)

    async with database.unit_of_work(read_only=True) as session:
        for row in await session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)):
            wanted[row[0], row[1]] = row[2]
        assert (
            await session.scalars(select(func.count()).select_from(JobFigures).where(JobFigures.span == Span.MINUTE))
        ).one() <= 61
    assert totals(await counted(database)) == wanted


async def test_a_minute_is_over_when_no_transaction_that_began_in_it_is_open(database: Database) -> None:
    later = utcnow() + 5 * MINUTE
    async with database.sessions() as late:
        late.add(job(JobState.COMPLETED, ended=utcnow()))
        await late.flush()
        await count_all(database, later)
        before = await counted(database)
        await late.commit()

    await count_all(database, later)

    assert max(each.began_at for each in before) < utcnow()
    assert totals(before) == {}
    assert totals(await counted(database)) == {("mail", "completed"): 1}


async def test_no_transaction_keeps_figures_waiting_for_ever(database: Database) -> None:
    later = utcnow() + LONGEST_TRANSACTION + 5 * MINUTE
    async with database.sessions() as late:
        late.add(job(JobState.COMPLETED, ended=utcnow()))
        await late.flush()

        await count_all(database, later)

        assert max(each.began_at for each in await counted(database)) > utcnow() + 2 * MINUTE


async def test_minutes_are_added_up_to_hours_and_deleted_by_age(database: Database) -> None:
    hour = hour_of(utcnow())
    async with database.unit_of_work() as session:
        session.add_all([job(JobState.COMPLETED, ended=hour + number * MINUTE) for number in (5, 6, 59)])
    await count_all(database, hour + 30 * MINUTE)
    await count_all(database, hour + 3 * HOUR)

    hours = await counted(database, Span.HOUR)

    assert totals(hours) == {("mail", "completed"): 3}
    assert {each.began_at for each in hours} >= {hour, hour + HOUR}
    await count_all(database, hour + 29 * HOUR)
    assert min(each.began_at for each in await counted(database)) > hour + HOUR
    assert totals(await counted(database, Span.HOUR)) == {("mail", "completed"): 3}
    await count_all(database, hour + timedelta(days=15))
    assert totals(await counted(database, Span.HOUR)) == {}


async def test_figures_of_a_clock_that_was_ahead_are_counted_again(database: Database) -> None:
    ahead = utcnow() + HOUR
    await count_all(database, ahead)

    await count_all(database)

    assert max(each.began_at for each in await counted(database)) < utcnow()


async def test_one_call_counts_a_few_minutes_with_a_few_index_ranges(database: Database) -> None:
    read = text("SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
    for _ in range(6):  # so that no transaction takes long on a busy machine
        async with database.unit_of_work() as session:
            session.add_all([job(JobState.COMPLETED, ended=utcnow() - 10 * HOUR) for _ in range(500)])
    async with database.unit_of_work() as session:
        await session.execute(text("ANALYZE jobs"))

    # The first call begins an hour before, at half past, so no hour ends among its minutes.
    half_past = hour_of(utcnow()) - HOUR / 2
    async with database.unit_of_work() as session:
        before = (await session.execute(read)).one()
        with assert_queries(database, max=9):
            assert await FigureRepository(session).count(half_past) == AT_ONCE
        after = (await session.execute(read)).one()

    assert after.seq_tup_read == before.seq_tup_read
    assert after.idx_tup_fetch < before.idx_tup_fetch + 100
