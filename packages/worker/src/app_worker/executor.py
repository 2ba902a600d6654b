"""arq as the executor: it runs deliveries. No other module knows arq.

It uses only arq's `run_job`. arq's own payloads, retries, cron, results, signals and search for lost jobs are switched
off or answered by `FakeArqClient`, because the ledger does all of that (ADR-0008).
"""

import asyncio
import contextlib
import math
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
    ) -> None:
        """Cancel a run that takes longer than `timeout`; poll for deliveries every `poll`, and after each `notify`."""
        self._id = str(new_id())
        self._delivery_queue = delivery_queue
        self._slots = slots
        self._poll = poll
        self._running: set[asyncio.Task[None]] = set()
        self._asked_for = 0
        """The slots for which the queue is being asked for deliveries."""
        self._is_counted = False
        """Whether Valkey counts free slots of this executor."""
        self._stopping = False
        self._notified = asyncio.Event()

        async def deliver(ctx: dict[Any, Any], job_id: str, fence: int) -> None:  # named as arq's protocol names it
            await run(Delivery(UUID(job_id), fence))

        self._worker = Worker(
            functions=[func(deliver, name=FUNCTION)],
            queue_name=delivery_queue.key,
            redis_pool=cast("ArqRedis", FakeArqClient()),  # it has all methods that `run_job` calls
            job_deserializer=_as_it_is,  # arq's default would load pickles
            handle_signals=False,
            job_timeout=timeout,
            keep_result=0,
            max_tries=NEVER,
            log_results=False,
        )

    def notify(self) -> None:
        """Poll at once: there are new deliveries."""
        self._notified.set()

    def start(self, deliveries: Sequence[Delivery], occupancy: Occupancy) -> Sequence[Delivery]:
        """Start the first of these deliveries in free slots, without the queue; return the others.

        An executor starts its share: as many as it has of all free slots. While deliveries wait in the queue it starts
        none, because they come first.
        """
        free = self._slots - len(self._running) - self._asked_for
        if self._stopping or occupancy.waiting or free <= 0:
            return deliveries
        share = min(free, math.ceil(len(deliveries) * free / max(free, occupancy.free_slots)))
        self._run(deliveries[:share])
        self._notified.set()  # guard: test_slots_that_are_filled_without_the_queue_are_not_offered_in_it
        return deliveries[share:]

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
            log.warning("valkey_lost", queue=self._delivery_queue.queue, cause=repr(error))
            return PAUSE_AFTER_LOSS
        return self._poll * random.uniform(0.8, 1)  # noqa: S311  # so that workers do not poll in step

    async def _take(self) -> None:
        """Start as many deliveries as there are free slots.

        A delivery leaves the queue when it starts. arq's own loop would keep it there until it ends, so deliveries of a
        worker that died or cannot reach Valkey would fill the queue. A delivery that is lost here is claimed again.
        """
        free = self._slots - len(self._running)
        if free > 0:
            self._asked_for = free  # guard: test_slots_for_which_the_queue_is_asked_are_not_filled_without_it
            try:
                taken = await self._delivery_queue.take(self._id, free)
            finally:
                self._asked_for = 0
            self._is_counted = len(taken) < free
            self._run(taken)
        elif self._is_counted:
            await self._delivery_queue.leave(
                self._id
            )  # guard: test_slots_that_are_filled_without_the_queue_are_not_offered_in_it
            self._is_counted = False

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


def _as_it_is(job: Any) -> dict[str, Any]:  # Any: the reply of FakeArqClient
    assert isinstance(job, dict), "FakeArqClient serializes nothing"
    return job
