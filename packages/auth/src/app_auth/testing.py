"""pytest fixtures for tests that need accounts: real keys, really registered accounts, real sign-ins.

They build on the fixtures of `app_db.testing.plugin`; their rows are committed, and deleted after the test.
"""

import asyncio
import base64
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import pytest

from app_auth import accounts, sessions
from app_auth.addresses import canonical_email
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY, Client
from app_auth.limits import ThrottleSettings
from app_auth.passwords import PasswordHasher
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings, Key
from app_auth.throttle import Throttle
from app_db import Database
from app_db.models import Role
from app_db.repositories.users import UserRepository

PASSWORD = "correct horse battery 42"  # noqa: S105  # of accounts that live as long as one test


@dataclass(frozen=True, slots=True)
class Account:
    """A registered user, with the password that the database does not know."""

    id: UUID
    email: str
    password: str
    role: Role


type MakeAccount = Callable[..., Awaitable[Account]]
type SignIn = Callable[..., Awaitable[IssuedTokens]]


def new_key(kid: str = "1", *, state: Literal["active", "verify"] = "active") -> Key:
    """Return a fresh random key for any of the rings."""
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    return Key.model_validate({"kid": kid, "secret": secret, "state": state})


@pytest.fixture(scope="session")
def auth_settings() -> AuthSettings:
    """Return settings with fresh keys, the cheapest cost of bcrypt, and a long `hash_wait` for a busy machine."""
    return AuthSettings(
        keys=(new_key(),),
        refresh_keys=(new_key(),),
        token_keys=(new_key(),),
        peppers=(new_key(),),
        verification=False,
        bcrypt_rounds=4,
        hash_wait=timedelta(seconds=10),
    )


@pytest.fixture(scope="session")
def throttle_settings() -> ThrottleSettings:
    """Return limits that no test reaches by chance: a test of a limit opens its own Auth or application."""
    return ThrottleSettings(**dict.fromkeys(ThrottleSettings.model_fields, "10000/s"))


@pytest.fixture(scope="session")
def auth(auth_settings: AuthSettings, throttle_settings: ThrottleSettings) -> Iterator[Auth]:
    """Return the first argument of the services of app_auth.

    Example:
        async def test_a_password_is_recognised(auth: Auth) -> None:
            stored = await auth.passwords.hash("correct horse battery 42")

            assert await auth.passwords.verify("correct horse battery 42", stored)
    """
    with open_auth(auth_settings, throttle=Throttle(throttle_settings, secret=b"of this test run")) as auth:
        yield auth


@pytest.fixture
def make_account(auth: Auth, database: Database) -> MakeAccount:
    """Return a factory of accounts: registered and committed; every argument has a default.

    Example:
        async def test_an_operator_is_one(make_account: MakeAccount) -> None:
            ada = await make_account(email="ada@example.test", role=Role.OPERATOR)

            assert ada.password  # in the clear, to sign in with
    """

    async def make(*, email: str = "", password: str = PASSWORD, role: Role = Role.USER) -> Account:
        email = email or f"account-{secrets.token_hex(8)}@example.test"
        async with database.unit_of_work() as session:
            user = await accounts.create(auth, session, email=email, password=password, role=role)
        return Account(user.id, email, password, role)

    return make


@pytest.fixture
def sign_in(auth: Auth, database: Database) -> SignIn:
    """Return a function that starts a login session of an account, and commits it.

    Example:
        async def test_a_token_names_its_user(
            auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn
        ) -> None:
            ada = await make_account()
            tokens = await sign_in(ada)

            principal = await sessions.authenticate(auth, database, token=tokens.access_token)

            assert principal.user_id == ada.id
    """

    async def sign_in(account: Account, *, client: Client = NOBODY, now: datetime | None = None) -> IssuedTokens:
        email, password = account.email, account.password
        async with database.unit_of_work() as session:
            return await sessions.sign_in(auth, session, email=email, password=password, client=client, now=now)

    return sign_in


class _HeldBack(str):
    """A stored hash whose comparison waits until the gate opens."""

    __slots__ = ("gate",)
    gate: threading.Event

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        assert self.gate.wait(timeout=15), "the test that keeps this thread busy did not end"
        return super().partition(sep)


async def change_hash(database: Database, account: Account) -> None:
    """Store another password for the account, as a concurrent request would."""
    async with database.unit_of_work() as session:
        users = UserRepository(session)
        stored = await users.credentials_of(canonical_email(account.email))
        assert stored is not None
        assert await users.replace_password_hash(stored, "another")


@asynccontextmanager
async def busy_hashing(passwords: PasswordHasher) -> AsyncIterator[list[asyncio.Task[bool]]]:
    """Keep every thread of the hashing pool busy during the block, so that other hashes have to wait."""
    stored = _HeldBack(await passwords.hash(PASSWORD))
    stored.gate = threading.Event()
    running = [asyncio.create_task(passwords.verify(PASSWORD, stored)) for _ in range(passwords.threads)]
    await asyncio.sleep(0)  # let each task take its thread
    try:
        yield running
    finally:
        stored.gate.set()
        await asyncio.gather(*running, return_exceptions=True)
