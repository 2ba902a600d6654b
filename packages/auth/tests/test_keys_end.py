"""Keys for machines end with the rights of their owner; without the feature there are none."""

import pytest
from sqlalchemy import func, insert, select

from app_auth import accounts, links
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.models import AuditEvent, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.types import new_id, utcnow

ApiKey = pytest.importorskip("app_db.features.api_keys.models").ApiKey


async def an_account_with_a_key(make_account: MakeAccount, database: Database) -> Account:
    ada = await make_account()
    async with database.unit_of_work() as session:
        values = {"user_id": ada.id, "name": "ci", "scopes": [], "digest": b"", "key_id": "1", "expires_at": utcnow()}
        await session.execute(insert(ApiKey).values(id=new_id(), **values))
    return ada


async def keys_in(database: Database) -> int:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(func.count()).select_from(ApiKey))).one()


async def noted(database: Database, event: str) -> object:
    async with database.unit_of_work(read_only=True) as session:
        row = (await session.scalars(select(AuditEvent).where(AuditEvent.event == event))).one()
    return row.details.get("keys")


async def test_a_reset_revokes_every_key(make_account: MakeAccount, auth: Auth, database: Database) -> None:
    ada = await an_account_with_a_key(make_account, database)
    async with database.unit_of_work() as session:
        user = (await session.scalars(select(User).where(User.id == ada.id))).one()
        token = auth.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        await OneTimeTokenRepository(session).replace(token)
        link = auth.one_time_tokens.derive(token)

    async with database.unit_of_work() as session:
        await links.reset_password(auth, session, token=link, new_password="another one, long 77", client=NOBODY)

    assert await keys_in(database) == 0
    assert await noted(database, "password_reset") == 1


async def test_disabling_an_account_revokes_its_keys(make_account: MakeAccount, database: Database) -> None:
    ada = await an_account_with_a_key(make_account, database)

    async with database.unit_of_work() as session:
        await accounts.disable(session, email=ada.email)

    assert await keys_in(database) == 0
    assert await noted(database, "account_disabled") == 1
