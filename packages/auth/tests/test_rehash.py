"""Hashes that another application has made, or that were made with an older pepper or cost, are replaced at sign-in."""

import asyncio
from dataclasses import replace

import bcrypt
import pytest
from sqlalchemy import update

from app_auth.errors import InvalidCredentials
from app_auth.testing import Account, MakeAccount, SignIn
from app_db import Database
from app_db.models import User
from app_db.repositories.users import UserRepository


async def store_raw_hash(database: Database, account: Account) -> None:
    """Store the hash that another application has made of the same password, by bcrypt alone."""
    raw = bcrypt.hashpw(account.password.encode(), bcrypt.gensalt(4)).decode()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(password_hash=raw))


async def test_an_outdated_hash_is_replaced_at_sign_in(
    sign_in: SignIn, make_account: MakeAccount, database: Database
) -> None:
    ada = await make_account(email="ada@example.test")
    await store_raw_hash(database, ada)

    await sign_in(ada)

    async with database.unit_of_work() as session:
        stored = await UserRepository(session).password_hash(ada.id)
    assert stored is not None
    assert stored.startswith("bcrypt-sha384$")


async def test_parallel_sign_ins_with_an_outdated_hash_all_succeed(
    sign_in: SignIn, make_account: MakeAccount, database: Database
) -> None:
    ada = await make_account(email="ada@example.test")
    await store_raw_hash(database, ada)

    issued = await asyncio.gather(*(sign_in(ada) for _ in range(8)))

    assert len({tokens.refresh_token for tokens in issued}) == 8


async def test_a_wrong_password_leaves_an_outdated_hash(
    sign_in: SignIn, make_account: MakeAccount, database: Database
) -> None:
    ada = await make_account(email="ada@example.test")
    await store_raw_hash(database, ada)

    with pytest.raises(InvalidCredentials):
        await sign_in(replace(ada, password="some other password"))

    async with database.unit_of_work() as session:
        stored = await UserRepository(session).password_hash(ada.id)
    assert stored is not None
    assert stored.startswith("$2b$")
