"""Blame: whether the statement, a clash with others, or an outage of the database caused a failure."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import asyncpg
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app_db.driver import TransactionEnded, TransactionFailed
from app_db.errors import Unavailable
from app_db.violations import is_being_rebuilt, violated_by

READ_ONLY = "25006"
"""SQLSTATE of a write on a standby, or in a transaction that only reads."""
IN_FAILED_TRANSACTION = "25P02"

# PostgreSQL, appendix A. Limits and clashes with other transactions: a cancelled statement, a lock that was not
# available, a transaction that idled or lasted too long, temporary files, an old snapshot, serialization, deadlock.
_MOMENT_CODES = frozenset({"57014", "55P03", "25P03", "25P04", "53400", "72000"})
_MOMENT_CLASSES = ("40",)
# Errors that do not concern the statement: connection, resources, operator, files, configuration, damage.
_SERVER_CLASSES = ("08", "53", "57", "58", "F0", "XX")
_SERVER_CODES = frozenset({"55006"})  # an operator is using the database, or an object in it, for maintenance
_DAMAGE_CLASSES = ("58", "F0", "XX")
# PgBouncer uses 08P01 for its own limits, which concern the statement.
_LIMITS_OF_A_POOLER = ("query timeout", "idle transaction timeout", "transaction timeout")

# Source files of PostgreSQL that read and write files. Their error codes depend on the errno alone: a read-only
# file system is 42501, as a missing GRANT is.
_STORAGE = re.compile(
    r"(aio\w*|buffile|bufmgr|copydir|fd|fileset|logtape|md|multixact|relmapper|slru|smgr|storage|varsup|xlog\w*)\.c"
)
# A cached plan or type that no longer exists: prepared statements behind a pooler, recreated tables and types.
_OUT_OF_DATE_CODES = frozenset({"26000", "42P05"})
_OUT_OF_DATE_TEXTS = ("cache lookup failed", "could not open relation with OID")


class DatabaseUnavailable(Unavailable):
    """The database does not answer right now. Try again in a moment."""

    code = "database_unavailable"

    def reason(self) -> str:
        """Return the reply of the server."""
        return str(self.__cause__) if isinstance(self.__cause__, Refused) else self.describe()


class NoAnswer(OSError):
    """Postgres could not be reached, or did not answer in time."""


class Refused(NoAnswer):
    """Postgres replied and refused the connection: its password, role, settings or database."""


class AtLimit(Refused):
    """The role or the server has as many connections as it may have (SQLSTATE 53300)."""


class Blame(StrEnum):
    """The cause of a failure, which has to change before the same can succeed."""

    STATEMENT = "statement"
    """The code of the application or its input: it fails again."""
    MOMENT = "moment"
    """A limit, or a clash with another transaction: it may succeed later, but the statement has a part in it."""
    SERVER = "server"
    """The database: it cannot serve any statement now."""


@contextmanager
def naming_no_answer() -> Iterator[None]:
    """Turn OSErrors and time-outs of the driver into NoAnswer: a handler's files and HTTP calls raise OSErrors too."""
    try:
        yield
    except NoAnswer:
        raise
    except OSError as exc:
        raise NoAnswer(str(exc) or "no answer in time") from exc


@contextmanager
def naming_refusals() -> Iterator[None]:
    """Turn errors while connecting into outages: no statement was sent yet, so none can be at fault."""
    try:
        with naming_no_answer():
            yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        reason = f"the database refuses: {exc.args[0] if exc.args else type(exc).__name__}"
        is_full = isinstance(exc, asyncpg.TooManyConnectionsError)
        raise (AtLimit if is_full else Refused)(reason) from exc  # guard: test_a_role_that_is_refused_is_an_outage


def blame(error: BaseException, *, read_only: bool = False) -> Blame:
    """Return what caused a failure: the statement, a clash with others or a limit, or the server.

    A refusal to write means a fail-over; on the read engine it is an error of the application.
    """
    if isinstance(error, PendingRollbackError) and error.__cause__ is not None:
        error = error.__cause__  # code went on after a failed flush (Session.naming_failed_flush)
    match error:
        case TransactionFailed():
            return _blame_for(error.swallowed.sqlstate or "", "") if error.swallowed else Blame.STATEMENT
        case TransactionEnded() | PoolTimeoutError():
            return Blame.MOMENT
        case NoAnswer() | PendingRollbackError(code="8s2b"):  # 8s2b: the session was used after its connection was lost
            return Blame.SERVER
        case DBAPIError():
            return _blame_in(error, read_only=read_only)
        case BaseExceptionGroup():  # one error of the application is enough to fail again
            faults = {blame(each, read_only=read_only) for each in error.exceptions}
            return next(fault for fault in Blame if fault in faults)
        case _:
            return Blame.STATEMENT


