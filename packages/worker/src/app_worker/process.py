"""One worker process: engines, relays, heartbeat and schedule, from start to a graceful stop."""

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from app_db import Database, open_database
from app_db.jobs.catalog import CATALOG
from app_db.jobs.ledger import Delivery
from app_db.jobs.workers import WorkerRow
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.engine import Engine, Valkey, connect
from app_worker.handlers import HANDLERS
from app_worker.heartbeat import Heartbeat
from app_worker.mail import Mails, open_mailer
from app_worker.metrics import Metrics
from app_worker.registry import Handler, Registry
from app_worker.relay import Relay
from app_worker.runner import Runner
from app_worker.schedule import CRONS, Cron, run_schedule
from app_worker.settings import JobSettings, WorkerSettings
from app_worker.telemetry import telemetry
from app_worker.vitals import Vitals

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue in this process: who fetches its jobs and who runs them."""

    relay: Relay
    engine: Engine


def open_queue(
    name: str, *, database: Database, runner: Runner, vitals: Vitals, valkey: Valkey, settings: JobSettings
) -> Queue:
    """Tie an engine and a relay together: each job that ends makes room for another."""

    async def run(delivery: Delivery) -> None:
        vitals.running += 1
        try:
            await runner.run(delivery)
        finally:
            vitals.running -= 1

    def slot_freed() -> None:
        relay.slot_freed()

    # arq's own limit must never strike first: it knows nothing of the ledger.
    timeout = runner.registry.longest_timeout + settings.lease
    engine = Engine(
        valkey,
        name,
        slots=settings.concurrency,
        timeout=timeout,
        run=run,
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
            # The lock of a tx job is its lease: a worker that froze with it must let go.
            "transaction_timeout": longest + timedelta(seconds=5),
            "command_timeout": longest + timedelta(seconds=5),
            "idle_in_transaction_timeout": timedelta(0),
        }
    )


async def run_worker(
    settings: WorkerSettings, *, handlers: Iterable[Handler] = HANDLERS, crons: tuple[Cron, ...] = CRONS
) -> None:
    """Run jobs until SIGTERM or SIGINT, then finish or give back what runs. A second signal ends it at once."""
    registry = Registry(handlers, catalog=CATALOG)
    mails = Mails(open_mailer(settings.mail), settings.mail.sender, str(settings.public_base_url))
    queues = settings.worker.queues
    vitals = Vitals()
    async with (
        open_database(database_settings(settings, registry), name="worker") as database,
        connect(settings.redis.url.get_secret_value(), call_timeout=settings.redis.timeout) as valkey,
    ):
        metrics = Metrics(kinds=registry.by_kind, queues=queues, enqueued=database.enqueued)
        runner = Runner(database, registry, mails, new_id(), settings.worker.running_lease, metrics)
        worker = WorkerRow(runner.worker_id, socket.gethostname(), os.getpid(), queues, settings.worker.concurrency)
        heartbeat = Heartbeat(database, runner, worker, settings.worker, vitals)
        opened = [
            open_queue(name, database=database, runner=runner, vitals=vitals, valkey=valkey, settings=settings.worker)
            for name in queues
        ]
        feeders = [run_schedule(database, crons), *(queue.relay.run() for queue in opened)]
        async with telemetry(settings, database, metrics, vitals):
            with _stop_signals() as stopping:
                log.info("worker_started", worker_id=str(runner.worker_id), queues=list(queues))
                await _run_until(stopping, feeders, heartbeat, queues=opened, grace=settings.worker.grace)
            await heartbeat.sign_off()
    log.info("worker_stopped")


async def _run_until(
    stopping: asyncio.Event,
    feeding: Iterable[Coroutine[Any, Any, None]],
    heartbeat: Heartbeat,
    *,
    queues: list[Queue],
    grace: timedelta,
) -> None:
    create = asyncio.get_running_loop().create_task
    stop = create(stopping.wait())
    feeders = [create(feeder) for feeder in feeding]
    engines = [create(queue.engine.work(grace=grace)) for queue in queues]
    beat = create(heartbeat.run())
    await asyncio.wait([stop, beat, *feeders, *engines], return_when=asyncio.FIRST_COMPLETED)
    log.info("worker_stopping")
    heartbeat.drain()
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
