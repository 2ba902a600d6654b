"""Moves due jobs from the ledger into the window of the engines."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from redis.exceptions import RedisError

from app_db import Database
from app_db.jobs import dispatch
from app_db.jobs.dispatch import Claim
from app_db.jobs.leadership import Leadership
from app_db.jobs.notifier import CONNECTION_LOST
from app_worker.engine import Window
from app_worker.metrics import Metrics

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=1)
ANSWER = timedelta(seconds=4)
"""For what a relay asks of Postgres, a wait of 2 s for a lock included: handlers' statements may take far longer."""
PAUSE_AFTER_OUTAGE = timedelta(seconds=1)


@dataclass
class Relay:
    """The relay of one queue in one process: it works while `leads` says so.

    Several at once do no harm, each claims different jobs; one at a time asks the database less often.
    """

    database: Database
    window: Window
    lease: timedelta
    leads: Callable[[], bool]
    metrics: Metrics
    poll: timedelta = POLL
    """The longest that a lost notification can delay a job."""
    notified: asyncio.Event = field(default_factory=asyncio.Event)
    _behind: bool = True
    _since: datetime | None = None
    _tend_at: float = 0
    _is_on_record: bool = False

    def hungry(self) -> None:
        """Look again at once if the last look left due jobs behind."""
        if self._behind:
            self.notified.set()

    async def dispatch(self, *, since: datetime | None = None) -> int:
        """Claim as many due jobs as there is room for, commit, then push them; return how many.

        The commit comes first, so a worker never sees a delivery that might be rolled back. Dying in between costs
        the length of a lease, a push that fails or is cancelled nothing.
        """
        look = await self.window.look()
        self.metrics.window(self.window.queue, look.waiting)
        if look.room == 0:
            self._behind = True
            return 0
        async with self._in_time():  # a Postgres that froze
            claim = await self._claim(look.room, since)
            self._behind = claim.more_due
            await self._push(claim)
        counts = {"redelivered": claim.redelivered, "crashed": claim.crashed}
        self.metrics.dispatched(self.window.queue, len(claim.deliveries), **counts)
        return len(claim.deliveries)

    async def tend(self) -> None:
        """Renew the leases of what waits in the window, and see how far back claims have to look.

        What waits in the window of a paused queue is taken back.
        """
        self._since = None
        async with self._in_time(), self.database.sessions.begin() as session:
            if await dispatch.is_paused(session, self.window.queue):
                await dispatch.make_due(
                    session, await self.window.withdraw()
                )  # guard: test_what_waits_in_the_window_of_a_paused_queue_is_taken_back
            else:
                await dispatch.extend_waiting(session, await self.window.waiting(), lease=self.lease)
            self._since = await dispatch.oldest_due(session, self.window.queue)

    async def run(self) -> None:
        """Dispatch at every notification and at least once in `poll`, until cancelled."""
        since = None
        while True:
            self.notified.clear()
            try:
                if self.leads():
                    await self._tend_in_time()  # guard: test_a_relay_that_runs_tends_what_waits
                    await self.dispatch(since=since)
            except Exception as error:  # an outage of either server: the next look finds the same jobs
                log.warning("dispatch_failed", queue=self.window.queue, cause=repr(error))
                await asyncio.sleep(PAUSE_AFTER_OUTAGE.total_seconds())
            since = self._since if await self._is_notified() else None

    async def _tend_in_time(self) -> None:
        """Before anything is dispatched, or a new leader would dispatch again what waits since the last one died."""
        if time.monotonic() >= self._tend_at:
            await self.tend()
            self._tend_at = time.monotonic() + self._tend_every

    @property
    def _tend_every(self) -> float:
        return self.lease.total_seconds() / 5

    async def _is_notified(self) -> bool:
        """Return False if nobody has called for so long that it is time to look at everything."""
        pause = min(self.poll.total_seconds(), self._tend_every)
        with suppress(TimeoutError):
            # Not in step with the relays of other queues and processes.
            return await asyncio.wait_for(self.notified.wait(), pause * random.uniform(0.5, 1))  # noqa: S311
        return False

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(min(self.lease, ANSWER).total_seconds())

    async def _claim(self, room: int, since: datetime | None) -> Claim:
        queue = self.window.queue
        async with self.database.autocommit_sessions() as session:
            if not self._is_on_record:
                await dispatch.add_queue(session, queue)
                self._is_on_record = True
            claim = await dispatch.claim(session, queue=queue, room=room, lease=self.lease, since=since)
        if claim.has_limit:
            async with self.database.sessions.begin() as session:
                claim = await dispatch.claim_within_limit(session, queue=queue, room=room, lease=self.lease)
        return claim

    async def _push(self, claim: Claim) -> None:
        if not claim.deliveries:
            return
        try:
            await self.window.push(claim.deliveries)
        except (RedisError, OSError, asyncio.CancelledError):
            async with self._in_time(), self.database.sessions.begin() as session:
                await dispatch.make_due(session, claim.deliveries)  # guard: test_an_unsent_job_is_due_at_once
            raise


async def keep_leading(leadership: Leadership) -> None:
    """Hear notifications and hold the locks of queues until cancelled, whatever becomes of Postgres."""
    while True:
        try:
            await leadership.run()
        except CONNECTION_LOST as error:
            log.warning("listen_failed", cause=repr(error))
        await asyncio.sleep(PAUSE_AFTER_OUTAGE.total_seconds())
