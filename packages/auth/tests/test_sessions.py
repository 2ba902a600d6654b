"""How users list and end their login sessions."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY, Client
from app_auth.errors import AccountNotFound, EmailNotVerified, SessionEnded
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn
from app_db import Database, Session
from app_db.errors import NotFound
from app_db.models import User
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow
from packages.auth.tests.waits import until_it_waits

type Recognise = Callable[..., Awaitable[Principal]]

HOME = Client("2001:db8::1", "Lynx/2.9", "request-1")
AT_ONCE = 20


@pytest.fixture
def principals(sign_in: SignIn, recognise: Recognise) -> Callable[[Account, int], Awaitable[list[Principal]]]:
    """Return a function that signs an account in several times."""

    async def principals(account: Account, count: int) -> list[Principal]:
        return [await recognise((await sign_in(account)).access_token) for _ in range(count)]

    return principals


type Principals = Callable[[Account, int], Awaitable[list[Principal]]]


async def living(database: Database, account: Account) -> set[object]:
    async with database.unit_of_work() as session:
        return {one.id for one in await UserSessionRepository(session).of_user(account.id)}


# --- seeing --------------------------------------------------------------------------------------------------------


async def test_a_session_tells_from_where_it_was_started(
    database: Database, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    principal = await recognise((await sign_in(await make_account(), client=HOME)).access_token)

    async with database.unit_of_work() as session:
        [listed] = await sessions.list_sessions(session, principal, now=utcnow())

    assert (listed.id, listed.client_address, listed.user_agent) == (principal.session_id, "2001:db8::1", "Lynx/2.9")


async def test_sessions_that_have_expired_are_not_listed(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    [principal] = await principals(await make_account(), 1)

    async with database.unit_of_work() as session:
        listed = await sessions.list_sessions(session, principal, now=utcnow() + timedelta(days=14))

    assert listed == []


# --- ending --------------------------------------------------------------------------------------------------------


async def test_revoking_a_session_ends_that_one_alone(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account = await make_account()
    here, there = await principals(account, 2)

    async with database.unit_of_work() as session:
        await sessions.revoke(session, here, there.session_id, client=NOBODY)

    assert await living(database, account) == {here.session_id}


async def test_the_session_of_somebody_else_is_not_found(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    victim = await make_account()
    [theirs] = await principals(victim, 1)
    [mine] = await principals(await make_account(), 1)

    with pytest.raises(NotFound):
        async with database.unit_of_work() as session:
            await sessions.revoke(session, mine, theirs.session_id, client=NOBODY)

    assert await living(database, victim) == {theirs.session_id}


async def test_revoking_the_others_keeps_the_one_that_asks(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account = await make_account()
    here, *_ = await principals(account, 3)

    async with database.unit_of_work() as session:
        await sessions.revoke_others(session, here, client=NOBODY)

    assert await living(database, account) == {here.session_id}


async def test_revoking_all_leaves_none(
    database: Database, make_account: MakeAccount, principals: Principals, recognise: Recognise, sign_in: SignIn
) -> None:
    account = await make_account()
    tokens = await sign_in(account)
    here, _ = await principals(account, 2)

    async with database.unit_of_work() as session:
        await sessions.revoke_all(session, here, client=NOBODY)

    with pytest.raises(SessionEnded):
        await recognise(tokens.access_token)
    assert await living(database, account) == set()


async def test_a_session_that_was_just_ended_ends_no_other(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account = await make_account()
    here, there = await principals(account, 2)
    async with database.unit_of_work() as session:
        await sessions.revoke(session, here, there.session_id, client=NOBODY)

    with pytest.raises(SessionEnded):
        async with database.unit_of_work() as session:
            await sessions.revoke_all(session, there, client=NOBODY)

    assert await living(database, account) == {here.session_id}


async def test_of_sessions_that_end_each_other_one_is_left(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account = await make_account()
    here, there = await principals(account, 2)

    async def revoke_others() -> None:
        async with database.unit_of_work() as session:
            await sessions.revoke_others(session, there, client=NOBODY)

    async with database.unit_of_work() as session:
        await UserSessionRepository(session).hold(account.id, here.session_id)
        too_late = asyncio.create_task(revoke_others())
        await until_it_waits(too_late, session)
        await sessions.revoke_others(session, here, client=NOBODY)

    with pytest.raises(SessionEnded):
        await too_late
    assert await living(database, account) == {here.session_id}


async def test_of_twenty_sessions_that_end_each_other_at_once_one_is_left(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account = await make_account()
    everywhere = await principals(account, AT_ONCE)

    async def revoke_others(principal: Principal) -> None:
        async with database.unit_of_work() as session:
            await sessions.revoke_others(session, principal, client=NOBODY)

    outcomes = await asyncio.gather(*map(revoke_others, everywhere), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes if outcome is not None] == [SessionEnded] * (AT_ONCE - 1)
    [left] = await living(database, account)
    assert left in {principal.session_id for principal in everywhere}


async def test_somebody_elses_sessions_are_ended_by_their_address_in_any_spelling(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account, other = await make_account(email="ada@example.test"), await make_account()
    await principals(account, 2)
    [others] = await principals(other, 1)

    async with database.unit_of_work() as session:
        ended = await sessions.sign_out_everywhere(session, email="Ada@Example.test")

    assert ended == 2
    assert (await living(database, account), await living(database, other)) == (set(), {others.session_id})


async def test_nobody_is_signed_out_of_an_address_without_an_account(database: Database) -> None:
    async with database.unit_of_work() as session:
        with pytest.raises(AccountNotFound):
            await sessions.sign_out_everywhere(session, email="nobody@example.test")


async def test_signing_out_everywhere_waits_for_a_sign_in_and_ends_it(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    account = await make_account()

    async def sign_out_everywhere() -> int:
        async with database.unit_of_work() as session:
            return await sessions.sign_out_everywhere(session, email=account.email)

    async with database.unit_of_work() as session:
        await sessions.sign_in(auth, session, email=account.email, password=PASSWORD, client=NOBODY, now=utcnow())
        signing_out = asyncio.create_task(sign_out_everywhere())
        await until_it_waits(signing_out, session)

    assert await signing_out == 1
    assert await living(database, account) == set()


# --- how many ------------------------------------------------------------------------------------------------------


async def test_one_sign_in_too_many_ends_the_oldest(
    database: Database, make_account: MakeAccount, principals: Principals
) -> None:
    account = await make_account()

    oldest, *others = await principals(account, 51)

    assert await living(database, account) == {principal.session_id for principal in others}
    assert oldest.session_id not in {principal.session_id for principal in others}


async def test_sign_ins_at_once_stay_within_the_cap(
    auth_settings: AuthSettings, auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    account = await make_account()
    tight = replace(auth, settings=auth_settings.model_copy(update={"sessions_per_user": 3}))

    async def sign_in(session: Session) -> IssuedTokens:
        return await sessions.sign_in(
            tight, session, email=account.email, password=PASSWORD, client=NOBODY, now=utcnow()
        )

    async def sign_in_alone() -> None:
        async with database.unit_of_work() as session:
            await sign_in(session)

    await sign_in_alone()
    await sign_in_alone()
    async with database.unit_of_work() as session:
        await sign_in(session)
        one_too_many = asyncio.create_task(sign_in_alone())
        await until_it_waits(one_too_many, session)
    await one_too_many

    assert len(await living(database, account)) == 3


# --- who may not sign in -------------------------------------------------------------------------------------------


async def test_an_unverified_account_cannot_sign_in(
    auth_settings: AuthSettings, auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    account = await make_account()
    async with database.unit_of_work() as session:
        (await session.get_one(User, account.id)).email_verified_at = None
    strict = replace(auth, settings=auth_settings.model_copy(update={"verification": True}))

    with pytest.raises(EmailNotVerified):
        async with database.unit_of_work() as session:
            await sessions.sign_in(strict, session, email=account.email, password=PASSWORD, client=NOBODY, now=utcnow())

    assert await living(database, account) == set()
