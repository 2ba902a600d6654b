"""One worker process: executors, relays, heartbeat and schedule, from start to a graceful stop."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog

from app_auth.payload_keys import require_payload_keys
from app_db import Database, open_database
from app_db.fleet import pool_of_worker
from app_db.jobs.bulk import QUEUE as BULK
from app_db.jobs.catalog import CATALOG
from app_db.jobs.leadership import Leadership
from app_db.jobs.ledger import Delivery
from app_db.jobs.retention import QUEUE as RETENTION
from app_db.jobs.workers import WorkerRow
from app_db.roles import refuse_powers
from app_db.settings import DatabaseSettings
from app_db.telemetry.trace_setup import traces_of
from app_db.types import new_id
from app_runtime.configuration import Environment
from app_runtime.resources import Resource, open_resources
from app_worker.crons import CRONS
from app_worker.delivery_queue import DeliveryQueue, Valkey, connect
from app_worker.executor import Executor
from app_worker.handlers import HANDLERS
from app_worker.health import WorkerHealth
from app_worker.heartbeat import Heartbeat
from app_worker.limiting import declare_limits
from app_worker.mail import open_mails
from app_worker.mail_server import report_smtputf8
from app_worker.metrics import Metrics
from app_worker.notifications import NotificationListener
from app_worker.pruning import serve_beside
from app_worker.registry import Handler, Registry
from app_worker.relay import Relay, keep_leading
from app_worker.resources import RESOURCES, require_resources, supplied
from app_worker.runner import Runner
from app_worker.schedule import Cron, run_schedule
from app_worker.settings import CommandSettings, JobSettings, WorkerSettings
from app_worker.telemetry import telemetry
from app_worker.threads import use_threads

log = structlog.get_logger(__name__)

NEVER = timedelta(days=366)
"""arq's own time limit must never end a job: the runner ends jobs that take too long, and records that."""
VERSION = version("app-worker")
LONGEST_GIVING_BACK = 2.0
"""Seconds that a worker adds to its stop at most: Postgres may be frozen."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue in this process: its relay claims jobs, its executor runs them."""

    relay: Relay
    executor: Executor


def open_queues(
    settings: WorkerSettings,
    *,
    database: Database,
    valkey: Valkey,
    runner: Runner,
    heartbeat: Heartbeat,
    health: WorkerHealth,
) -> tuple[list[Queue], list[Coroutine[Any, Any, None]]]:
    """Return the queues of this process, and the coroutines that feed their executors."""

    async def run(queue: str, delivery: Delivery) -> None:
        structlog.contextvars.bind_contextvars(queue=queue)  # each delivery has a task of its own
        health.running += 1
        try:
            await runner.run(delivery)
        finally:
            health.running -= 1

    def on_notification() -> None:
        heartbeat.notify()
        for queue in queues:
            queue.relay.notified.set()

    names, lease = settings.worker.queues, settings.worker.running_lease
    health.leadership = leadership = _leadership_of(settings, on_notification)

    def open_queue(name: str) -> Queue:
        delivery_queue = DeliveryQueue(valkey, name, prefix=settings.redis.prefix)
        slots, leads = settings.worker.concurrency, partial(leadership.leads, name)
        executor = Executor(delivery_queue, slots=slots, timeout=NEVER, run=partial(run, name), leads=leads)
        relay = Relay(database, delivery_queue, lease, leads, runner.metrics, executor, runner)
        executor.on_idle = relay.notify_idle
        return Queue(relay, executor)

    queues = [open_queue(name) for name in names]
    health.valkey_answers = lambda: all(queue.executor.valkey_answers for queue in queues)
    health.valkey_refuses = lambda: any(queue.relay.is_refused for queue in queues)
    listener = NotificationListener(valkey, _callbacks(queues), call_timeout=settings.redis.timeout)
    return queues, [keep_leading(leadership), listener.run(), *(queue.relay.run() for queue in queues)]


def _leadership_of(settings: WorkerSettings, on_notification: Callable[[], None]) -> Leadership:
    at, queues = settings.database, settings.worker.queues
    return Leadership(at.direct_dsn, queues, connect_timeout=at.connect_timeout, on_notification=on_notification)


def database_settings(settings: CommandSettings, registry: Registry) -> DatabaseSettings:
    """Return the database settings of a worker: limits for its longest handlers, and a connection for each slot."""
    longest = registry.longest_timeout
    return settings.database.model_copy(
        update={
            "pool_size": pool_of_worker(settings.worker.concurrency, len(settings.worker.queues)),
            "statement_timeout": longest,
            # The row lock of a tx job is its lease, so Postgres must end the transaction of a worker that freezes.
            "transaction_timeout": registry.longest_transaction + timedelta(seconds=5),
            "command_timeout": longest + timedelta(seconds=5),
            "idle_in_transaction_timeout": timedelta(0),
        }
    )


def registry_of(handlers: Iterable[Handler], resources: Mapping[type, Resource]) -> Registry:
    """Return the handlers by kind, before their resources are opened.

    Raises:
        FeatureError: a kind of the catalog has no handler, or a handler asks for a resource that is not there.
    """
    registry = Registry(handlers, catalog=CATALOG)
    require_resources(registry.by_kind.values(), resources)
    return registry


