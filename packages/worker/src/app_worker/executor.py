"""arq as the executor: it runs deliveries. No other module knows arq.

It uses only arq's `run_job`. arq's own payloads, retries, cron, results, signals and search for lost jobs are switched
off or answered by `FakeArqClient`, because the ledger does all of that (ADR-0008).
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import structlog
from arq import ArqRedis, Worker, func
from redis.exceptions import RedisError

from app_db.jobs.ledger import Delivery
from app_db.types import new_id
from app_worker.delivery_queue import DeliveryQueue, Occupancy, arq_id
from app_worker.fake_arq_client import FUNCTION, FakeArqClient

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=1)
PAUSE_AFTER_LOSS = timedelta(seconds=1)
NEVER = 10**6


class Executor:
    """One queue of one worker process: its slots, in which `run` is called for each delivery."""

    def __init__(
        self,
        delivery_queue: DeliveryQueue,
        *,
        slots: int,
        timeout: timedelta,
        run: Callable[[Delivery], Awaitable[None]],
        poll: timedelta = POLL,
        leads: Callable[[], bool] = lambda: False,
    ) -> None:
        """Cancel a run that takes longer than `timeout`; poll for deliveries every `poll`, and after each `notify`.

        While the relay of this process `leads`, no other relay has to know of the free slots.
        """
        self._id = str(new_id())
        self._delivery_queue = delivery_queue
        self._slots = slots
        self._poll = poll
        self._leads = leads
        self.on_idle: Callable[[Occupancy], None] = lambda _: None
        """Called when slots are free and no delivery waits, while the relay of this process leads."""
        self._running: set[asyncio.Task[None]] = set()
        self._asked_for = self._reserved = 0
        """The slots for which the queue, or the ledger, is being asked."""
        self._has_asked_for_less = False
        """Whether slots were reserved at the last poll."""
        self._is_counted = False
        """Whether Valkey counts free slots of this executor."""
        self.valkey_answers = False
        """Whether Valkey answered when it was last asked for deliveries."""
        self._stopping = False
        self._notified = asyncio.Event()
        self._worker = _arq(delivery_queue.key, run, timeout)

    def notify(self) -> None:
        """Poll at once: there are new deliveries."""
        self._notified.set()

    def reserve(self, occupancy: Occupancy) -> int:
        """Keep the free slots for deliveries that are not from the queue, until `start`; return how many.

        None while deliveries wait in the queue, because they come first.
        """
        if not self._stopping and not occupancy.waiting:
            self._reserved = max(0, self._slots - len(self._running) - self._asked_for)
        return self._reserved

    def start(self, deliveries: Sequence[Delivery]) -> None:
        """Start deliveries in reserved slots, and release the others."""
        self._reserved = 0
        self._run(deliveries)
        if (deliveries and self._is_counted) or self._has_asked_for_less:
            self._notified.set()  # guard: test_slots_that_are_filled_without_the_queue_are_not_offered_in_it

    def stop(self) -> None:
        """Start no more deliveries; `work` returns when the running ones have ended."""
        self._stopping = True
        self._notified.set()

    async def work(self, *, grace: timedelta) -> None:
        """Run deliveries until `stop`, through all outages of Valkey.

        After `stop`, running deliveries may finish for up to `grace`; then they are cancelled, which gives them back.
        """
        try:
            while not self._stopping:
                self._notified.clear()
                pause = await self._try_to_take()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._notified.wait(), pause.total_seconds())
        finally:
            with contextlib.suppress(RedisError, OSError):  # the free slots expire by themselves
                await self._delivery_queue.leave(self._id)
            await self._drain(grace)

    async def _try_to_take(self) -> timedelta:
        """Take deliveries, and return how long to wait before the next poll."""
        try:
            await self._take()
        except (RedisError, OSError) as error:
            self.valkey_answers = False  # guard: test_an_outage_of_valkey_is_seen_and_its_end_too
            log.warning("valkey_lost", queue=self._delivery_queue.queue, cause=repr(error))
            return PAUSE_AFTER_LOSS
        return self._poll * random.uniform(0.8, 1)  # noqa: S311  # so that workers do not poll in step

    async def _take(self) -> None:
        """Start as many deliveries as there are free slots.

        A delivery leaves the queue when it starts. arq's own loop would keep it there until it ends, so deliveries of a
        worker that died or cannot reach Valkey would fill the queue. A delivery that is lost here is claimed again.
        """
        free = self._slots - len(self._running) - self._reserved
        self._has_asked_for_less = self._reserved > 0
        leads = self._leads()
        if self._is_counted and (leads or free + self._reserved <= 0):
            await self._delivery_queue.leave(
                self._id
            )  # guard: test_slots_that_are_filled_without_the_queue_are_not_offered_in_it
            self._is_counted = False
        if free <= 0:
            return
        occupancy = None
        self._asked_for = free  # guard: test_slots_for_which_the_queue_is_asked_are_not_filled_without_it
        try:
            if leads:
                taken, occupancy = await self._delivery_queue.take_unasked(free)
            else:
                taken = await self._delivery_queue.take(self._id, free)
                self._is_counted = len(taken) < free
        finally:
            self._asked_for = 0
        self.valkey_answers = True
        self._run(taken)
        if occupancy and len(taken) < free:
            self.on_idle(occupancy)

    def _run(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            task = asyncio.create_task(self._worker.run_job(arq_id(delivery), 0))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _drain(self, grace: timedelta) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._notified.set()


def _arq(name: str, run: Callable[[Delivery], Awaitable[None]], timeout: timedelta) -> Worker:
    async def deliver(ctx: dict[Any, Any], job_id: str, fence: int) -> None:  # named as arq's protocol names it
        await run(Delivery(UUID(job_id), fence))

    return Worker(
        functions=[func(deliver, name=FUNCTION)],
        queue_name=name,
        redis_pool=cast("ArqRedis", FakeArqClient()),  # it has all methods that `run_job` calls
        job_deserializer=_as_it_is,  # arq's default would load pickles
        handle_signals=False,
        job_timeout=timeout,
        keep_result=0,
        max_tries=NEVER,
        log_results=False,
    )


def _as_it_is(job: Any) -> dict[str, Any]:  # Any: the reply of FakeArqClient
    assert isinstance(job, dict), "FakeArqClient serializes nothing"
    return job
