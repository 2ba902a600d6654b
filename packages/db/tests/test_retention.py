"""How long jobs are kept after their end."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text

from app_db import Database, Session
from app_db.jobs.retention import RETENTION, forget_workers, prune
from app_db.models import Job, JobError, JobState, JobWorker
from app_db.types import new_id, utcnow

KINDS: Mapping[str, timedelta] = {"test.audit": timedelta(days=7), "test.tick": timedelta(minutes=5)}
FILL = text("""
    INSERT INTO jobs (id, kind, payload, payload_version, state, finished_at)
    SELECT uuidv7(), :kind, '{}', 1, :state, now() - :ended_ago - number * interval '1 ms'
    FROM generate_series(1, :count) AS number
""").bindparams(ended_ago=timedelta(0), state=JobState.COMPLETED.value, kind="test.note")


async def add_job(
    session: Session, *, state: JobState, ended_ago: timedelta | None = None, kind: str = "test.note"
) -> UUID:
    job = Job(kind=kind, payload={}, payload_version=1, state=state)
    job.id, job.finished_at = new_id(), None if ended_ago is None else utcnow() - ended_ago
    session.add(job)
    await session.commit()
    return job.id


async def jobs_left(session: Session) -> set[UUID]:
    return set(await session.scalars(select(Job.id)))


@pytest.mark.parametrize(
    ("state", "hours"), [(JobState.COMPLETED, 24), (JobState.CANCELLED, 24), (JobState.DISCARDED, 14 * 24)]
)
async def test_a_job_is_kept_for_a_time_after_its_end(session: Session, state: JobState, hours: int) -> None:
    await add_job(session, state=state, ended_ago=timedelta(hours=hours, minutes=1))
    recent = await add_job(session, state=state, ended_ago=timedelta(hours=hours, minutes=-1))

    pruned = await prune(session, kinds={})

    assert (pruned, await jobs_left(session)) == (1, {recent})


@pytest.mark.parametrize("state", [state for state in JobState if state not in RETENTION])
async def test_a_job_that_is_still_to_run_is_kept_for_ever(session: Session, state: JobState) -> None:
    job_id = await add_job(session, state=state)

    await prune(session, keep=dict.fromkeys(JobState, timedelta(0)), kinds={"test.note": timedelta(0)})

    assert await jobs_left(session) == {job_id}


async def test_a_state_without_a_limit_is_kept_for_ever(session: Session) -> None:
    job_id = await add_job(session, state=JobState.DISCARDED, ended_ago=timedelta(days=10_000))

    await prune(session, keep={JobState.COMPLETED: timedelta(0)}, kinds={})

    assert await jobs_left(session) == {job_id}


@pytest.mark.parametrize(("kind", "keep"), KINDS.items())
async def test_a_kind_may_be_kept_for_a_time_of_its_own(session: Session, kind: str, keep: timedelta) -> None:
    minute = timedelta(minutes=1)
    await add_job(session, kind=kind, state=JobState.COMPLETED, ended_ago=keep + minute)
    recent = await add_job(session, kind=kind, state=JobState.COMPLETED, ended_ago=keep - minute)

    await prune(session, kinds=KINDS)

    assert await jobs_left(session) == {recent}


async def test_what_a_kind_says_is_about_completed_jobs(session: Session) -> None:
    discarded = await add_job(session, kind="test.tick", state=JobState.DISCARDED, ended_ago=timedelta(hours=1))
    await add_job(session, kind="test.audit", state=JobState.CANCELLED, ended_ago=timedelta(days=2))

    await prune(session, kinds=KINDS)

    assert await jobs_left(session) == {discarded}


async def test_pruning_finds_every_kind_and_state_that_there_is(session: Session) -> None:
    for state in RETENTION:
        for kind in ("test.a", "test.b", "test.c"):
            await add_job(session, kind=kind, state=state, ended_ago=timedelta(days=30))

    assert await prune(session, kinds=KINDS) == 9


async def test_nothing_to_prune_is_nothing_pruned(session: Session) -> None:
    assert await prune(session, kinds=KINDS) == 0


async def test_a_batch_takes_the_oldest_up_to_its_limit(session: Session) -> None:
    middle, oldest, newest = [
        await add_job(session, state=JobState.COMPLETED, ended_ago=timedelta(days=days)) for days in (3, 4, 2)
    ]

    pruned = await prune(session, kinds={}, limit=2)

    assert (pruned, await jobs_left(session)) == (2, {newest})
    assert {middle, oldest}.isdisjoint(await jobs_left(session))


async def test_the_limit_of_a_batch_is_over_all_kinds_and_states(session: Session) -> None:
    for state in RETENTION:
        await add_job(session, state=state, ended_ago=timedelta(days=30))

    assert await prune(session, kinds={}, limit=2) == 2


async def test_a_pruned_job_takes_its_errors_along(session: Session) -> None:
    job_id = await add_job(session, state=JobState.DISCARDED, ended_ago=timedelta(days=15))
    await session.execute(insert(JobError).values(job_id=job_id, attempt=1, error="ValueError"))

    await prune(session, kinds={})

    assert list(await session.scalars(select(JobError.id))) == []


async def test_a_job_that_somebody_has_locked_is_left_for_the_next_time(database: Database, session: Session) -> None:
    locked = await add_job(session, state=JobState.COMPLETED, ended_ago=timedelta(days=4))
    await add_job(session, state=JobState.COMPLETED, ended_ago=timedelta(days=3))
    async with database.sessions.begin() as other:
        await other.execute(select(Job.id).where(Job.id == locked).with_for_update())

        pruned = await prune(session, kinds={})

    assert (pruned, await jobs_left(session)) == (1, {locked})


async def rows_read(session: Session) -> tuple[int, int]:
    """Return how many rows of jobs this connection has read: over the whole table, and by an index."""
    counts = text("SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
    row = (await session.execute(counts)).one()
    return row.seq_tup_read, row.idx_tup_fetch


async def test_pruning_does_not_read_what_stays(session: Session) -> None:
    await session.execute(FILL, {"kind": "test.audit", "ended_ago": timedelta(days=2), "count": 20_000})
    await session.execute(FILL, {"kind": "test.note", "ended_ago": timedelta(hours=1), "count": 20_000})
    await session.execute(FILL, {"kind": "test.zero", "ended_ago": timedelta(days=2), "count": 200})
    await session.execute(text("ANALYZE jobs"))
    whole_before, index_before = await rows_read(session)

    pruned = await prune(session, kinds=KINDS, limit=100)

    whole, index = await rows_read(session)
    assert (pruned, whole - whole_before) == (100, 0)
    assert index - index_before < 1000


async def test_a_worker_that_was_killed_is_off_the_list_after_an_hour(session: Session) -> None:
    dead, silent, living = new_id(), new_id(), new_id()
    for worker_id, minutes in ((dead, 61), (silent, 59), (living, 0)):
        beat_at = utcnow() - timedelta(minutes=minutes)
        session.add(JobWorker(id=worker_id, host="box", pid=1, queues=["default"], concurrency=1, beat_at=beat_at))
    await session.flush()

    await forget_workers(session)

    assert set(await session.scalars(select(JobWorker.id))) == {silent, living}
