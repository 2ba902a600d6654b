"""How large the values of a job may be, so that what is stored can be shown, added to and sent again."""

from datetime import UTC, datetime, timedelta

SMALLINT = 2**15
INTEGER = 2**31
FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""Python knows no time after this year; asyncpg stores the last one as infinity."""
LONGEST_TIMEOUT = timedelta(days=24)
"""Postgres counts the milliseconds of a time limit in 31 bits."""
LONGEST_LEASE = timedelta(hours=1)
"""Of a worker; the end of a lease that lies further ahead was written by a clock that was ahead."""
LONGEST_DELAY = timedelta(days=36_500)
"""How far away a retry or the end of retention may be: from now on it is a date that Python can read."""
LONGEST_NAME = 200
"""Characters of a queue's or a kind's name; routes take no longer ones either."""


def require_name(name: str, what: str) -> None:
    """Refuse a name that Postgres could not keep or index.

    Args:
        name: of a queue or a kind.
        what: how the error calls it.

    Raises:
        ValueError: when it is empty, longer than `LONGEST_NAME`, or holds U+0000 or half a character.
    """
    if not name:
        raise ValueError(f"{what} needs a name")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{what} has {len(name)} characters, {LONGEST_NAME} are allowed"
        )  # guard: test_a_job_on_impossible_terms_is_refused_before_it_is_sent
    if b"\0" in name.encode():  # a ValueError as well for half a character
        raise ValueError(
            f"{what} {name!r} holds U+0000, which Postgres does not keep"
        )  # guard: test_a_job_on_impossible_terms_is_refused_before_it_is_sent