def is_outage(error: BaseException, *, read_only: bool = False) -> bool:
    """Return whether the same may succeed a moment later, so that the client should retry."""
    return blame(error, read_only=read_only) is not Blame.STATEMENT


def is_connection_lost(error: BaseException) -> bool:
    """Return whether the database caused the failure and not the statement, so that a job loses no attempt by it."""
    return blame(error) is Blame.SERVER


def was_refused(error: BaseException) -> bool:
    """Return whether Postgres replied to a statement in autocommit with an error, so that it had no effect."""
    replied = isinstance(error, DBAPIError) and not error.connection_invalidated
    return replied and getattr(said_by_the_server(error), "sqlstate", None) is not None


def is_damage(error: BaseException) -> bool:
    """Return whether the server cannot use its own files, so that an operator has to act."""
    cause = said_by_the_server(error)
    state: str = getattr(cause, "sqlstate", None) or ""
    return not is_out_of_date(cause, was_known=False) and (state.startswith(_DAMAGE_CLASSES) or is_storage(cause))


def is_storage(cause: BaseException | None) -> bool:
    """Return whether an error of the driver comes from PostgreSQL's code for files."""
    state: str = getattr(cause, "sqlstate", None) or ""
    where: str = getattr(cause, "server_source_filename", None) or ""
    return bool(_STORAGE.fullmatch(where)) and state.startswith(("42", "54", *_DAMAGE_CLASSES))


def is_out_of_date(cause: BaseException | None, *, was_known: bool) -> bool:
    """Return whether an error of the driver shows that the schema has changed since a statement was prepared.

    If a statement `was_known`, so it was valid before, errors of its names and arguments show that too: a parameter
    keeps the type that it was prepared with.
    """
    if isinstance(cause, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return True
    state: str = getattr(cause, "sqlstate", None) or ""
    text = str(cause.args[0]) if cause and cause.args else ""
    if state in _OUT_OF_DATE_CODES or (state == "XX000" and text.startswith(_OUT_OF_DATE_TEXTS)):
        return True
    is_argument = type(cause) is asyncpg.DataError  # the driver refused the argument and sent nothing
    is_ours = state.startswith("42") and state != "42501" and getattr(cause, "context", None) is None
    return was_known and (is_argument or is_ours)


def _blame_in(error: DBAPIError, *, read_only: bool) -> Blame:
    if getattr(error.orig, "is_out_of_date", False):
        return Blame.SERVER  # guard: test_a_schema_that_changes_in_a_transaction_is_an_outage
    cause = said_by_the_server(error)
    state: str | None = getattr(cause, "sqlstate", None)
    if state is None:  # the driver raised it: an argument that it cannot send, or a lost connection
        return Blame.SERVER if error.connection_invalidated else Blame.STATEMENT
    if state == READ_ONLY:
        # The write engine drops the connection (supervision.py); a write on the read engine is the application's fault.
        return Blame.SERVER if error.connection_invalidated and not read_only else Blame.STATEMENT
    if is_being_rebuilt(violated_by(error)):
        return Blame.MOMENT  # guard: test_a_violation_of_an_index_that_is_rebuilt_is_nobodys_fault
    return Blame.SERVER if is_storage(cause) else _blame_for(state, str(cause))


def _blame_for(state: str, text: str) -> Blame:
    if state in _MOMENT_CODES or state.startswith(_MOMENT_CLASSES):
        return Blame.MOMENT
    if state.startswith("08") and text.endswith(_LIMITS_OF_A_POOLER):
        return Blame.MOMENT
    return Blame.SERVER if state.startswith(_SERVER_CLASSES) or state in _SERVER_CODES else Blame.STATEMENT


def said_by_the_server(error: BaseException) -> BaseException | None:
    """Return the driver's own error; for a closed connection, the server's reason for closing it."""
    if isinstance(error, DBAPIError):
        error = error.orig or error
    cause = error.__cause__ or error
    while isinstance(cause.__cause__, asyncpg.PostgresError):
        cause = cause.__cause__
    return cause
