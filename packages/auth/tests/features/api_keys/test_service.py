"""Keys are made by who has signed in lately, within bounds, and end with the rights of their owner."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app_auth import accounts
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.errors import ReauthenticationRequired, SessionEnded, Throttled
from app_auth.features.api_keys import service
from app_auth.features.api_keys.errors import (
    InvalidKeyName,
    KeyNameTaken,
    KeyNotFound,
    LifeTooLong,
    TooManyKeys,
    UnknownScope,
)
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.features.api_keys.models import ApiKey
from app_db.features.api_keys.repository import ApiKeyRepository
from app_db.models import AuditEvent
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.testing.jobs import assert_enqueued
from app_db.types import new_id, utcnow
from packages.auth.tests.features.api_keys.conftest import MakeKey


async def keys_of(database: Database, account: Account) -> list[ApiKey]:
    async with database.unit_of_work(read_only=True) as session:
        return await ApiKeyRepository(session).of_user(account.id)


async def events_of(database: Database, account: Account) -> list[AuditEvent]:
    async with database.unit_of_work(read_only=True) as session:
        return list(await session.scalars(select(AuditEvent).where(AuditEvent.user_id == account.id)))


async def test_a_key_is_in_no_column(make_key: MakeKey, ada: Account, database: Database) -> None:
    new = await make_key(scopes=("jobs:write", "jobs:read", "jobs:read"))

    (row,) = await keys_of(database, ada)
    secret = new.text.split("_")[2]
    stored = " ".join(str(getattr(row, column.name)) for column in ApiKey.__table__.columns)
    assert secret not in stored
    assert secret.encode() not in row.digest
    assert (row.name, row.scopes) == ("ci", ["jobs:read", "jobs:write"])
    assert row.expires_at - row.created_at == timedelta(days=90)
    assert row.last_used_at is None


async def test_keys_that_are_made_and_revoked_are_audited_and_mailed(
    make_key: MakeKey, ada: Account, principal: Principal, database: Database
) -> None:
    new = await make_key()
    async with database.unit_of_work() as session:
        await service.revoke_key(session, principal, new.row.id, client=NOBODY)

    assert await keys_of(database, ada) == []
    events = {event.event: event for event in await events_of(database, ada)}
    for name in ("key_created", "key_revoked"):
        assert events[name].details == {"key": str(new.row.id)}
        assert events[name].session_id == principal.session_id
    for notice in (Notice.KEY_CREATED, Notice.KEY_REVOKED):
        await assert_enqueued(database, SecurityNotice, user_id=ada.id, what=notice)


async def test_making_a_key_needs_a_fresh_sign_in(auth: Auth, session: Session, principal: Principal) -> None:
    old = replace(principal, signed_in_at=utcnow() - timedelta(hours=1))

    with pytest.raises(ReauthenticationRequired):
        await service.create_key(
            auth, session, old, name="ci", scopes=["jobs:read"], known=["jobs:read"], client=NOBODY
        )


@pytest.mark.parametrize("scopes", [(), ("jobs:raed",), ("jobs:read", "accounts:write"), ("*",)])
async def test_a_key_has_scopes_of_the_list_only(make_key: MakeKey, scopes: tuple[str, ...]) -> None:
    with pytest.raises(UnknownScope) as refused:
        await make_key(scopes=scopes)

    assert refused.value.members == {"scopes": ("jobs:read", "jobs:write")}


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
async def test_a_key_has_a_name(make_key: MakeKey, name: str) -> None:
    with pytest.raises(InvalidKeyName):
        await make_key(name)


@pytest.mark.parametrize("days", [0, 366])
async def test_a_key_lives_for_a_year_at_most(make_key: MakeKey, days: int) -> None:
    with pytest.raises(LifeTooLong):
        await make_key(life=timedelta(days=days))


async def test_a_name_is_that_of_one_key(make_key: MakeKey) -> None:
    await make_key("ci")

    with pytest.raises(KeyNameTaken):
        await make_key("ci")


async def test_an_account_has_so_many_keys_at_most(make_key: MakeKey, ada: Account, database: Database) -> None:
    for number in range(service.PER_ACCOUNT - 1):
        await make_key(f"key {number}")

    made = await asyncio.gather(*(make_key(f"last {number}") for number in range(4)), return_exceptions=True)

    assert len(await keys_of(database, ada)) == service.PER_ACCOUNT
    refused = [each for each in made if isinstance(each, TooManyKeys)]
    assert [each.members for each in refused] == [{"most": service.PER_ACCOUNT}] * 3


async def test_keys_are_made_at_a_limited_rate(auth: Auth, make_key: MakeKey) -> None:
    throttle = Throttle(ThrottleSettings(new_key_account="1/h"), secret=b"of this test")
    with open_auth(auth.settings, throttle=throttle) as limited:
        await make_key("first", auth=limited)

        with pytest.raises(Throttled):
            await make_key("second", auth=limited)


async def test_no_key_is_made_by_a_session_that_was_just_ended(
    make_key: MakeKey, ada: Account, database: Database
) -> None:
    async with database.unit_of_work() as session:
        await UserSessionRepository(session).end_all(ada.id)

    with pytest.raises(SessionEnded):
        await make_key()


async def test_the_key_of_another_is_not_found(
    make_key: MakeKey, auth: Auth, make_account: MakeAccount, sign_in: SignIn, database: Database, principal: Principal
) -> None:
    theirs = await make_key()
    stranger = replace(principal, user_id=(await make_account()).id)

    async with database.unit_of_work() as session:
        assert await service.list_keys(session, stranger) == []
        for key_id in (theirs.row.id, new_id()):
            with pytest.raises(KeyNotFound):
                await service.revoke_key(session, stranger, key_id, client=NOBODY)
        assert [key.id for key in await service.list_keys(session, principal)] == [theirs.row.id]


async def test_a_change_of_the_password_leaves_keys_as_they_are(
    make_key: MakeKey, ada: Account, auth: Auth, database: Database, principal: Principal
) -> None:
    await make_key()

    async with database.unit_of_work() as session:
        await accounts.change_password(
            auth, session, principal, current_password=ada.password, new_password="another one, long 77", client=NOBODY
        )

    assert len(await keys_of(database, ada)) == 1


async def test_keys_that_have_expired_are_deleted(make_key: MakeKey, ada: Account, database: Database) -> None:
    await make_key("old")
    async with database.unit_of_work() as session:
        await session.execute(update(ApiKey).values(expires_at=utcnow() - timedelta(seconds=1)))
    await make_key("new")

    async with database.unit_of_work() as session:
        assert await ApiKeyRepository(session).delete_expired() == 1

    assert [key.name for key in await keys_of(database, ada)] == ["new"]
