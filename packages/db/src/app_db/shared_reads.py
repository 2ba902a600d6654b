"""A query of every request: concurrent requests share it, and it goes to the driver directly (ADR-0033)."""

import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, CursorResult, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import await_only, greenlet_spawn

from app_db.dialect import FAILED_WITH, dialect_of
from app_db.driver import DriverConnection
from app_db.shared_queries import SharedQueries, Take

type Parameters = Mapping[str, Any]
type Values = Sequence[Any]
"""A row, as asyncpg or SQLAlchemy returns it: a text column of an enum is a text or a member."""


class SharedRead:
    """A statement that takes an array for each parameter, and answers all calls of a moment at once."""

    def __init__(self, engine: AsyncEngine, statement: Select[*tuple[Any, ...]], *, sizes: Counter[int]) -> None:
        """`statement` returns at most a row for each call, whose last column is the number of the call, from 1."""
        self._engine = engine.sync_engine
        self._pooled = dialect_of(engine).pooled
        self._statement = statement
        compiled = statement.compile(dialect=self._engine.dialect)
        assert isinstance(compiled, SQLCompiler), "what compiles a select"
        self.sql, self._names = compiled.string, compiled.positiontup or []
        self.calls: SharedQueries[Parameters, Values | None] = SharedQueries(self._read, sizes)

    async def _read(self, take: Take[Parameters]) -> list[Values | None]:
        calls: list[Parameters] = []

        def read() -> list[Values | None]:
            with self._engine.connect() as connection:
                calls.extend([] if calls else take())
                answers: list[Values | None] = [None] * len(calls)
                for row in self._fetch(connection, calls) if calls else ():
                    answers[row[-1] - 1] = row
                return answers

        try:
            return await greenlet_spawn(read)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # Once more, together: each for itself would need as many connections at once.
        return await greenlet_spawn(read)  # guard: test_a_connection_that_is_lost_costs_no_call_that_shared_it

    def _fetch(self, connection: Connection, calls: list[Parameters]) -> Iterable[Values]:
        """Ask the driver; a statement of SQLAlchemy costs five times as much."""
        arrays = [[call[name] for call in calls] for name in self._names]
        # As SQLAlchemy tells it, but without a cursor; listeners keep what they like in the context.
        noted = connection, None, self.sql, arrays, SimpleNamespace(), False
        for note in self._engine.dispatch.before_cursor_execute:
            note(*noted)  # guard: test_calls_of_one_moment_share_a_query
        driver = connection.connection.driver_connection
        assert isinstance(driver, DriverConnection), "what app_db.hosts makes"
        try:
            rows: Iterable[Values] = await_only(self._ask(driver, arrays))
        except BaseException as error:
            # What may be right the next time is asked again, the way that knows changed schemas. Waiting again is not.
            is_final = isinstance(error, OSError) or not isinstance(error, Exception)
            return self._execute(connection, calls, **({FAILED_WITH: error} if is_final else {}))
        driver.idle_since = time.monotonic()
        for note in self._engine.dispatch.after_cursor_execute:
            note(*noted)
        return rows

    def _ask(self, driver: DriverConnection, arrays: list[Any]) -> Awaitable[Iterable[Values]]:
        if self._pooled:
            return driver.fetch_read_only(self.sql, *arrays)  # guard: test_shared_reads_through_a_pooler_cannot_write
        asked: Awaitable[Iterable[Values]] = driver.fetch(self.sql, *arrays)
        return asked

    def _execute(
        self, connection: Connection, calls: list[Parameters], **options: BaseException
    ) -> CursorResult[*tuple[Any, ...]]:
        arrays = {name: [call[name] for call in calls] for name in self._names}
        return connection.execute(self._statement, arrays, execution_options=options)