async def run_worker(
    settings: WorkerSettings,
    *,
    handlers: Iterable[Handler] = HANDLERS,
    crons: tuple[Cron, ...] = CRONS,
    resources: Mapping[type, Resource] = RESOURCES,
) -> None:
    """Run jobs until SIGTERM or SIGINT, then finish running jobs or give them back. A second signal ends it at once."""
    registry = registry_of(handlers, resources)
    keys = require_payload_keys(settings.jobs, registry.payload_classes)
    metrics = Metrics(kinds=registry.by_kind, queues=settings.worker.queues)
    mails = open_mails(settings, count=metrics.mail)
    health, traces = WorkerHealth(), traces_of(settings.tracing, service="app-worker")
    vet = None
    if settings.env is Environment.PRODUCTION:  # main.py checks the role too, unless the database is away then
        vet = refuse_powers  # guard: test_no_job_starts_with_a_role_that_may_do_anything
    async with (
        open_database(database_settings(settings, registry), name="worker", vet=vet, keys=keys) as database,
        traces.tracing(database) if traces else nullcontext(),
        connect(settings.redis) as valkey,
        open_resources(resources, settings) as opened,
    ):
        registry = Registry(supplied(registry.by_kind.values(), opened), catalog=())
        metrics.registry.register(use_threads(registry.by_kind))
        lease = settings.worker.running_lease
        runner = Runner(database, registry, mails, new_id(), lease, metrics, trace=traces.job if traces else None)
        heartbeat = _heartbeat_of(runner, settings.worker, health)
        served, feeders = open_queues(
            settings, database=database, valkey=valkey, runner=runner, heartbeat=heartbeat, health=health
        )
        structlog.contextvars.bind_contextvars(worker_id=str(runner.worker_id))
        async with telemetry(settings, database, metrics, health):
            with _stop_signals() as stopping:
                log.info("worker_started", queues=list(settings.worker.queues))
                feeders += [run_schedule(database, crons, went_back=metrics.clock_went_back),
                            *serve_beside(runner, lease=lease), declare_limits(runner),
                            report_smtputf8(database, mails.mailer, runner.worker_id)]  # fmt: skip
                await _run_until(stopping, feeders, heartbeat, queues=served, grace=settings.worker.grace)
            await heartbeat.sign_off()
    log.info("worker_stopped")


def _heartbeat_of(runner: Runner, settings: JobSettings, health: WorkerHealth) -> Heartbeat:
    serves = tuple(dict.fromkeys((*settings.queues, RETENTION, BULK)))
    row = WorkerRow(runner.worker_id, socket.gethostname(), os.getpid(), serves, settings.concurrency, VERSION)
    return Heartbeat(runner.database, runner, row, settings, health)


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
    executors = [create(queue.executor.work(grace=grace)) for queue in queues]
    beat = create(heartbeat.run())
    await asyncio.wait([stop, beat, *feeders, *executors], return_when=asyncio.FIRST_COMPLETED)
    log.info("worker_stopping")
    heartbeat.drain()
    await _cancel(feeders)
    for queue in queues:
        queue.executor.stop()
    await asyncio.gather(*executors, return_exceptions=True)
    await _give_back_unstarted(heartbeat.runner, [queue.relay.delivery_queue.queue for queue in queues])
    await _cancel([beat, stop])  # after the last job, because the heartbeat renews the leases
    for task in (beat, *feeders, *executors):
        if not task.cancelled():
            # An error that no loop expects ends the process with a traceback.
            task.result()  # guard: test_what_no_loop_expects_ends_the_worker_with_an_error


async def _give_back_unstarted(runner: Runner, queues: list[str]) -> None:
    """Give back jobs that a claim has started and no executor has run; else the ends of their leases were crashes."""
    runner.started.clear()
    with suppress(Exception):  # Postgres is away: they are claimed again when their leases end
        async with asyncio.timeout(LONGEST_GIVING_BACK):
            await runner.give_back_lost(
                queues
            )  # guard: test_what_was_started_and_did_not_run_is_given_back_when_the_worker_stops


def _callbacks(queues: Iterable[Queue]) -> dict[str, Callable[[], None]]:
    callbacks: dict[str, Callable[[], None]] = {}
    for queue in queues:
        callbacks[queue.relay.delivery_queue.pushed_channel] = queue.executor.notify
        callbacks[queue.relay.delivery_queue.idle_channel] = queue.relay.notify_idle
    return callbacks


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Yield an event that the first SIGTERM or SIGINT sets; the next signal ends the process.

    The kernel ends it: Python would raise KeyboardInterrupt, perhaps inside a handler, as if that had failed.
    """
    loop = asyncio.get_running_loop()
    received = asyncio.Event()
    before = signal.getsignal(signal.SIGINT)

    def remove() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    def receive() -> None:
        received.set()
        remove()
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # guard: test_a_second_signal_ends_a_worker_that_waits_for_its_jobs

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, receive)
    try:
        yield received
    finally:
        remove()
        signal.signal(signal.SIGINT, before)
