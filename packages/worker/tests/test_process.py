"""One worker process, from its start to a graceful stop."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app_db.features.jobs.payloads import ActOnJobs
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import bulk, control
from app_db.jobs.control import Action
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Environment
from app_runtime.discovery import FeatureError
from app_runtime.resources import Resource
from app_worker.context import JobContext
from app_worker.crons import CRONS
from app_worker.delivery_queue import Valkey
from app_worker.handlers import HANDLERS
from app_worker.process import database_settings as worker_database_settings
from app_worker.process import run_worker
from app_worker.registry import Handler, Mode, Registry, handles
from app_worker.relay import POLL
from app_worker.resources import RESOURCES
from app_worker.settings import JobSettings, WorkerSettings
from app_worker.testing import one_time_settings

from .conftest import Jobs, Note, eventually, until
from .proxy import Proxy

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(database_settings: DatabaseSettings, valkey: Valkey, valkey_url: str) -> WorkerSettings:
    return WorkerSettings.model_validate(
        {
            "env": "test",
            "database": database_settings,
            "auth": one_time_settings(),
            "redis": {"url": valkey_url},
            "worker": {"queues": ["default", "slow"], "grace": "PT0S"},
        }
    )


@asynccontextmanager
async def worker(
    settings: WorkerSettings, handlers: Iterable[Handler] = HANDLERS, resources: Mapping[type, Resource] = RESOURCES
) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker in this process during the block; SIGTERM ends it unless it has ended by itself."""
    before = signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(run_worker(settings, handlers=handlers, resources=resources))
    await until(lambda: signal.getsignal(signal.SIGTERM) is not before or task.done())
    try:
        yield task
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait([task])
        signal.signal(signal.SIGTERM, before)


async def test_a_worker_runs_the_jobs_of_its_queues_until_sigterm(jobs: Jobs, settings: WorkerSettings) -> None:
    async with worker(settings) as task:
        for queue in settings.worker.queues:
            await jobs.enqueue(PruneSessions(), queue=queue)

        await eventually(lambda: jobs.scalar("SELECT bool_and(state = 'completed') FROM jobs"))
        assert not task.done()

    assert task.exception() is None


async def test_an_action_on_many_jobs_of_a_paused_queue_does_not_wait_behind_it(
    jobs: Jobs, settings: WorkerSettings
) -> None:
    async with jobs.database.unit_of_work() as session:
        for queue in settings.worker.queues:
            await control.pause(session, queue)
    waiting = await jobs.enqueue(queue="slow")
    async with worker(settings):
        await jobs.enqueue(ActOnJobs(action=Action.CANCEL, queue="slow"), queue=bulk.QUEUE)

        await eventually(lambda: jobs.scalar("SELECT bool_and(state IN ('completed', 'cancelled')) FROM jobs"))

    assert (await jobs.get(waiting)).state is JobState.CANCELLED


async def test_sigterm_gives_back_what_does_not_finish_in_time(jobs: Jobs, settings: WorkerSettings) -> None:
    started = asyncio.Event()

    @handles(Note, mode=Mode.LEASE)
    async def endless(job: JobContext, payload: Note) -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await jobs.enqueue()
    async with worker(settings, [*HANDLERS, endless]) as task:
        await started.wait()

    assert task.exception() is None
    job = await jobs.get(job_id)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)


async def test_leases_are_kept_while_a_worker_drains(jobs: Jobs, settings: WorkerSettings) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    @handles(Note, mode=Mode.LEASE)
    async def slow(job: JobContext, payload: Note) -> None:
        started.set()
        await go.wait()

    patient = settings.model_copy(
        update={"worker": JobSettings(lease=timedelta(seconds=1), grace=timedelta(seconds=30))}
    )
    job_id = await jobs.enqueue()
    async with worker(patient, [*HANDLERS, slow]) as task:
        await started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        before = (await jobs.get(job_id)).claim_at
        await eventually(lambda: jobs.scalar(f"SELECT claim_at > '{before}' FROM jobs"))
        assert not task.done()
        go.set()
        await asyncio.wait([task])

    assert (await jobs.get(job_id)).state is JobState.COMPLETED


@pytest.mark.parametrize("mode", Mode)
async def test_what_a_worker_dies_with_is_due_early_enough_for_the_next_look(
    jobs: Jobs, settings: WorkerSettings, mode: Mode
) -> None:
    started = asyncio.Event()

    @handles(Note, mode=mode)
    async def endless(job: JobContext, payload: Note) -> None:
        started.set()
        await asyncio.Event().wait()

    await jobs.enqueue()
    async with worker(settings, [*HANDLERS, endless]):
        await started.wait()

        due_in = await jobs.scalar("SELECT claim_at - now() FROM jobs")

    assert due_in + POLL < settings.worker.lease


