"""Which function runs which kind of job."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from app_db.features.retention.payloads import PruneJobs, PruneSessions
from app_db.jobs.catalog import CATALOG
from app_runtime.discovery import FeatureError
from app_worker.context import JobContext
from app_worker.handlers import HANDLERS
from app_worker.registry import Registry, default_backoff, handles

from .conftest import Note


@handles(Note)
async def note(job: JobContext, payload: Note) -> None: ...


def test_every_payload_of_the_catalog_has_a_handler() -> None:
    registry = Registry(HANDLERS, catalog=CATALOG)

    assert set(registry.by_kind) == {payload_class.kind for payload_class in CATALOG}


def test_a_payload_without_a_handler_is_refused() -> None:
    complaint = r"no handler for sessions.prune \(app_db.features.retention.payloads\), jobs.prune \(.*\): write it"
    with pytest.raises(FeatureError, match=complaint):
        Registry([note], catalog=[PruneSessions, PruneJobs])


def test_two_handlers_of_one_kind_are_refused() -> None:
    with pytest.raises(FeatureError, match=r"two handlers for test.note: remove one"):
        Registry([note, note], catalog=())


def test_a_registry_without_handlers_has_no_timeout() -> None:
    assert Registry([], catalog=()).longest_timeout == timedelta(0)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 16), (2, 31), (3, 96), (20, 86_400), (1000, 86_400)])
def test_each_failure_waits_longer_up_to_a_day_give_or_take(attempt: int, seconds: int) -> None:
    waits = [default_backoff(attempt).total_seconds() for _ in range(100)]

    assert 0.85 * seconds <= min(waits) < max(waits) <= 1.15 * seconds


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ({"timeout": timedelta(0)}, "the timeout is between 0 and 24 days, 0:00:00, not 0:00:00"),
        ({"timeout": timedelta(days=25)}, "the timeout is between 0 and 24 days"),
        ({"max_attempts": 0}, "max_attempts is between 1 and 32767, not 0"),
        ({"max_attempts": 32768}, "max_attempts is between 1 and 32767, not 32768"),
        ({"keep": timedelta(-1)}, "completed jobs are kept for 0 to 36500 days, not -1 day"),
        ({"keep": timedelta.max}, "completed jobs are kept for 0 to 36500 days"),
    ],
)
def test_rules_that_nobody_could_keep_are_refused(rules: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"test.note: {complaint}"):
        handles(Note, **rules)


def plain(job: JobContext, payload: Note) -> None: ...


async def generates(job: JobContext, payload: Note) -> Any:
    yield 1


class Plain:
    def __call__(self, job: JobContext, payload: Note) -> None: ...


@pytest.mark.parametrize(
    "function",
    [plain, generates, Plain(), partial(plain), lambda job, payload: None, None],
    ids=["plain", "generator", "object", "partial", "lambda", "none"],
)
def test_a_handler_that_is_no_async_function_is_refused(function: Any) -> None:
    """It would have its effects in each attempt, and fail after them (`'NoneType' can't be used in 'await'`)."""
    with pytest.raises(TypeError, match=r"^test.note: the handler .* is no `async def`"):
        handles(Note)(function)


class Async:
    async def __call__(self, job: JobContext, payload: Note) -> None: ...


@pytest.mark.parametrize(
    "function", [Async(), partial(note.function), Async().__call__], ids=["object", "partial", "bound"]
)
def test_whatever_is_async_may_be_a_handler(function: Any) -> None:
    assert handles(Note)(function).function is function


def test_a_back_off_that_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^test.note: the back-off is a function"):
        handles(Note, backoff=timedelta(seconds=1))(note.function)  # type: ignore[arg-type]  # that is the fault
