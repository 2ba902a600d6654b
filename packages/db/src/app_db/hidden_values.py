"""Removes values from errors of the database: log and ledger keep errors, even after an account is deleted."""

import re

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

# The messages of asyncpg for arguments that it cannot send, and of Postgres for texts that it cannot read.
_VALUE = re.compile(r"(query argument \$\d+: |invalid (?:input )?(?:syntax|value) for [^:]*: ).*$", re.DOTALL)


def hide_values(engine: AsyncEngine) -> None:
    """Remove values from all errors of this engine.

    `hide_parameters` hides those of a statement. Postgres's DETAIL has them too: `Key (email)=(ada@example.com)
    already exists`, or the whole row. The error still names constraint, column and statement.
    """

    @event.listens_for(engine.sync_engine, "handle_error")
    def hide(context: ExceptionContext) -> None:
        driver = context.original_exception.__cause__
        for link in (context.sqlalchemy_exception, context.original_exception, driver):
            if link is not None:
                link.args = tuple(_without_values(part) if isinstance(part, str) else part for part in link.args)
        if isinstance(driver, asyncpg.PostgresError):
            driver.detail = None  # guard: test_no_error_of_the_database_shows_a_value
            driver.__cause__ = driver.__context__ = None  # it repeats the value that could not be sent


def _without_values(message: str) -> str:
    return _VALUE.sub(r"\1…", message)
