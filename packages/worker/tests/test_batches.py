"""Batches and chains with real runners: each job once, and the last jobs once, whoever ends the others."""

import asyncio
import random
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from structlog.testing import capture_logs

from app_db import Database, open_database
from app_db.errors import NotFound
from app_db.jobs import control
from app_db.jobs.after_commit import ON_COMMIT
from app_db.jobs.batch_ends import cancel_batch, retry_batch, settle_all
from app_db.jobs.batches import NotInBatch, add_to_batch, enqueue_batch, enqueue_chain
from app_db.jobs.ledger import Delivery
from app_db.models import JobBatch
from app_db.repositories.job_batches import BatchState, JobBatchRepository
from app_db.types import new_id
from app_worker.batches import Batches
from app_worker.context import Discard, JobContext
from app_worker.registry import Handler, Mode, handles
from app_worker.testing import drain, inline

from .conftest import Jobs, MakeRunner, Note

THEN = Note(text="then")
ON_FAILURE = Note(text="on failure")


def noting(ran: list[str], *, mode: Mode = Mode.TX, fails: tuple[str, ...] = ()) -> Handler:
    """Return a handler that notes the texts of its jobs; some of them can never succeed."""

    @handles(Note, mode=mode)
    async def works(job: JobContext, payload: Note) -> None:
        if payload.text in fails:
            raise Discard(payload.text)
        ran.append(payload.text)

    return works


async def batch_of(database: Database, batch_id: UUID) -> JobBatch:
    async with database.sessions() as session:
        return (await session.scalars(select(JobBatch).where(JobBatch.id == batch_id))).one()


def notes(*texts: object) -> list[Note]:
    return [Note(text=str(text)) for text in texts]


@pytest.mark.parametrize("mode", Mode)
async def test_the_last_job_of_a_batch_is_enqueued_when_all_have_completed(database: Database, mode: Mode) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1, 2, 3), then=THEN, on_failure=ON_FAILURE)

    await drain(database, handlers=[noting(ran, mode=mode)])

    assert sorted(ran[:3]) == ["1", "2", "3"]
    assert ran[3:] == ["then"]
    batch = await batch_of(database, batch_id)
    assert (batch.total, batch.completed, batch.discarded, batch.cancelled) == (3, 3, 0, 0)
    assert batch.ended_at is not None


@pytest.mark.parametrize("mode", Mode)
async def test_a_worker_adds_up_the_end_of_a_job_at_once(
    database: Database, jobs: Jobs, make_runner: MakeRunner, mode: Mode
) -> None:
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1))
        job_id = (await session.scalars(text("SELECT id FROM jobs"))).one()

    await make_runner(noting([], mode=mode)).run(await jobs.dispatch(job_id))

    assert (await batch_of(database, batch_id)).ended_at is not None


async def test_a_batch_with_a_failed_job_waits_for_its_retry(database: Database) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1, 2), then=THEN, on_failure=ON_FAILURE)
    await drain(database, handlers=[noting(ran, fails=("2",))], keep_failures=True)
    assert ran == ["1", "on failure"]
    assert (await batch_of(database, batch_id)).discarded == 1

    async with database.unit_of_work() as session:
        assert await retry_batch(session, batch_id) == 1
    await drain(database, handlers=[noting(ran)])

    assert ran == ["1", "on failure", "2", "then"]
    batch = await batch_of(database, batch_id)
    assert (batch.completed, batch.discarded) == (2, 0)


@pytest.mark.parametrize("mode", Mode)
async def test_the_jobs_of_a_chain_run_in_their_order(database: Database, mode: Mode) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batch_id = await enqueue_chain(session, *notes(1, 2, 3), on_failure=ON_FAILURE)

    await drain(database, handlers=[noting(ran, mode=mode)])

    assert ran == ["1", "2", "3"]
    assert (await batch_of(database, batch_id)).ended_at is not None


