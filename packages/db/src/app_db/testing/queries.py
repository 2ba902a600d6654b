"""Counts the statements that go to Postgres."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from app_db import Database


@contextmanager
def assert_queries(database: Database, *, max: int) -> Iterator[list[str]]:  # noqa: A002  # reads as a sentence at the call
    """Fail unless the block sends at most `max` statements over both engines; yields them, for the message.

    Example:
        with assert_queries(database, max=1):
            async with database.unit_of_work(read_only=True) as session:
                await UserRepository(session).get(ada.id)
    """
    statements: list[str] = []

    def note(*arguments: Any) -> None:  # Any: (connection, cursor, statement, parameters, context, many)
        statements.append(arguments[2])

    engines = [database.engine.sync_engine, database.read_engine.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
    assert len(statements) <= max, f"{len(statements)} queries, expected at most {max}:\n" + "\n".join(statements)
