"""Endpoints of an account: who makes them, how many there are, and what ends them all."""

import asyncio

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from app_auth import accounts, links, sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import SessionEnded
from app_auth.features.webhooks import service
from app_auth.features.webhooks.errors import TooManyEndpoints
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn
from app_db import Database
from app_db.features.webhooks.event_names import EventName
from app_db.features.webhooks.models import WebhookEndpoint
from app_db.models import TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow


@pytest_asyncio.fixture(loop_scope="session")
async def ada(make_account: MakeAccount) -> Account:
    """An account."""
    return await make_account()


@pytest_asyncio.fixture(loop_scope="session")
async def principal(ada: Account, sign_in: SignIn, auth: Auth, database: Database) -> Principal:
    """Ada, who has just signed in."""
    return await sessions.authenticate(auth, database, token=(await sign_in(ada)).access_token)


async def make(auth: Auth, database: Database, principal: Principal) -> service.Shown:
    async with database.unit_of_work() as session:
        return await service.create_endpoint(
            auth,
            session,
            principal,
            url="https://hooks.example.com/",
            events=[EventName.JOB_COMPLETED],
            allowed=(),
            client=NOBODY,
        )


async def count(database: Database) -> int:
    async with database.unit_of_work(read_only=True) as session:
        return int((await session.scalars(select(func.count()).select_from(WebhookEndpoint))).one())


async def test_of_endpoints_at_once_no_more_are_made_than_an_account_may_have(
    auth: Auth, database: Database, principal: Principal
) -> None:
    for _ in range(service.PER_ACCOUNT - 1):
        await make(auth, database, principal)

    made = await asyncio.gather(*(make(auth, database, principal) for _ in range(4)), return_exceptions=True)

    assert await count(database) == service.PER_ACCOUNT
    assert sum(isinstance(each, TooManyEndpoints) for each in made) == 3


async def test_no_endpoint_is_made_by_a_session_that_was_just_ended(
    auth: Auth, database: Database, principal: Principal, ada: Account
) -> None:
    async with database.unit_of_work() as session:
        await UserSessionRepository(session).end_all(ada.id)

    with pytest.raises(SessionEnded):
        await make(auth, database, principal)


async def test_a_reset_of_the_password_ends_the_endpoints(
    auth: Auth, database: Database, principal: Principal, ada: Account
) -> None:
    """Nobody knows who has made them."""
    await make(auth, database, principal)
    async with database.unit_of_work() as session:
        user = (await session.scalars(select(User).where(User.id == ada.id))).one()
        token = auth.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        await OneTimeTokenRepository(session).replace(token)
        link = auth.one_time_tokens.derive(token)

    async with database.unit_of_work() as session:
        await links.reset_password(auth, session, token=link, new_password="another one, long 77", client=NOBODY)

    assert await count(database) == 0


async def test_whoever_is_disabled_gets_no_events(
    auth: Auth, database: Database, principal: Principal, ada: Account
) -> None:
    await make(auth, database, principal)

    async with database.unit_of_work() as session:
        await accounts.disable(session, email=ada.email)

    assert await count(database) == 0
