"""The relay moves due jobs from the ledger into the delivery queue in Valkey."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from redis.exceptions import RedisError

from app_db import Database
from app_db.jobs import admission, claims
from app_db.jobs.claims import NO_SLOTS, Claim, Slots
from app_db.jobs.leadership import Leadership
from app_db.jobs.ledger import Delivery
from app_db.jobs.notifier import CONNECTION_LOST
from app_worker.delivery_queue import DeliveryQueue, Occupancy
from app_worker.executor import Executor
from app_worker.metrics import Metrics
from app_worker.registry import Mode
from app_worker.runner import Runner

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=1)
LONGEST_TRANSACTION = timedelta(seconds=4)
"""Limit of a relay's transaction, with up to 2 s for a lock. The statement timeout fits the longest handler."""
LONGEST_STOP = 1.0
"""Seconds for which a relay that stops waits for its claim: Postgres may be frozen."""
PAUSE_AFTER_OUTAGE = timedelta(seconds=1)


@dataclass
class Relay:
    """The relay of one queue in one process; it works while `leads()` is true.

    Several relays at once do no harm, because each claims different jobs; one at a time asks the database less often.
    """

    database: Database
    delivery_queue: DeliveryQueue
    lease: timedelta
    leads: Callable[[], bool]
    metrics: Metrics
    executor: Executor | None = None
    """The executor of this process: a claim fills its free slots without the delivery queue."""
    runner: Runner | None = None
    """Runs jobs that a claim has started for these slots."""
    poll: timedelta = POLL
    """How long a lost notification can delay a job at most."""
    notified: asyncio.Event = field(default_factory=asyncio.Event)
    _has_backlog: bool = True
    _occupancy: Occupancy | None = None
    """Of a moment ago."""
    _since: datetime | None = None
    _renew_at: float = 0
    _is_on_record: bool = False
    _lost_until: float = 0
    """Until then a claim without a reply may turn out to have started jobs."""
    _is_refused: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether Valkey took none of the deliveries of the last claim: it is full, or the rights do not suffice."""
        return self._is_refused and self.leads()

    def notify_idle(self, occupancy: Occupancy | None = None) -> None:
        """An executor has free slots: claim again at once if the last claim left due jobs behind.

        An executor of this process has just asked for the occupancy.
        """
        if self._has_backlog:
            self._occupancy = occupancy
            self.notified.set()

    async def claim_and_push(self, *, since: datetime | None = None) -> int:
        """Claim as many due jobs as there is capacity for, commit, start or push them; return how many.

        The free slots of this process are filled without the delivery queue, and their jobs in lease mode have started
        with the claim. The commit comes first, so that no executor sees a delivery that might be rolled back. If the
        process dies before the push, the jobs start a lease later; if the push fails or is cancelled, they are due at
        once.
        """
        occupancy = self._occupancy or await self.delivery_queue.occupancy()
        self._occupancy = None
        self.metrics.deliveries_waiting(self.delivery_queue.queue, occupancy.waiting)
        claim = await self._fill_own_slots(occupancy, since)
        self._has_backlog = claim.more_due
        async with self._time_limit():
            await self._push(claim.deliveries)
        count = len(claim.deliveries) + len(claim.own)
        counts = {"redelivered": claim.redelivered, "crashed": claim.crashed}
        self.metrics.claimed(self.delivery_queue.queue, count, **counts)
        if claim.may_admit:
            await self._admit()
        return count

    async def renew_waiting(self) -> None:
        """Renew the leases of the deliveries that wait in Valkey, and read since when the oldest due job is due.

        If the queue is paused, withdraw these deliveries instead.
        """
        self._since = None
        async with self._time_limit(), self.database.sessions.begin() as session:
            if await claims.is_paused(session, self.delivery_queue.queue):
                await claims.make_due(
                    session, await self.delivery_queue.withdraw()
                )  # guard: test_what_waits_in_the_delivery_queue_of_a_paused_queue_is_taken_back
            else:
                await claims.extend_waiting(session, await self.delivery_queue.waiting(), lease=self.lease)
            self._since = await claims.oldest_due(session, self.delivery_queue.queue)

    async def run(self) -> None:
        """Claim and push at each notification, and at least once in `poll`, until cancelled."""
        since = None
        while True:
            self.notified.clear()
            try:
                if self.runner is not None and time.monotonic() < self._lost_until:
                    await self.runner.give_back_lost(
                        [self.delivery_queue.queue]
                    )  # guard: test_a_claim_whose_reply_was_lost_is_no_crash
                if self.leads():
                    await self._renew_if_due()  # guard: test_a_relay_that_runs_renews_the_leases_of_waiting_deliveries
                    await self.claim_and_push(since=since)
            except Exception as error:  # an outage of Postgres or Valkey: the next claim finds the same jobs
                log.warning("claim_failed", queue=self.delivery_queue.queue, cause=repr(error))
                await asyncio.sleep(PAUSE_AFTER_OUTAGE.total_seconds())
            since = self._since if await self._is_notified() else None

    async def _renew_if_due(self) -> None:
        """Renew before the first claim: else a new leader would claim jobs again that its predecessor pushed."""
        if time.monotonic() >= self._renew_at:
            await self.renew_waiting()
            if self.runner is not None:
                async with self._time_limit():
                    await self.runner.batches.settle_all()  # guard: test_what_a_killed_worker_left_is_added_up
            self._renew_at = time.monotonic() + self._renewal_interval

    @property
    def _renewal_interval(self) -> float:
        return self.lease.total_seconds() / 5

    async def _is_notified(self) -> bool:
        """Wait for a notification; return False if none came in time, so that the next claim looks at all due jobs."""
        pause = min(self.poll.total_seconds(), self._renewal_interval)
        with suppress(TimeoutError):
            # At random, so that the relays of all queues and processes do not poll in step.
            return await asyncio.wait_for(self.notified.wait(), pause * random.uniform(0.5, 1))  # noqa: S311
        return False

    def _time_limit(self) -> asyncio.Timeout:
        return asyncio.timeout(min(self.lease, LONGEST_TRANSACTION).total_seconds())

    async def _fill_own_slots(self, occupancy: Occupancy, since: datetime | None) -> Claim:
        """Claim jobs, and run those that are for this process."""
        if self.executor is None or self.runner is None:
            return await self._claim(occupancy.capacity, since, NO_SLOTS)
        own = self.executor.reserve(occupancy)
        # A job in lease mode starts by its claim, so none has to wait in the queue for the next slot of this process.
        waiting = 0 if self.runner.expected_mode is Mode.LEASE else own
        most = own + waiting + occupancy.capacity
        slots = Slots(self.runner.starter, own, own + occupancy.free_slots)
        claim = Claim()
        try:
            claim = await self._claim_to_its_end(most, since, slots)
            self.runner.started.update(claim.started)
        finally:
            self.executor.start(claim.own)
        return claim

    async def _claim_to_its_end(self, max_jobs: int, since: datetime | None, slots: Slots) -> Claim:
        """Claim; if cancelled, wait for the claim: it may start jobs, which the worker gives back when it stops."""
        claiming = asyncio.create_task(self._claim(max_jobs, since, slots))
        claiming.add_done_callback(lambda task: task.cancelled() or task.exception())  # else asyncio may log it as lost
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await asyncio.wait(
                [claiming], timeout=LONGEST_STOP
            )  # guard: test_what_a_relay_had_started_when_it_was_stopped_is_given_back
            raise
        except Exception:
            self._lost_until = time.monotonic() + self.lease.total_seconds()
            raise
        finally:
            claiming.cancel()

    async def _claim(self, max_jobs: int, since: datetime | None, slots: Slots) -> Claim:
        if max_jobs == 0:
            return Claim(more_due=True)
        queue = self.delivery_queue.queue
        async with self._time_limit():  # Postgres may be frozen
            async with self.database.autocommit_sessions() as session:
                if not self._is_on_record:
                    await claims.add_queue(session, queue)
                    self._is_on_record = True
                claim = await claims.claim(
                    session, queue=queue, max_jobs=max_jobs, lease=self.lease, since=since, slots=slots
                )
            if claim.has_limit:
                async with self.database.sessions.begin() as session:
                    claim = await claims.claim_within_limit(
                        session, queue=queue, max_jobs=max_jobs, lease=self.lease, slots=slots
                    )
        return claim

    async def _admit(self) -> None:
        """Make jobs due that waited for the limit of their key, and claim again at once if there are some."""
        async with self._time_limit(), self.database.sessions.begin() as session:
            admitted = await admission.admit(session, queue=self.delivery_queue.queue)
        if admitted:
            self.notified.set()

    async def _push(self, deliveries: Sequence[Delivery]) -> None:
        self._is_refused = bool(deliveries)
        if not deliveries:
            return
        try:
            await self.delivery_queue.push(deliveries)
            self._is_refused = False
        except (RedisError, OSError, asyncio.CancelledError):
            async with self._time_limit(), self.database.sessions.begin() as session:
                await claims.make_due(session, deliveries)  # guard: test_an_unsent_job_is_due_at_once
            raise


async def keep_leading(leadership: Leadership) -> None:
    """Listen for notifications and hold the locks of queues until cancelled, through all outages of Postgres."""
    while True:
        try:
            await leadership.run()
        except CONNECTION_LOST as error:
            log.warning("listen_failed", cause=repr(error))
        await asyncio.sleep(PAUSE_AFTER_OUTAGE.total_seconds())
