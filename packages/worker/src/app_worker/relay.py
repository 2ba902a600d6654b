"""Moves due jobs from the ledger into the window of the engine."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from redis.exceptions import RedisError

from app_db import Database
from app_db.jobs import ledger
from app_db.jobs.wake import LOST, notifications
from app_worker.engine import Engine

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=1)
PAUSE_AFTER_OUTAGE = timedelta(seconds=1)


@dataclass
class Relay:
    """The relay of one queue in one process. Several may run at once: each claims different jobs."""

    database: Database
    engine: Engine
    lease: timedelta
    poll: timedelta = POLL
    """The longest that a lost wake-up can delay a job."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    _behind: bool = False

    def slot_freed(self) -> None:
        """Look again at once if the last look left due jobs behind for want of room."""
        if self._behind:
            self.woken.set()

    async def dispatch(self) -> int:
        """Claim as many due jobs as there is room for, commit, then push them; return how many.

        The commit comes first, so a worker never sees a delivery that might be rolled back. Dying in between costs
        the length of a lease, a push that fails or is cancelled nothing.
        """
        room = await self.engine.room()
        if room == 0:
            self._behind = True
            return 0
        async with self.database.sessions.begin() as session:
            deliveries = await ledger.claim(session, queue=self.engine.queue, room=room, lease=self.lease)
        self._behind = len(deliveries) == room
        if deliveries:
            try:
                await self.engine.push(deliveries)
            except (RedisError, OSError, asyncio.CancelledError):
                async with self.database.sessions.begin() as session:
                    await ledger.make_due(session, deliveries)  # guard: test_an_unsent_job_is_due_at_once
                raise
        return len(deliveries)

    async def run(self) -> None:
        """Dispatch at every wake-up and at least once in `poll`, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                self.woken.clear()
                try:
                    await self.dispatch()
                except Exception as error:  # an outage of either server: the next look finds the same jobs
                    log.warning("dispatch_failed", queue=self.engine.queue, cause=repr(error))
                    await asyncio.sleep(PAUSE_AFTER_OUTAGE.total_seconds())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.woken.wait(), self.poll.total_seconds())

    async def _listen(self) -> None:
        settings = self.database.settings
        while True:
            try:
                wakes = notifications(settings.direct_dsn, connect_timeout=settings.connect_timeout)
                async for _ in wakes:  # pragma: no branch  # they only end by an error
                    self.woken.set()
            except LOST as error:
                log.warning("listen_failed", queue=self.engine.queue, cause=repr(error))
            await asyncio.sleep(PAUSE_AFTER_OUTAGE.total_seconds())
