"""What errors mean that come together: asyncio.TaskGroup wraps what its tasks raise, even a single error."""

from collections.abc import Iterator

from app_worker.context import Discard, Snooze
from app_worker.mail_errors import MailUndeliverable


def as_one(error: BaseException) -> BaseException:
    """Return what decides over an attempt that was ended by this error: itself, or what is in it if it is a group.

    One that says that no attempt will do prevails. The attempt is put off, for the longest delay, if nothing failed.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    if (final := error.subgroup((Discard, MailUndeliverable))) is not None:
        return next(_members(final))
    wishes, failures = error.split(Snooze)
    if failures is not None:
        return failures
    assert wishes is not None, "a group has members"
    return max((each for each in _members(wishes) if isinstance(each, Snooze)), key=lambda wish: wish.delay)


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _members(each)
        else:
            yield each
