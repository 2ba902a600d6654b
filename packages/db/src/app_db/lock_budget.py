"""The lock budget of a revision: all statements of a try together wait for locks for less time than a request.

A statement that changes a table waits for its readers, and all later statements on the table wait behind it. The
revision keeps the locks that it has already, meanwhile.
"""

import time
from contextlib import closing
from textwrap import shorten
from typing import Any, Self

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError

_WORTH_REPEATING = frozenset({"55P03", "40P01"})  # lock timeout, deadlock
_LEAST = 0.05  # seconds for a statement after the earlier ones have used up the budget

# A table counts if its name is a word of the statement, whatever characters it has.
_HOLDERS = text(r"""
    SELECT string_agg(DISTINCT format('%s (pid %s)', coalesce(nullif(application_name, ''), 'a client'), pid), ', ')
    FROM pg_locks JOIN pg_stat_activity USING (pid) JOIN pg_class ON pg_class.oid = relation
    WHERE granted AND pid <> pg_backend_pid() AND relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'm')
        AND CAST(:statement AS text) ~* ('\m' || regexp_replace(relname, '(\W)', '\\\1', 'g') || '\M')
""")
# An invalid index that an earlier try has left: IF NOT EXISTS would accept it.
_UNFINISHED = r"""
    SELECT quote_ident(relname) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = 'public'::regnamespace
        AND $1 ~* ('\m' || regexp_replace(relname, '(\W)', '\\\1', 'g') || '\M')
"""


class LockBudget:
    """Sets `lock_timeout` before each statement of a connection to what is left of `per_try` seconds.

    A statement with CONCURRENTLY blocks nobody while it waits, so it may wait until `deadline` (`time.monotonic`).
    """

    def __init__(self, connection: Connection, *, per_try: float, deadline: float) -> None:
        self._connection = connection
        self._per_try = self._left = per_try
        self._deadline = deadline
        self._began = 0.0

    def __enter__(self) -> Self:
        event.listen(self._connection, "before_cursor_execute", self._before)
        event.listen(self._connection, "after_cursor_execute", self._after)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._before)
        event.remove(self._connection, "after_cursor_execute", self._after)

    def renew(self) -> None:
        """Restore the whole budget for another try or the next revision: no lock is held any more."""
        self._left = self._per_try

    def explain(self, error: DBAPIError) -> str | None:
        """Return which statement got no lock, and which sessions may hold it; None for other errors."""
        if getattr(error.orig, "sqlstate", None) not in _WORTH_REPEATING:
            return None
        statement = " ".join(line for line in str(error.statement).splitlines() if not line.startswith("--"))
        holders = self._connection.scalar(_HOLDERS, {"statement": statement})
        self._connection.rollback()
        beside = f" beside {holders}" if holders else ""
        return f"{shorten(statement, 100, placeholder='…')} cannot have its lock{beside}"

    # Any: as SQLAlchemy calls it
    def _before(self, connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        with closing(connection.connection.cursor()) as own:
            if "CONCURRENTLY" in statement.upper():
                limit = self._deadline - time.monotonic()
                if "CREATE" in statement.upper():
                    self._drop_unfinished(own, statement)
            else:
                limit = self._left
            milliseconds = round(1000 * max(limit, _LEAST))
            own.execute(
                "SELECT set_config('lock_timeout', $1, false)", (f"{milliseconds}ms",)
            )  # guard: test_a_migration_gives_up_on_a_locked_table
        self._began = time.monotonic()

    def _after(self, connection: Connection, *_: Any) -> None:
        # Outside of a transaction, a statement holds no locks while the next one waits.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            self._left -= time.monotonic() - self._began

    @staticmethod
    def _drop_unfinished(cursor: Any, statement: str) -> None:
        cursor.execute(_UNFINISHED, (statement,))
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS public.{name}")
