"""One worker process: engines, relays, heartbeat and schedule, from start to a graceful stop."""

import asyncio
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from app_db import Database, open_database
from app_db.jobs import ledger
from app_db.jobs.catalog import CATALOG
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.engine import Engine, Valkey, connect
from app_worker.handlers import HANDLERS
from app_worker.mail import Mails, open_mailer
from app_worker.registry import Handler, Registry
from app_worker.relay import Relay
from app_worker.runner import Runner
from app_worker.schedule import run_schedule
from app_worker.settings import JobSettings, WorkerSettings

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def keep_leases(database: Database, runner: Runner, *, beat: timedelta) -> None:
    """Renew the leases of all running jobs in one statement per beat; cancel those that are no longer ours."""
    while True:
        await asyncio.sleep(beat.total_seconds())
        held = dict(runner.held)
        if not held:
            continue
        try:
            async with database.sessions.begin() as session:
                still_held = await ledger.extend(session, list(held), lease=runner.lease)
        except Exception as error:  # an outage: two beats may be missed before the lease runs out
            log.warning("beat_failed", cause=repr(error))
            continue
        for delivery, task in held.items():
            if delivery not in still_held and delivery in runner.held:
                log.warning("job_lost", job_id=str(delivery.id), fence=delivery.fence)
                task.cancel()  # guard: test_a_job_that_was_lost_is_cancelled


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue in this process: who fetches its jobs and who runs them."""

    relay: Relay
    engine: Engine


def open_queue(name: str, *, database: Database, runner: Runner, valkey: Valkey, settings: JobSettings) -> Queue:
    """Tie an engine and a relay together: each job that ends makes room for another."""

    def slot_freed() -> None:
        relay.slot_freed()

    # arq's own limit must never strike first: it knows nothing of the ledger.
    timeout = runner.registry.longest_timeout + settings.lease
    engine = Engine(
        valkey,
        name,
        slots=settings.concurrency,
        timeout=timeout,
        run=runner.run,
        slot_freed=slot_freed,
    )
    relay = Relay(database, engine, settings.lease)
    return Queue(relay, engine)


def database_settings(settings: WorkerSettings, registry: Registry) -> DatabaseSettings:
    """Return the limits of a worker: handlers may take as long as they declare, and each slot has its connection."""
    longest = registry.longest_timeout
    return settings.database.model_copy(
        update={
            # Of each queue one for the relay; two for heartbeat and schedule.
            "pool_size": (settings.worker.concurrency + 1) * len(settings.worker.queues) + 2,
            "statement_timeout": longest,
            "command_timeout": longest + timedelta(seconds=5),
            "idle_in_transaction_timeout": timedelta(0),
        }
    )


async def run_worker(settings: WorkerSettings, *, handlers: Iterable[Handler] = HANDLERS) -> None:
    """Run jobs until SIGTERM or SIGINT, then finish or give back what runs. A second signal ends it at once."""
    registry = Registry(handlers, catalog=CATALOG)
    mails = Mails(open_mailer(settings.mail), settings.mail.sender, str(settings.public_base_url))
    async with (
        open_database(database_settings(settings, registry), name="worker") as database,
        connect(settings.redis.url.get_secret_value(), call_timeout=settings.redis.timeout) as valkey,
    ):
        runner = Runner(database, registry, mails, new_id(), settings.worker.lease, {})
        queues = [
            open_queue(name, database=database, runner=runner, valkey=valkey, settings=settings.worker)
            for name in settings.worker.queues
        ]
        with _stop_signals() as stopping:
            log.info("worker_started", worker_id=str(runner.worker_id), queues=list(settings.worker.queues))
            await _run_until(stopping, database, runner, queues=queues, settings=settings.worker)
    log.info("worker_stopped")


async def _run_until(
    stopping: asyncio.Event, database: Database, runner: Runner, *, queues: list[Queue], settings: JobSettings
) -> None:
    create = asyncio.get_running_loop().create_task
    stop = create(stopping.wait())
    feeders = [create(run_schedule(database)), *(create(queue.relay.run()) for queue in queues)]
    engines = [create(queue.engine.work(grace=settings.grace)) for queue in queues]
    beat = create(keep_leases(database, runner, beat=settings.beat))
    await asyncio.wait([stop, beat, *feeders, *engines], return_when=asyncio.FIRST_COMPLETED)
    log.info("worker_stopping")
    await _cancel(feeders)
    for queue in queues:
        queue.engine.stop()
    await asyncio.gather(*engines, return_exceptions=True)
    await _cancel([beat, stop])  # leases were kept until the last job had ended
    for task in (beat, *feeders, *engines):
        if not task.cancelled():
            # What none of them can handle ends the process with a trace.
            task.result()  # guard: test_what_no_loop_expects_ends_the_worker_with_an_error


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Yield what the first SIGTERM or SIGINT sets; the next one finds Python's own handling and ends the process."""
    loop = asyncio.get_running_loop()
    received = asyncio.Event()

    def remove() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    def receive() -> None:
        received.set()
        remove()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, receive)
    try:
        yield received
    finally:
        remove()