async def test_a_chain_ends_with_the_job_that_fails_and_goes_on_when_it_is_retried(database: Database) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batch_id = await enqueue_chain(session, *notes(1, 2, 3), on_failure=ON_FAILURE)
    await drain(database, handlers=[noting(ran, fails=("2",))], keep_failures=True)
    assert ran == ["1", "on failure"]
    batch = await batch_of(database, batch_id)
    assert batch.ended_at is not None
    assert batch.failed_id is not None

    async with database.unit_of_work() as session:
        await control.retry(session, batch.failed_id)
    await drain(database, handlers=[noting(ran)])

    assert ran == ["1", "on failure", "2", "3"]
    assert (await batch_of(database, batch_id)).completed == 3


async def test_a_job_of_a_chain_that_completes_twice_goes_on_once(database: Database) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        await enqueue_chain(session, *notes(1, 2))
    await drain(database, handlers=[noting(ran)])
    async with database.unit_of_work() as session:
        first = await session.scalar(text("SELECT id FROM jobs ORDER BY id LIMIT 1"))
        await control.retry(session, first)

    await drain(database, handlers=[noting(ran)])

    assert ran == ["1", "2", "1"]


async def test_a_batch_without_jobs_has_completed(database: Database) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, [], then=THEN)

    await drain(database, handlers=[noting(ran)])

    assert ran == ["then"]
    assert (await batch_of(database, batch_id)).ended_at is not None


async def test_what_is_rolled_back_leaves_no_batch(database: Database) -> None:
    async with database.sessions() as session:
        await enqueue_batch(session, notes(1), then=THEN)
        await enqueue_chain(session, *notes(1, 2))
        await session.rollback()
    async with database.sessions() as session:
        for table in ("jobs", "job_batches", "job_links", "job_batch_changes"):
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 0


@pytest.mark.parametrize("mode", Mode)
async def test_a_member_adds_jobs_before_the_batch_ends(database: Database, mode: Mode) -> None:
    ran: list[str] = []

    @handles(Note, mode=mode)
    async def grows(job: JobContext, payload: Note) -> None:
        ran.append(payload.text)
        if payload.text != "0":
            more = notes(int(payload.text) - 1) if payload.text.isdigit() else []
            if job.tx_session is not None:
                await (add_to_batch(job.tx_session, job.delivery, more) if more else asyncio.sleep(0))
            elif more:
                async with job.transaction() as session:
                    await add_to_batch(session, job.delivery, more)

    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(3), then=THEN)

    await drain(database, handlers=[grows])

    assert ran == ["3", "2", "1", "0", "then"]
    assert (await batch_of(database, batch_id)).total == 4


async def test_only_a_running_member_adds_jobs_to_its_batch(database: Database) -> None:
    async with database.unit_of_work() as session:
        await enqueue_batch(session, notes(1))
        member = await session.scalar(text("SELECT id FROM jobs"))

    async with database.unit_of_work() as session:
        with pytest.raises(NotInBatch):
            await add_to_batch(session, Delivery(member, 0), notes(2))


async def test_a_cancelled_batch_ends_with_what_it_would_have_got(database: Database) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1, 2), then=THEN, on_failure=ON_FAILURE)
        chain_id = await enqueue_chain(session, *notes(1, 2))
        await cancel_batch(session, batch_id)
        await cancel_batch(session, chain_id)

    await drain(database, handlers=[noting(ran)])

    assert ran == ["on failure"]
    batch = await batch_of(database, batch_id)
    assert (batch.cancelled, batch.ended_at is None) == (2, False)


async def test_a_link_that_starts_while_its_chain_is_cancelled_is_cancelled_too(
    database: Database, jobs: Jobs, make_runner: MakeRunner
) -> None:
    ran: list[str] = []

    @handles(Note)
    async def is_cancelled_meanwhile(job: JobContext, payload: Note) -> None:
        ran.append(payload.text)
        async with database.unit_of_work() as session:
            await cancel_batch(session, chain_id)

    async with database.unit_of_work() as session:
        chain_id = await enqueue_chain(session, *notes(1, 2))
        first = await session.scalar(text("SELECT id FROM jobs"))
    await make_runner(is_cancelled_meanwhile).run(await jobs.dispatch(first))

    async with database.unit_of_work() as session:
        await settle_all(session)

    await drain(database, handlers=[noting(ran)])
    assert ran == ["1"]
    assert (await batch_of(database, chain_id)).cancelled == 1


