"""The heartbeat of a worker: it renews the leases of its jobs, and learns which of them are lost or cancelled."""

import asyncio
import contextlib
import time
from collections.abc import Iterable

import structlog

from app_db import Database
from app_db.jobs import workers
from app_db.jobs.ledger import Delivery
from app_db.jobs.workers import WorkerRow
from app_db.pooler import WrongPooling
from app_db.repositories.schema import SchemaRepository
from app_worker.health import WorkerHealth
from app_worker.runner import Runner
from app_worker.settings import JobSettings

log = structlog.get_logger(__name__)

SHORTEST_PAUSE = 0.25
"""Seconds between two beats at least, however many notifications come."""


class Heartbeat:
    """One statement every `settings.beat`, for all jobs of the process."""

    def __init__(
        self, database: Database, runner: Runner, worker: WorkerRow, settings: JobSettings, health: WorkerHealth
    ) -> None:
        self._database = database
        self.runner = runner
        self._worker = worker
        self._settings = settings
        self._health = health
        self._notified = asyncio.Event()

    def drain(self) -> None:
        """Report from now on that this worker starts no more jobs."""
        self._health.draining = True
        self.runner.stop()
        self._notified.set()

    def notify(self) -> None:
        """Beat soon, because a running job may have been cancelled."""
        if self.runner.lease_tasks:
            self._notified.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat()
            pause = self._longest_wait
            await asyncio.sleep(min(SHORTEST_PAUSE, pause))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._notified.wait(), pause - SHORTEST_PAUSE)
            self._notified.clear()

    async def beat(self) -> None:
        """Beat once; cancel the jobs that are lost or have a cancellation request, or all after too many failures."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._look_for_schema()
                await self._beat()
        except Exception as error:  # an outage of Postgres: the leases outlast some beats
            log.warning("beat_failed", cause=repr(error))
            self._health.refusal = str(error) if isinstance(error, WrongPooling) else ""
            if self._health.beat_age >= self._settings.patience.total_seconds():
                self._cancel(
                    list(self.runner.lease_tasks), "job_let_go"
                )  # guard: test_a_worker_that_nobody_hears_lets_go
        else:
            self._health.beat_at = began
            self._health.has_beaten = True

    @property
    def _longest_wait(self) -> float:
        """Seconds for a beat, or for the pause after it: both end before `patience` is over and jobs are cancelled."""
        left = self._settings.patience.total_seconds() - self._health.beat_age
        beat = self._settings.beat.total_seconds()
        return min(beat, left) if left > 0 else beat  # guard: test_a_worker_lets_go_before_its_leases_end

    async def _beat(self) -> None:
        leased = list(self.runner.lease_tasks)
        async with self._database.sessions.begin() as session:
            found = await workers.beat(
                session,
                self._worker,
                held_ids=self.runner.held_ids,
                leased=leased,
                running=self._health.running,
                draining=self._health.draining,
                lease=self._settings.running_lease,
                loop_lag=self._health.loop.longest,
            )
        self._cancel(set(leased) - found.held, "job_lost")  # guard: test_a_job_that_was_lost_is_cancelled
        self._cancel(found.cancelled, "job_cancelled")  # guard: test_a_running_job_is_cancelled_at_the_next_beat

    async def _look_for_schema(self) -> None:
        """Look until the schema is there: no release takes a revision away again."""
        if not self._health.has_schema:
            async with self._database.read_sessions() as session:
                self._health.has_schema = await SchemaRepository(session).is_ready()

    def _cancel(self, deliveries: Iterable[Delivery], event: str) -> None:
        running = self.runner.lease_tasks
        for delivery in [each for each in deliveries if each in running]:  # the others have ended meanwhile
            log.warning(event, job_id=str(delivery.id), fence=delivery.fence)
            self.runner.cancel(delivery)

    async def sign_off(self) -> None:
        """Delete the row of the worker."""
        with contextlib.suppress(Exception):  # retention deletes the row later
            async with asyncio.timeout(self._settings.beat.total_seconds()), self._database.sessions.begin() as session:
                await workers.sign_off(session, self._worker.id)
