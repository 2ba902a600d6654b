"""Limits of the values of a job, so that every stored value can be read, shown and sent again."""

from datetime import UTC, datetime, timedelta

SMALLINT = 2**15
INTEGER = 2**31
FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""Python has no year 10000; asyncpg stores the last datetime as infinity."""
LONGEST_TIMEOUT = timedelta(days=24)
"""Postgres counts the milliseconds of a time limit in 31 bits."""
LONGEST_LEASE = timedelta(hours=1)
"""The longest lease of a worker; a lease that ends later was written by a clock that was ahead."""
LONGEST_DELAY = timedelta(days=36_500)
"""The longest delay of a retry and the longest retention: Python can read the date when it is over."""
LONGEST_NAME = 200
"""Characters of the name of a queue or a kind; the routes of the API have the same limit."""


def require_name(name: str, what: str) -> None:
    """Refuse a name that Postgres cannot store or index.

    Args:
        name: the name of a queue or a kind.
        what: what the name belongs to, for the error message.

    Raises:
        ValueError: when it is empty, longer than `LONGEST_NAME`, or holds U+0000 or a lone surrogate.
    """
    if not name:
        raise ValueError(f"{what} needs a name")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{what} has {len(name)} characters, {LONGEST_NAME} are allowed"
        )  # guard: test_a_job_on_impossible_terms_is_refused_before_it_is_sent
    if b"\0" in name.encode():  # encode() raises a ValueError for a lone surrogate
        raise ValueError(
            f"{what} {name!r} holds U+0000, which Postgres does not keep"
        )  # guard: test_a_job_on_impossible_terms_is_refused_before_it_is_sent


def require_run_at(run_at: datetime) -> None:
    """Refuse a time that is ambiguous, or that Postgres keeps as infinity.

    Raises:
        ValueError: when it has no zone, or is not between `FIRST_TIME` and `LAST_TIME`.
    """
    if run_at.utcoffset() is None:
        raise ValueError(f"run_at {run_at} has no time zone, so it is ambiguous")
    if not FIRST_TIME <= run_at < LAST_TIME:
        raise ValueError(
            f"run_at {run_at} is not between {FIRST_TIME:%Y-%m-%d} and {LAST_TIME:%Y-%m-%d}"
        )  # guard: test_a_job_on_impossible_terms_is_refused_before_it_is_sent