async def test_no_job_starts_with_a_role_that_may_do_anything(jobs: Jobs, settings: WorkerSettings) -> None:
    job_id = await jobs.enqueue(PruneSessions())
    in_production = settings.model_copy(update={"env": Environment.PRODUCTION})
    with capture_logs() as logs:
        async with worker(in_production):
            await until(lambda: any("its role is a superuser" in entry.get("cause", "") for entry in logs))

    job = await jobs.get(job_id)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)


async def test_what_no_loop_expects_ends_the_worker_with_an_error(settings: WorkerSettings) -> None:
    twins = (CRONS[0], CRONS[0])

    with pytest.raises(ValueError, match="share a name"):
        await run_worker(settings, crons=twins)


async def test_a_worker_without_a_handler_for_every_payload_does_not_start(settings: WorkerSettings) -> None:
    with pytest.raises(FeatureError, match="no handler for"):
        await run_worker(settings, handlers=[])


def test_a_worker_has_a_connection_for_each_slot_and_each_loop(settings: WorkerSettings) -> None:
    limits = worker_database_settings(settings, Registry(HANDLERS, catalog=()))

    slots, relays, others = 2 * settings.worker.concurrency, 2, 2
    assert limits.pool_size == slots + relays + others


def test_a_statement_may_take_as_long_as_the_longest_job(settings: WorkerSettings) -> None:
    registry = Registry(HANDLERS, catalog=())

    limits = worker_database_settings(settings, registry)

    assert limits.statement_timeout == registry.longest_timeout >= timedelta(minutes=5)
    assert limits.command_timeout is not None
    assert limits.command_timeout > limits.statement_timeout


def test_two_beats_may_be_missed_before_a_lease_runs_out() -> None:
    settings = JobSettings(lease=timedelta(seconds=15))

    assert 2 * settings.beat < settings.lease


def test_a_worker_that_froze_lets_go_of_a_tx_job_soon_after_its_time(settings: WorkerSettings) -> None:
    registry = Registry(HANDLERS, catalog=())

    limits = worker_database_settings(settings, registry)

    in_tx_mode = [handler.timeout for handler in HANDLERS if handler.mode is Mode.TX]
    assert limits.transaction_timeout == max(in_tx_mode) + timedelta(seconds=5) < registry.longest_timeout


class Vet(list[str]):
    """A client of another service, which collects the texts of notes."""


@handles(Note)
async def call_vet(job: JobContext, payload: Note, vet: Vet) -> None:
    vet.append(payload.text)


async def test_a_worker_opens_what_handlers_ask_for_once(jobs: Jobs, settings: WorkerSettings) -> None:
    """The worker closes it when its last job has ended."""
    events, vet = [], Vet()

    async def resources() -> AsyncIterator[Vet]:
        events.append("opened")
        yield vet
        events.append("closed")

    opened = {**RESOURCES, Vet: Resource(Vet, resources, None, "pets", "pets/resources.py")}
    async with worker(settings, [*HANDLERS, call_vet], opened):
        for name in ("Rex", "Max"):
            await jobs.enqueue(Note(text=name))
        await until(lambda: len(vet) == 2)

    assert sorted(vet) == ["Max", "Rex"]
    assert events == ["opened", "closed"]


async def test_what_was_started_and_did_not_run_is_given_back_when_the_worker_stops(
    jobs: Jobs, settings: WorkerSettings, database_settings: DatabaseSettings
) -> None:
    """The worker never learns that its claim has started the job: the connection is lost before the reply comes."""
    ran: list[UUID] = []

    @handles(Note, mode=Mode.LEASE)
    async def note(job: JobContext, payload: Note) -> None:
        ran.append(job.id)

    async with Proxy(database_settings.url.get_secret_value()) as proxy:
        through = {
            "database": DatabaseSettings.model_validate({"url": proxy.url}),
            "worker": JobSettings(grace=timedelta(0)),
        }
        async with worker(settings.model_copy(update=through), [*HANDLERS, note]) as task:
            first = await jobs.enqueue()
            await eventually(lambda: jobs.scalar("SELECT count(*) = 1 FROM jobs WHERE state = 'completed'"))
            proxy.cut_at = proxy.hold_at = Note.kind.encode()  # a claim names the kinds that it may start
            await proxy.held.wait()
            last, proxy.hold_at = await jobs.enqueue(), None
            proxy.may_pass.set()
            await eventually(lambda: jobs.scalar(f"SELECT state = 'executing' FROM jobs WHERE id = '{last}'"))

    job = await jobs.get(last)
    assert (task.exception(), ran) == (None, [first])
    assert (job.state, job.attempt, job.crashes) == (JobState.AVAILABLE, 0, 0)
