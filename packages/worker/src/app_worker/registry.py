"""Handlers, and the registry that finds the handler of a kind."""

import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Concatenate

from app_db.jobs.bounds import LONGEST_DELAY, LONGEST_TIMEOUT, SMALLINT
from app_db.jobs.payload import JobPayload
from app_runtime.discovery import FeatureError
from app_runtime.texts import safe_repr
from app_worker.context import JobContext

DAY = timedelta(days=1)
DEFAULT_MAX_ATTEMPTS = 20


class Mode(StrEnum):
    """How a handler's writes and the completion of its job are committed (docs/how-to/jobs.md)."""

    TX = "tx"
    """One transaction: the handler's writes and the completion commit together. For short work in the database."""
    LEASE = "lease"
    """The start is committed, heartbeats renew the lease, writes are fenced. For long work and outside effects."""


def default_backoff(attempt: int) -> timedelta:
    """Return how long to wait after failed attempt number `attempt`: 16 s, 31 s, 96 s, … up to a day, ± 15 %."""
    seconds = min(15 + attempt**4, DAY.total_seconds())
    return timedelta(seconds=seconds * random.uniform(0.85, 1.15))  # noqa: S311  # jitter, not a secret


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler function with its mode, limits and retention."""

    payload_class: type[JobPayload]
    function: Callable[..., Awaitable[Any]]  # Any: JSON
    """Called with a JobContext, the payload, and the resources that it asks for (`app_worker.resources`)."""
    mode: Mode
    timeout: timedelta
    max_attempts: int
    backoff: Callable[[int], timedelta]
    keep: timedelta | None

    def __post_init__(self) -> None:
        if not _is_async(self.function):  # else each attempt would have its effects, and then fail
            raise TypeError(
                f"{self.payload_class.kind}: the handler {safe_repr(self.function, 200)} is no `async def`; make it "
                "one, and let it call what blocks by `await asyncio.to_thread(…)`"
            )  # guard: test_a_handler_that_is_no_async_function_is_refused
        if not callable(self.backoff):
            raise TypeError(f"{self.payload_class.kind}: the back-off is a function of the number of the attempt")


def handles[P: JobPayload](
    payload_class: type[P],
    *,
    mode: Mode = Mode.TX,
    timeout: timedelta = timedelta(seconds=30),
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    backoff: Callable[[int], timedelta] = default_backoff,
    keep: timedelta | None = None,
) -> Callable[[Callable[Concatenate[JobContext, P, ...], Awaitable[Any]]], Handler]:
    """Make an async function the handler of a payload class. Any exception it raises is one failed attempt.

    Args:
        payload_class: the class of the payloads that the function gets. Further parameters are resources of features
            (`resources.py`), found by type: `async def call_vet(job: JobContext, payload: CallVet, vet: Vet)`.
        mode: see Mode. A tx handler writes through `job.session`, a lease handler through `job.transaction()`. The
            return value of either (JSON, at most 256 KiB) is the result of the job.
        timeout: the time limit of one attempt.
        max_attempts: after so many failed attempts the job is discarded: it is kept, and not run again.
        backoff: returns the wait before the next attempt, given the number of the failed one.
        keep: how long completed jobs are kept, instead of a day.

    Raises:
        TypeError: for a function that is no `async def`.
        ValueError: for a timeout or a number of attempts that Postgres cannot store, or a retention of more than a
            hundred years.

    Example:
        @handles(EndSessions, timeout=timedelta(seconds=5), max_attempts=3)
        async def end_sessions(job: JobContext, payload: EndSessions) -> str:
            ended = await UserSessionRepository(job.session).end_all(payload.user_id)
            return f"ended {ended}"  # the result
    """
    _require_limits(payload_class.kind, timeout, max_attempts, keep)

    def decorate(function: Callable[Concatenate[JobContext, P, ...], Awaitable[Any]]) -> Handler:
        return Handler(payload_class, function, mode, timeout, max_attempts, backoff, keep)

    return decorate


def _require_limits(kind: str, timeout: timedelta, max_attempts: int, keep: timedelta | None) -> None:
    if not timedelta(0) < timeout <= LONGEST_TIMEOUT:
        raise ValueError(f"{kind}: the timeout is between 0 and {LONGEST_TIMEOUT}, not {timeout}")
    if not 1 <= max_attempts < SMALLINT:
        raise ValueError(f"{kind}: max_attempts is between 1 and {SMALLINT - 1}, not {max_attempts}")
    if keep is not None and not timedelta(0) <= keep <= LONGEST_DELAY:
        raise ValueError(f"{kind}: completed jobs are kept for 0 to {LONGEST_DELAY.days} days, not {keep}")


def _is_async(function: object) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return callable(function) and inspect.iscoroutinefunction(type(function).__call__)


class Registry:
    """All handlers by kind; it refuses duplicates, and kinds without a handler."""

    def __init__(self, handlers: Iterable[Handler], *, catalog: Iterable[type[JobPayload]]) -> None:
        by_kind: dict[str, Handler] = {}
        for handler in handlers:
            kind = handler.payload_class.kind
            if kind in by_kind:
                raise FeatureError(f"two handlers for {kind}: remove one of them")
            by_kind[kind] = handler
        missing = [payload_class for payload_class in catalog if payload_class.kind not in by_kind]
        if missing:
            names = ", ".join(f"{payload_class.kind} ({payload_class.__module__})" for payload_class in missing)
            raise FeatureError(f"no handler for {names}: write it in `handlers.py` of the same feature in app_worker")
        self.by_kind: Mapping[str, Handler] = by_kind
        self.payload_classes = [handler.payload_class for handler in by_kind.values()]
        self.leased_kinds = [kind for kind, handler in by_kind.items() if handler.mode is Mode.LEASE]
        self.retention = {kind: handler.keep for kind, handler in by_kind.items() if handler.keep is not None}
        timeouts = {kind: handler.timeout for kind, handler in by_kind.items()}
        self.longest_timeout = max(timeouts.values(), default=timedelta(0))
        in_tx_mode = (timeout for kind, timeout in timeouts.items() if kind not in self.leased_kinds)
        self.longest_transaction = max(in_tx_mode, default=timedelta(0))
        """The longest timeout of handlers in tx mode; `job.transaction()` has the timeout of its own handler."""
