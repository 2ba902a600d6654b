"""The telemetry of a worker: the endpoint for metrics and health, and the loop that reads the ledger for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import structlog

from app_db import Database
from app_db.jobs import crons
from app_db.jobs.retention import QUEUE as RETENTION
from app_db.repositories.connections import shares_in_use
from app_db.repositories.jobs import JobRepository
from app_db.telemetry.collectors import RoleCollector, describe_database
from app_runtime.telemetry.exporting import exporting
from app_runtime.telemetry.process import describe_process
from app_worker.crons import CRONS
from app_worker.health import WorkerHealth
from app_worker.metrics import Metrics
from app_worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

PACKAGES = ("app-runtime", "app-db", "app-auth", "app-worker")

PRUNES = [cron.name for cron in CRONS if cron.queue == RETENTION]
"""The crons that delete old rows. Metrics show for each how long ago one of its jobs did its work."""

POLL = timedelta(seconds=15)
"""How often the worker reads the ledger, unless that takes long: one statement counts all open jobs."""


@asynccontextmanager
async def telemetry(
    settings: WorkerSettings, database: Database, metrics: Metrics, health: WorkerHealth
) -> AsyncIterator[None]:
    """Watch the event loop during the block; serve metrics and health, if the settings enable it.

    Raises:
        OSError: when the address is not one of this machine, or this user may not open the port.
    """
    async with health.loop.watched():
        if settings.metrics.enabled:
            async with _served(settings, database, metrics, health):
                yield
        else:
            yield


@asynccontextmanager
async def _served(
    settings: WorkerSettings, database: Database, metrics: Metrics, health: WorkerHealth
) -> AsyncIterator[None]:
    metrics.registry.register(health)
    describe_process(metrics.registry, packages=PACKAGES)
    describe_database(metrics.registry, database, kinds=metrics.kinds)
    roles = RoleCollector()
    metrics.registry.register(roles)
    async with exporting(settings.metrics, metrics.registry, partial(health.report, settings.worker)):
        polling = asyncio.create_task(poll_ledger(database, metrics, roles))
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)


async def poll_ledger(
    database: Database, metrics: Metrics, roles: RoleCollector | None = None, *, poll: timedelta = POLL
) -> None:
    """Read the queues from the ledger until cancelled; figures that cannot be read are not exported."""
    roles = roles or RoleCollector()
    while True:
        pause = poll.total_seconds()
        began = time.monotonic()
        try:
            async with database.read_sessions() as session:
                jobs = JobRepository(session)
                metrics.ledger.dead_tuples = await jobs.dead_tuples()
                metrics.ledger.oldest_xmin_age = await jobs.oldest_xmin_age()
                metrics.ledger.queues = await jobs.queues(most=None)
                metrics.ledger.prunes = await crons.ages(session, PRUNES)
                roles.shares = await shares_in_use(session)
            pause = pause_after(time.monotonic() - began, poll)
        except Exception as error:  # an outage of Postgres: the last figures would look current
            metrics.ledger.prunes = {}
            roles.shares = {}
            metrics.ledger.queues = ()  # guard: test_figures_that_nobody_can_check_are_not_shown
            metrics.ledger.dead_tuples = None  # guard: test_a_table_that_nobody_can_see_has_no_dead_rows
            metrics.ledger.oldest_xmin_age = None  # guard: test_a_table_that_nobody_can_see_has_no_dead_rows
            log.warning("queues_not_seen", cause=repr(error))
        await asyncio.sleep(pause)


def pause_after(seconds: float, poll: timedelta) -> float:
    """Return the pause after a poll that took `seconds`, so that polls take at most a hundredth of the time."""
    return max(poll.total_seconds(), 99 * seconds)
