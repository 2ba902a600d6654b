"""Calling a handler: within its time, and so that whatever it does ends the attempt and nothing else."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from app_worker.attempt import Attempt
from app_worker.context import JobContext
from app_worker.outcome import this_task
from app_worker.registry import Handler
from app_worker.results import require_storable
from app_worker.threads import HandlerExited, in_hand
from app_worker.time_limit import time_limit


class HandlerTimeout(TimeoutError):
    """The handler took longer than its `timeout`."""


class HandlerCancelled(Exception):
    """The handler's task was cancelled, and the worker did not do it: the handler or a library called `cancel()`."""


async def call(
    handler: Handler, context: JobContext, payload: Any, *, attempt: Attempt, is_ours: Callable[[], bool]
) -> Any:  # Any: see Handler
    """Return what the handler returns.

    `is_ours` says whether it is the worker that ends the task.

    Raises:
        HandlerTimeout: when it takes too long.
        HandlerCancelled, HandlerExited: when its end was meant for a task or a process, and is but the end of a job.
        ResultTooLarge, TypeError, ValueError: when it returns what cannot be kept.
        asyncio.CancelledError: when the worker ends it.
    """
    attempt.was_called = True
    before = this_task().cancelling()
    try:
        with in_hand(handler.payload_class.kind):
            result = await _in_time(handler, context, payload)
    except asyncio.CancelledError as error:
        if is_ours():
            raise
        raise HandlerCancelled(HandlerCancelled.__doc__) from error  # guard: test_a_handler_that_cancels_itself_fails
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        raise HandlerExited(error) from error  # guard: test_whatever_a_handler_raises_is_one_failed_attempt
    finally:
        if this_task().cancelling() > before and not is_ours():
            await _forget_cancellations(
                before
            )  # guard: test_a_handler_that_cancelled_itself_and_returned_has_completed
    if result is not None:
        require_storable(result)
    return result


async def _in_time(handler: Handler, context: JobContext, payload: Any) -> Any:  # Any: see Handler
    limit: asyncio.Timeout | None = None
    try:
        async with time_limit(handler.timeout) as limit:
            return await handler.function(context, payload)
    except TimeoutError as error:
        if limit is None or not limit.expired():
            raise
        raise HandlerTimeout(f"the handler took longer than its timeout of {handler.timeout}") from error


async def _forget_cancellations(before: int) -> None:
    """Take back what the handler did to the task that runs it, or our next await would be what ends."""
    task = this_task()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # before Python 3.13 a cancellation that is due is not taken back by `uncancel`
    while task.cancelling() > before:
        task.uncancel()
