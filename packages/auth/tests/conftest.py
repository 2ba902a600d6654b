"""Fixtures that call a service as a request does, without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import Column, Table, Uuid, event, update

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import NOBODY
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.testing import Account, MakeAccount
from app_db import Database, Session, open_database
from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base
from app_db.models import User
from app_db.settings import DatabaseSettings
from app_db.types import utcnow

type Refresh = Callable[..., Awaitable[IssuedTokens]]
type Recognise = Callable[..., Awaitable[Principal]]
type Refused = Callable[[Callable[[Session], Awaitable[object]]], Awaitable[SecondFactorRequired]]


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


@pytest.fixture
def keen(auth: Auth) -> Auth:
    """Authentication with a second factor that is there, whichever features are."""
    return replace(auth, second_factors={"pigeon"})


@pytest.fixture
async def ada(make_account: MakeAccount, database: Database) -> Account:
    """An account with a second factor."""
    account = await make_account()
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == account.id).values(second_factors=["pigeon"]))
    return account


@pytest.fixture
def refused(database: Database) -> Refused:
    """Return a function that expects a challenge, and stores it as the edge does: after the rollback."""

    async def refused(work: Callable[[Session], Awaitable[object]]) -> SecondFactorRequired:
        with pytest.raises(SecondFactorRequired) as caught:
            async with database.unit_of_work() as session:
                await work(session)
        async with database.unit_of_work() as session:
            await caught.value.aftermath(session)
        return caught.value

    return refused


@pytest.fixture
async def ways_in(database: Database) -> AsyncIterator[Table]:
    """A table of what signs in by itself, as a feature might have one."""
    columns = (Column("id", Uuid, primary_key=True), Column("user_id", Uuid))
    table = Table("ways_in", Base.metadata, *columns, info=part_of_account(AccountPart.WAY_IN)["info"])
    async with database.engine.begin() as connection:
        await connection.run_sync(table.create)
    yield table
    async with database.engine.begin() as connection:
        await connection.run_sync(table.drop)
    Base.metadata.remove(table)
