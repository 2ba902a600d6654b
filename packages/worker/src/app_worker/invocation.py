"""Calls a handler within its time limit; any exception of the handler ends its attempt, and nothing else."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from app_worker.attempt import Attempt
from app_worker.context import JobContext
from app_worker.outcome import this_task
from app_worker.registry import Handler
from app_worker.results import require_storable
from app_worker.threads import HandlerExited, job_threads
from app_worker.time_limit import time_limit


class HandlerTimeout(TimeoutError):
    """The handler took longer than its `timeout`."""


class HandlerCancelled(Exception):
    """The handler or a library, and not the worker, cancelled the task of the handler."""


async def call(
    handler: Handler, context: JobContext, payload: Any, *, attempt: Attempt, is_ours: Callable[[], bool]
) -> Any:  # Any: see Handler
    """Call the handler and return its result.

    `is_ours` tells whether the worker has cancelled the task.

    Raises:
        HandlerTimeout: when the handler takes too long.
        HandlerCancelled: when the handler or a library cancelled the task.
        HandlerExited: when the handler raised SystemExit, KeyboardInterrupt or the like.
        ResultTooLarge, TypeError, ValueError: when the result cannot be stored.
        asyncio.CancelledError: when the worker cancelled the task.
    """
    attempt.was_called = True
    before = this_task().cancelling()
    try:
        with job_threads(handler.payload_class.kind):
            result = await _call_in_time(handler, context, payload)
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


async def _call_in_time(handler: Handler, context: JobContext, payload: Any) -> Any:  # Any: see Handler
    limit: asyncio.Timeout | None = None
    try:
        async with time_limit(handler.timeout) as limit:
            return await handler.function(context, payload)
    except TimeoutError as error:
        if limit is None or not limit.expired():
            raise
        raise HandlerTimeout(f"the handler took longer than its timeout of {handler.timeout}") from error


async def _forget_cancellations(before: int) -> None:
    """Undo the cancellations by the handler: else the next `await` of the runner would raise CancelledError."""
    task = this_task()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # before Python 3.13, `uncancel` does not undo a cancellation that is not delivered yet
    while task.cancelling() > before:
        task.uncancel()
