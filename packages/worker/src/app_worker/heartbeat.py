"""A worker's signs of life: they renew the leases of what it runs, and tell it what it has lost or shall end."""

import asyncio
import contextlib
import time
from collections.abc import Iterable

import structlog

from app_db import Database
from app_db.jobs import workers
from app_db.jobs.ledger import Delivery
from app_db.jobs.workers import WorkerRow
from app_worker.health import WorkerHealth
from app_worker.runner import Runner
from app_worker.settings import JobSettings

log = structlog.get_logger(__name__)

EARLIEST = 0.25
"""Seconds between two beats at least, however often somebody is notified."""


class Heartbeat:
    """One statement every `settings.beat`, for all jobs of the process."""

    def __init__(
        self, database: Database, runner: Runner, worker: WorkerRow, settings: JobSettings, health: WorkerHealth
    ) -> None:
        self._database = database
        self._runner = runner
        self._worker = worker
        self._settings = settings
        self._health = health
        self._notified = asyncio.Event()

    def drain(self) -> None:
        """Say from now on that this worker takes no more jobs."""
        self._health.draining = True
        self._runner.stop()
        self._notified.set()

    def notify(self) -> None:
        """Beat soon: a running job may have been cancelled."""
        if self._runner.held:
            self._notified.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat()
            pause = self._at_most
            await asyncio.sleep(min(EARLIEST, pause))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._notified.wait(), pause - EARLIEST)
            self._notified.clear()

    async def beat(self) -> None:
        """Show that we live; end the jobs that are lost or shall be cancelled, or all when nobody has heard us."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._at_most):
                await self._beat()
        except Exception as error:  # an outage: the leases outlast some beats
            log.warning("beat_failed", cause=repr(error))
            if self._health.beat_age >= self._settings.patience.total_seconds():
                self._end(list(self._runner.held), "job_let_go")  # guard: test_a_worker_that_nobody_hears_lets_go
        else:
            self._health.beat_at = began

    @property
    def _at_most(self) -> float:
        """Seconds for a beat, or for the pause behind it: neither goes past the moment at which jobs are let go."""
        left = self._settings.patience.total_seconds() - self._health.beat_age
        beat = self._settings.beat.total_seconds()
        return min(beat, left) if left > 0 else beat  # guard: test_a_worker_lets_go_before_its_leases_end

    async def _beat(self) -> None:
        held = list(self._runner.held)
        async with self._database.sessions.begin() as session:
            found = await workers.beat(
                session,
                self._worker,
                holding=[delivery.id for delivery in self._runner.running],
                held=held,
                running=self._health.running,
                draining=self._health.draining,
                lease=self._settings.running_lease,
            )
        self._end(set(held) - found.ours, "job_lost")  # guard: test_a_job_that_was_lost_is_cancelled
        self._end(found.cancelled, "job_cancelled")  # guard: test_a_running_job_is_cancelled_at_the_next_beat

    def _end(self, deliveries: Iterable[Delivery], event: str) -> None:
        still_held = self._runner.held
        for delivery in [each for each in deliveries if each in still_held]:  # others have ended meanwhile
            log.warning(event, job_id=str(delivery.id), fence=delivery.fence)
            self._runner.end(delivery)

    async def sign_off(self) -> None:
        """Take the worker off the list."""
        with contextlib.suppress(Exception):  # its row goes stale, and is pruned later
            async with asyncio.timeout(self._settings.beat.total_seconds()), self._database.sessions.begin() as session:
                await workers.sign_off(session, self._worker.id)
