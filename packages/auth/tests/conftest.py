"""Fixtures that call a service as a request does, without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import pytest
from sqlalchemy import event

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_db.types import utcnow

type Refresh = Callable[..., Awaitable[IssuedTokens]]
type Recognise = Callable[..., Awaitable[Principal]]


@pytest.fixture
def refresh(auth: Auth, database: Database) -> Refresh:
    """Return a function that exchanges a refresh token, and commits."""

    async def refresh(token: str, *, now: datetime | None = None) -> IssuedTokens:
        return await sessions.refresh(auth, database, token=token, client=NOBODY, now=now or utcnow())

    return refresh


@pytest.fixture
def recognise(auth: Auth, database: Database) -> Recognise:
    """Return a function that finds the principal of an access token."""

    async def recognise(token: str, *, now: datetime | None = None) -> Principal:
        return await sessions.authenticate(auth, database, token=token, now=now or utcnow())

    return recognise


@pytest.fixture
async def narrow(database: Database, database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The same database through a pool of one connection: a session that holds it makes all others wait."""
    async with open_database(database_settings.model_copy(update={"pool_size": 1}), name="narrow") as narrow:
        yield narrow


@pytest.fixture
def taken(narrow: Database) -> asyncio.Event:
    """Return an event that is set when a session takes the connection of `narrow`."""
    taken = asyncio.Event()
    event.listen(narrow.engine.sync_engine, "checkout", lambda *_: taken.set())
    return taken
