"""Exception groups: asyncio.TaskGroup raises one even for a single error of a task."""

from collections.abc import Iterator

from app_worker.context import Discard, Snooze
from app_worker.mail_errors import MailUndeliverable


def as_one(error: BaseException) -> BaseException:
    """Return the exception that decides the outcome of an attempt: the error itself, or one of its group.

    Discard and MailUndeliverable come first, then failures. If the group holds only Snooze, the longest delay counts.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    if (final := error.subgroup((Discard, MailUndeliverable))) is not None:
        return next(_members(final))
    snoozes, failures = error.split(Snooze)
    if failures is not None:
        return failures
    assert snoozes is not None, "a group has members"
    return max((each for each in _members(snoozes) if isinstance(each, Snooze)), key=lambda snooze: snooze.delay)


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _members(each)
        else:
            yield each
