"""Starting a login session."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from app_auth import sessions
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.errors import HashingBusy, InvalidCredentials, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn, busy_hashing, change_hash
from app_auth.throttle import Throttle
from app_db import Database
from app_db.models import Role, User
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_db.types import utcnow

type Recognise = Callable[..., Awaitable[Principal]]


async def test_an_account_can_sign_in(make_account: MakeAccount, sign_in: SignIn, recognise: Recognise) -> None:
    account = await make_account(role=Role.OPERATOR)
    now = utcnow()

    tokens = await sign_in(account, now=now)

    principal = await recognise(tokens.access_token)
    assert (principal.user_id, principal.email, principal.role) == (account.id, account.email, Role.OPERATOR)
    assert principal.signed_in_at == now


async def test_a_sign_in_tells_when_its_tokens_expire(make_account: MakeAccount, sign_in: SignIn) -> None:
    now = utcnow().replace(microsecond=0)

    tokens = await sign_in(await make_account(), now=now)

    assert tokens.access_expires_at == now + timedelta(minutes=15)
    assert tokens.refresh_expires_at == now + timedelta(days=14)


async def test_each_sign_in_is_a_session_of_its_own(
    make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    account = await make_account()

    first, second = await sign_in(account), await sign_in(account)

    assert first.refresh_token != second.refresh_token
    assert (await recognise(first.access_token)).session_id != (await recognise(second.access_token)).session_id


@pytest.mark.parametrize("password", ["", "Correct horse battery 42", PASSWORD[:-1], PASSWORD + " ", "p" * 1024])
async def test_a_wrong_password_is_refused(make_account: MakeAccount, sign_in: SignIn, password: str) -> None:
    account = await make_account()

    with pytest.raises(InvalidCredentials):
        await sign_in(replace(account, password=password))


async def test_an_unknown_account_is_refused_like_a_wrong_password(make_account: MakeAccount, sign_in: SignIn) -> None:
    account = await make_account()

    with pytest.raises(InvalidCredentials):
        await sign_in(replace(account, email="nobody@example.test"))


@pytest.mark.parametrize("email", ["", "ada", "ada@", "a" * 300 + "@example.test", "a\0@example.test", "\ud800@b.test"])
async def test_what_is_no_address_is_refused_like_a_wrong_password(
    make_account: MakeAccount, sign_in: SignIn, email: str
) -> None:
    account = await make_account()

    with pytest.raises(InvalidCredentials):
        await sign_in(replace(account, email=email))


@pytest.mark.parametrize("email", ["Ada@Example.test", "ADA@EXAMPLE.TEST", "ada@example.test"])
async def test_any_spelling_of_the_address_signs_in(make_account: MakeAccount, sign_in: SignIn, email: str) -> None:
    account = await make_account(email="aDa@example.Test")

    tokens = await sign_in(replace(account, email=email))

    assert tokens.refresh_token.startswith("rt_")


async def test_a_refused_sign_in_starts_no_session(
    make_account: MakeAccount, sign_in: SignIn, database: Database
) -> None:
    account = await make_account()

    with pytest.raises(InvalidCredentials):
        await sign_in(replace(account, password="some other password"))

    async with database.unit_of_work() as session:
        assert await UserSessionRepository(session).of_user(account.id) == []


@asynccontextmanager
async def hashing(
    auth: Auth, narrow: Database, taken: asyncio.Event, account: Account
) -> AsyncIterator[asyncio.Task[IssuedTokens]]:
    """Start a sign-in that reads the account over the only connection, then waits for its hash until the block ends."""

    async def sign_in() -> IssuedTokens:
        async with narrow.unit_of_work() as session:
            return await sessions.sign_in(
                auth, session, email=account.email, password=account.password, client=NOBODY, now=utcnow()
            )

    async with busy_hashing(auth.passwords):
        signing_in = asyncio.create_task(sign_in())
        await taken.wait()
        yield signing_in


async def test_a_sign_in_holds_no_connection_while_it_hashes(
    auth: Auth, narrow: Database, taken: asyncio.Event, make_account: MakeAccount
) -> None:
    account = await make_account()

    async with hashing(auth, narrow, taken, account) as signing_in, narrow.unit_of_work() as session:
        someone_else = await UserRepository(session).credentials_of(account.email)
        still_hashing = not signing_in.done()

    assert someone_else is not None
    assert still_hashing
    assert (await signing_in).refresh_token.startswith("rt_")


async def test_an_account_that_is_deleted_while_it_signs_in_is_unknown(
    auth: Auth, narrow: Database, taken: asyncio.Event, make_account: MakeAccount
) -> None:
    account = await make_account()

    async with hashing(auth, narrow, taken, account) as signing_in, narrow.unit_of_work() as session:
        await UserRepository(session).delete(account.id)

    with pytest.raises(InvalidCredentials):
        await signing_in


async def test_an_account_that_is_disabled_while_it_signs_in_is_refused(
    auth: Auth, narrow: Database, taken: asyncio.Event, make_account: MakeAccount
) -> None:
    account = await make_account()

    async with hashing(auth, narrow, taken, account) as signing_in, narrow.unit_of_work() as session:
        (await session.get_one(User, account.id)).disabled_at = utcnow()

    with pytest.raises(InvalidCredentials):
        await signing_in


async def test_a_disabled_account_is_refused_like_a_wrong_password(
    database: Database, make_account: MakeAccount, sign_in: SignIn
) -> None:
    account = await make_account()
    async with database.unit_of_work() as session:
        (await session.get_one(User, account.id)).disabled_at = utcnow()

    with pytest.raises(InvalidCredentials):
        await sign_in(account)


async def test_guesses_at_once_are_throttled(auth: Auth, database: Database, make_account: MakeAccount) -> None:
    account = await make_account()
    throttle = Throttle(ThrottleSettings(login_account="5/5m"), secret=b"of this test")

    async def guess(number: int) -> IssuedTokens:
        async with database.unit_of_work() as session:
            return await sessions.sign_in(
                replace(auth, throttle=throttle), session, email=account.email, password=f"guess {number}",
                client=NOBODY, now=utcnow(),
            )  # fmt: skip

    outcomes = await asyncio.gather(*map(guess, range(20)), return_exceptions=True)

    assert Counter(map(type, outcomes)) == {InvalidCredentials: 5, Throttled: 15}


async def test_a_password_that_is_changed_while_it_signs_in_is_refused(
    auth: Auth, narrow: Database, taken: asyncio.Event, make_account: MakeAccount
) -> None:
    account = await make_account()

    async with hashing(auth, narrow, taken, account) as signing_in:
        await change_hash(narrow, account)

    with pytest.raises(InvalidCredentials):
        await signing_in


async def test_who_is_refused_for_lack_of_hashing_threads_has_no_session(
    auth_settings: AuthSettings, database: Database, make_account: MakeAccount
) -> None:
    account = await make_account()
    impatient = auth_settings.model_copy(update={"hash_wait": timedelta(milliseconds=1)})

    with open_auth(impatient) as auth:
        async with busy_hashing(auth.passwords):
            with pytest.raises(HashingBusy):
                async with database.unit_of_work() as session:
                    await sessions.sign_in(
                        auth, session, email=account.email, password=PASSWORD, client=NOBODY, now=utcnow()
                    )

    async with database.unit_of_work() as session:
        assert await UserSessionRepository(session).of_user(account.id) == []
