"""No value of a user is in an error of the database (docs/how-to/operations.md: no line holds an address)."""

import traceback

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_db import Database
from app_db.models import User
from app_db.types import new_id

ADDRESS = "anna@example.test"
TWICE = """
    INSERT INTO users (id, email, email_canonical, password_hash)
    SELECT uuidv7(), :value, :value, 'x' FROM generate_series(1, 2)
"""
NO_ROW = "INSERT INTO users (id, email_canonical, password_hash) VALUES (uuidv7(), :value, :value)"
NO_NUMBER = "SELECT CAST(CAST(:value AS text) AS integer)"
NO_UUID = "SELECT id FROM users WHERE id = :value"


@pytest.mark.parametrize("statement", [TWICE, NO_ROW, NO_NUMBER, NO_UUID])
async def test_no_error_of_the_database_shows_a_value(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError) as raised:
        async with database.sessions.begin() as session:
            await session.execute(text(statement), {"value": ADDRESS})

    shown = "".join(traceback.format_exception(raised.value))
    assert ADDRESS not in shown
    assert "users" in shown or "integer" in shown


async def test_a_value_that_the_driver_cannot_send_is_not_shown(database: Database) -> None:
    with pytest.raises(DBAPIError) as raised:
        async with database.sessions.begin() as session:
            await session.get(User, ADDRESS)
    other = User(id=new_id(), email="a", email_canonical="a", password_hash="x", email_verified_at=ADDRESS)
    with pytest.raises(DBAPIError) as also:
        async with database.sessions.begin() as session:
            session.add(other)

    assert ADDRESS not in "".join(traceback.format_exception(raised.value) + traceback.format_exception(also.value))
