"""Telling a database that cannot answer from one that answers no."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app_db.errors import Unavailable

# SQLSTATE classes and codes (PostgreSQL, appendix A) after which the same request may succeed a moment later.
_PASSING_CLASSES = ("08", "53", "57")  # connection, resources, operator intervention (a cancelled statement included)
_PASSING_CODES = frozenset({"55P03", "40001", "40P01"})  # lock timeout, serialization failure, deadlock
READ_ONLY = "25006"
"""SQLSTATE of a write on a standby, or in a transaction that only reads."""
_SHUTDOWN = frozenset({"57P01", "57P02", "57P03"})  # by an administrator, after a crash, not accepting connections yet


class DatabaseUnavailable(Unavailable):
    """The database does not answer right now. Try again in a moment."""

    code = "database_unavailable"


class NoAnswer(OSError):
    """Postgres could not be reached, or did not answer in time."""


@contextmanager
def naming_no_answer() -> Iterator[None]:
    """Tell the driver's bare OSErrors, time-outs among them, from those of a handler's files and HTTP calls."""
    try:
        yield
    except OSError as exc:
        raise NoAnswer(str(exc) or "no answer in time") from exc


def is_outage(error: BaseException, *, read_only: bool = False) -> bool:
    """Whether the database, not the statement, is what failed.

    A refusal to write means that a fail-over is under way; on the read engine it is a fault of ours.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, NoAnswer | PoolTimeoutError)
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:  # the driver itself refused: an argument that it cannot send, or a connection that is gone
        return error.connection_invalidated
    return state.startswith(_PASSING_CLASSES) or state in _PASSING_CODES or (state == READ_ONLY and not read_only)


def is_connection_lost(error: BaseException) -> bool:
    """Whether the database went away: nothing that a statement has done by itself, so repeating it is fair."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, NoAnswer)
    state: str | None = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated if state is None else state.startswith("08") or state in _SHUTDOWN
