"""Tokens that were mailed and not used yet, and the changes to their user when they are used."""

import asyncio
from datetime import timedelta

import pytest

from app_db import Database, Session
from app_db.models import OneTimeToken, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import Credentials, UserRepository
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow

RESET, VERIFY = TokenPurpose.RESET_PASSWORD, TokenPurpose.VERIFY_EMAIL
NOW = utcnow()


async def add(
    database: Database, user: User, *, purpose: TokenPurpose = RESET, expires_in: timedelta = timedelta(minutes=1)
) -> OneTimeToken:
    token = OneTimeToken(
        id=new_id(),
        user_id=user.id,
        purpose=purpose,
        email_canonical=user.email_canonical,
        key_id="1",
        expires_at=NOW + expires_in,
    )
    async with database.unit_of_work() as session:
        await OneTimeTokenRepository(session).replace(token)
    return token


async def is_there(session: Session, token: OneTimeToken) -> bool:
    return await OneTimeTokenRepository(session).get(token.id) is not None


async def test_a_token_replaces_those_of_its_user_and_purpose(
    database: Database, session: Session, make_user: MakeUser
) -> None:
    ada, bob = await make_user(), await make_user()
    old, verification, of_bob = (
        await add(database, ada),
        await add(database, ada, purpose=VERIFY),
        await add(database, bob),
    )

    new = await add(database, ada)

    assert [await is_there(session, token) for token in (old, verification, of_bob, new)] == [False, True, True, True]


async def test_of_parallel_uses_of_a_token_one_succeeds(database: Database, make_user: MakeUser) -> None:
    token = await add(database, await make_user())

    async def use() -> bool:
        async with database.unit_of_work() as session:
            return await OneTimeTokenRepository(session).use(token.id, now=NOW)

    assert sorted(await asyncio.gather(*(use() for _ in range(8)))) == [False] * 7 + [True]


async def test_an_expired_token_cannot_be_used(database: Database, session: Session, make_user: MakeUser) -> None:
    token = await add(database, await make_user())

    assert not await OneTimeTokenRepository(session).use(token.id, now=token.expires_at)


async def test_all_tokens_of_one_user_can_be_deleted(database: Database, session: Session, make_user: MakeUser) -> None:
    ada, bob = await make_user(), await make_user()
    of_ada = [await add(database, ada), await add(database, ada, purpose=VERIFY)]
    of_bob = await add(database, bob)

    await OneTimeTokenRepository(session).delete_of(ada.id)

    assert [await is_there(session, token) for token in (*of_ada, of_bob)] == [False, False, True]


async def test_expired_tokens_are_deleted_and_counted(
    database: Database, session: Session, make_user: MakeUser
) -> None:
    ada = await make_user()
    expired = await add(database, ada, expires_in=timedelta(0))
    living = await add(database, ada, purpose=VERIFY)

    assert await OneTimeTokenRepository(session).delete_expired(NOW) == 1
    assert [await is_there(session, token) for token in (expired, living)] == [False, True]


async def test_the_tokens_of_a_user_go_with_the_user(database: Database, session: Session, make_user: MakeUser) -> None:
    ada = await make_user()
    token = await add(database, ada)

    await UserRepository(session).delete(ada.id)

    assert not await is_there(session, token)


async def test_an_address_is_verified_once_and_only_if_it_is_the_accounts(
    session: Session, make_user: MakeUser
) -> None:
    ada, users = await make_user(), UserRepository(session)
    stored, email = Credentials(ada.id, ada.password_hash), ada.email_canonical

    assert not await users.verify_email(stored, email="eve@example.test", password_hash="x", now=NOW)  # no password
    assert not await users.verify_email(Credentials(ada.id, "y"), email=email, password_hash="x", now=NOW)
    assert await users.verify_email(stored, email=email, password_hash="x", now=NOW)  # no password
    later = NOW + timedelta(days=1)
    assert not await users.verify_email(Credentials(ada.id, "x"), email=email, password_hash="z", now=later)
    verified = await session.get_one(User, ada.id)
    assert (verified.email_verified_at, verified.password_hash) == (NOW, "x")


async def test_an_account_that_is_disabled_meanwhile_is_not_verified(session: Session, make_user: MakeUser) -> None:
    ada, users = await make_user(), UserRepository(session)
    await users.set_disabled(ada.email_canonical, NOW)

    stored = Credentials(ada.id, ada.password_hash)
    assert not await users.verify_email(stored, email=ada.email_canonical, password_hash="x", now=NOW)  # no password


async def test_a_reset_sets_the_hash_and_verifies_the_address(session: Session, make_user: MakeUser) -> None:
    ada, users = await make_user(), UserRepository(session)

    assert await users.reset_password(ada.id, email="eve@example.test", password_hash="x", now=NOW) is None
    assert await users.reset_password(ada.id, email=ada.email_canonical, password_hash="x", now=NOW)  # no password
    later = NOW + timedelta(days=1)
    again = await users.reset_password(ada.id, email=ada.email_canonical, password_hash="x", now=later)
    assert again is False  # it was verified before
    stored = await session.get_one(User, ada.id)
    assert (stored.password_hash, stored.email_verified_at) == ("x", NOW)


async def test_a_user_is_found_by_the_canonical_address(session: Session, make_user: MakeUser) -> None:
    ada = await make_user(email="ada@example.test")

    assert await UserRepository(session).find_id("ada@example.test") == ada.id
    assert await UserRepository(session).find_id("eve@example.test") is None


@pytest.mark.parametrize("there", [True, False])
async def test_a_locked_user_is_the_user(session: Session, make_user: MakeUser, there: bool) -> None:
    ada = await make_user()

    locked = await UserRepository(session).locked(ada.id if there else new_id())

    assert (locked.id if locked else None) == (ada.id if there else None)


async def test_of_parallel_inserts_of_one_address_one_succeeds(database: Database) -> None:
    async def insert() -> bool:
        email = "ada@example.test"
        user = User(id=new_id(), email=email, email_canonical=email, password_hash="x")  # no password
        async with database.unit_of_work() as session:
            return await UserRepository(session).add_new(user)

    assert sorted(await asyncio.gather(*(insert() for _ in range(8)))) == [False] * 7 + [True]


async def test_an_account_is_disabled_and_enabled_by_its_address(session: Session, make_user: MakeUser) -> None:
    ada, users = await make_user(email="ada@example.test"), UserRepository(session)

    disabled = await users.set_disabled("ada@example.test", NOW)
    since = (await session.get_one(User, ada.id, populate_existing=True)).disabled_at
    enabled = await users.set_disabled("ada@example.test", None)

    assert (disabled, since, enabled) == (ada.id, NOW, ada.id)
    assert await users.set_disabled("eve@example.test", NOW) is None
