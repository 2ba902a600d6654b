"""SQLAlchemy's dialect for asyncpg: repeats statements after a change of the schema, drops silent connections.

It asks a new server nothing: what SQLAlchemy wants to know, the driver has been told, or our connections set.
"""

import time
from typing import Any, Literal

import asyncpg
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from app_db.outage import is_out_of_date

URL = "postgresql+groundwork://"
"""For `create_async_engine`, with an `async_creator`."""

FAILED_WITH = "failed_with"
"""An option of an execution: the error that the driver has raised, when it was asked without SQLAlchemy."""


class Dialect(PGDialect_asyncpg):  # Any below: SQLAlchemy has no types for these
    """Repeats a statement that was prepared before the schema changed, if repeating has no second effect.

    That is so for the first statement of a transaction, which is rolled back, and in autocommit for a statement that
    Postgres has refused.
    """

    supports_statement_cache = True

    def __init__(self, only_reads: bool = False, pooled: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002  # SQLAlchemy finds it so
        """Take what the engine is for.

        Args:
            only_reads: the engine cannot write, so any statement in autocommit may be repeated.
            pooled: the engine leads through a pooler of transactions.
            options: of SQLAlchemy.
        """
        super().__init__(**options)  # type: ignore[no-untyped-call]  # SQLAlchemy gives it no types
        self._only_reads = only_reads
        self.pooled = pooled
        """Whether each transaction may run in another session (ADR-0075)."""
        self.suspected_at = 0.0
        """When a statement last got no reply: connections that were not used since are pinged before use."""
        self.left_at = 0.0
        """When the server was found silent, or no longer primary: connections opened before are not used again."""
        self._condemned_at = 0.0

    def on_connect(self) -> Any:
        """Return what prepares a new connection: behind a pooler without names, and read-only by each transaction."""
        prepare: Any = super().on_connect()  # type: ignore[no-untyped-call]  # as above
        if not self.pooled:
            return prepare

        def prepare_pooled(connection: Any) -> None:
            connection._prepared_statement_cache = None  # guard: test_a_type_change_behind_a_pooler_breaks_nothing
            connection.readonly = self._only_reads  # guard: test_reads_through_a_pooler_cannot_write
            prepare(connection)

        return prepare_pooled

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Execute a statement; repeat it once if a cached plan or type is out of date."""
        if context is not None and (error := context.execution_options.get(FAILED_WITH)) is not None:
            raise error
        is_first = cursor._adapt_connection._transaction is None
        try:
            cursor.execute(statement, parameters)
        except self.loaded_dbapi.Error as error:
            if not self._takes_back(cursor, statement, error, is_first=is_first):
                self._let_go(cursor, error)
                raise
            cursor.execute(statement, parameters)
            self._forget_plans()  # so that statements prepared before the change are prepared again
        cursor._connection.idle_since = time.monotonic()

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Terminate a connection that was opened before another fell silent; close all others regularly."""
        if dbapi_connection.driver_connection.opened_at <= self._condemned_at:
            dbapi_connection.driver_connection.terminate()  # guard: test_one_silent_connection_condemns_the_others
        super().do_terminate(dbapi_connection)

    def condemn(self) -> None:
        """Let `do_terminate` drop all connections that are open now, because one of them has fallen silent."""
        self._condemned_at = time.monotonic()

    def suspect(self) -> None:
        """Remember that a caller has waited in vain, or was cancelled while it waited."""
        self.suspected_at = time.monotonic()

    def leave(self) -> None:
        """Use no open connection again: the server is silent, or another server may be the primary."""
        self.left_at = time.monotonic()

    def get_default_isolation_level(self, dbapi_conn: Any) -> Literal["READ COMMITTED"]:
        """Return that of `hosts.STEADY`, which each connection sets."""
        return "READ COMMITTED"

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        # Postgres names it to each new connection. The driver counts 18.4 as 18, 0, 4.
        version = connection.connection.dbapi_connection.driver_connection.get_server_version()
        return (version.major, version.micro or version.minor)

    def _get_default_schema_name(self, connection: Any) -> str:
        return "public"

    def _set_backslash_escapes(self, connection: Any) -> None:
        self._backslash_escapes = False

    def _forget_plans(self) -> None:
        self._invalidate_schema_cache()  # type: ignore[no-untyped-call]  # as above

    def _let_go(self, cursor: Any, error: Any) -> None:
        """Give the pooler its session back, which waits for the arguments of a statement that cannot have them."""
        is_ours = type(error.__cause__) is asyncpg.DataError  # raised after Parse, before Bind and Sync
        if self.pooled and is_ours and cursor._adapt_connection._transaction is None:
            await_only(
                cursor._connection.execute("SELECT")
            )  # guard: test_an_argument_that_does_not_fit_keeps_no_session

    def _takes_back(self, cursor: Any, statement: str, error: Any, *, is_first: bool) -> bool:
        """Drop the caches that are out of date, roll back, and return whether the statement may be repeated."""
        connection, cause = cursor._adapt_connection, error.__cause__
        driver = connection._connection
        if not is_out_of_date(cause, was_known=driver.prepared_at < driver.idle_since):
            return False
        # A DataError does not prove a change of the schema: the argument may never have fitted the column.
        error.is_out_of_date = not isinstance(cause, asyncpg.DataError)
        self._forget_plans()
        cursor._invalidate_schema_cache_asof = self._invalidate_schema_cache_asof
        if is_first and connection._transaction is not None:
            connection.rollback()
            return True
        # The driver raises this when it reads the rows, after the statement has had its effect.
        has_happened = isinstance(cause, asyncpg.OutdatedSchemaCacheError)
        return is_first and (self._only_reads or not has_happened)


def dialect_of(engine: AsyncEngine) -> Dialect:
    """Return the dialect of an engine of ours."""
    dialect = engine.sync_engine.dialect
    assert isinstance(dialect, Dialect), "what app_db.connections makes"
    return dialect


registry.register("postgresql.groundwork", __name__, Dialect.__name__)
