"""Errors of the database without the values in them: they go into the log and into the ledger, and outlive accounts."""

import re

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

# The messages of asyncpg for arguments that it cannot send, and of Postgres for texts that it cannot read.
_VALUE = re.compile(r"(query argument \$\d+: |invalid (?:input )?(?:syntax|value) for [^:]*: ).*$", re.DOTALL)


def hide_values(engine: AsyncEngine) -> None:
    """Remove values from all errors of this engine.

    `hide_parameters` takes out those of a statement. Postgres's DETAIL has them too: `Key (email)=(ada@example.com)
    already exists`, or the whole row. What is missing can be looked up: constraint, column and statement are named.
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