async def test_workers_that_end_jobs_at_once_count_each_of_them_once(
    database: Database, jobs: Jobs, make_runner: MakeRunner
) -> None:
    ran: list[str] = []
    async with database.unit_of_work() as session:
        batches = [await enqueue_batch(session, notes(*range(20)), then=THEN) for _ in range(3)]
        ids = list((await session.scalars(text("SELECT id FROM jobs"))).all())
    random.shuffle(ids)
    deliveries = [await jobs.dispatch(job_id) for job_id in ids]
    runners = [make_runner(noting(ran, mode=mode)) for mode in (*Mode, *Mode)]

    await asyncio.gather(*(runners[n % 4].run(delivery) for n, delivery in enumerate(deliveries)))
    await drain(database, handlers=[noting(ran)])

    assert ran.count("then") == 3
    assert [(await batch_of(database, each)).completed for each in batches] == [20, 20, 20]


async def test_a_drain_adds_up_what_nobody_has(database: Database) -> None:
    async with database.unit_of_work() as session:
        await enqueue_batch(session, notes(1, 2), then=THEN)
    async with database.unit_of_work() as session:  # as by a worker that dies after its commit
        await session.execute(text("UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now()"))

    ran: list[str] = []
    await drain(database, handlers=[noting(ran)])

    assert ran == ["then"]


async def test_a_job_that_somebody_deletes_counts_as_cancelled(database: Database) -> None:
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1))
    async with database.unit_of_work() as session:
        await session.execute(text("DELETE FROM jobs"))
        await settle_all(session)

    batch = await batch_of(database, batch_id)
    assert (batch.cancelled, batch.ended_at is None, batch.completed) == (1, False, 0)


@pytest.mark.parametrize("mode", Mode)
async def test_batches_and_chains_run_inline(database: Database, mode: Mode) -> None:
    ran: list[str] = []
    with inline(database, handlers=[noting(ran, mode=mode)]):
        async with database.unit_of_work() as session:
            await enqueue_batch(session, notes(1, 2), then=THEN)
            await enqueue_chain(session, *notes("a", "b", "c"))

    assert ran == ["1", "2", "then", "a", "b", "c"]


async def test_a_chain_of_nothing_is_refused(database: Database) -> None:
    async with database.unit_of_work() as session:
        with pytest.raises(ValueError, match="at least one job"):
            await enqueue_chain(session)


async def test_the_next_job_of_a_chain_starts_at_once(database: Database, jobs: Jobs, make_runner: MakeRunner) -> None:
    heard: list[object] = []
    async with database.unit_of_work() as session:
        await enqueue_chain(session, *notes(1, 2))
        first = await session.scalar(text("SELECT id FROM jobs"))
    await make_runner(noting([])).run(await jobs.dispatch(first))  # which adds it up, too

    async with database.sessions() as session:
        await session.execute(text("INSERT INTO job_batch_changes (batch_id) SELECT id FROM job_batches"))
        session.info[ON_COMMIT] = heard.append
        await settle_all(session)
        await session.commit()

    assert len(heard) == 1


async def test_a_batch_that_is_not_there_cannot_be_cancelled_and_one_that_has_ended_stays(database: Database) -> None:
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1))
    await drain(database, handlers=[noting([])])

    async with database.unit_of_work() as session:
        await cancel_batch(session, batch_id)
        with pytest.raises(NotFound):
            await cancel_batch(session, new_id())

    async with database.unit_of_work(read_only=True) as session:
        shown = await JobBatchRepository(session).get(batch_id, owner_id=None)
    assert shown is not None
    assert (shown.state, shown.completed, shown.cancelled) == (BatchState.COMPLETED, 1, 0)


async def test_what_cannot_be_added_up_now_is_no_error(database: Database) -> None:
    gone = database.settings.model_copy(update={"url": SecretStr("postgresql://nobody@127.0.0.1:1/gone")})
    with capture_logs() as logs:
        async with open_database(gone, name="worker") as unreachable:
            await Batches(unreachable).note_end(new_id())

    assert [event["event"] for event in logs] == ["batch_not_settled"]
