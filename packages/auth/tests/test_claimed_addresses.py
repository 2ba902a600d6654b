"""Verifying an address: the password that comes with its link counts, and nothing of who registered before."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace

import pytest
from sqlalchemy import Table, func, insert, select, update

from app_auth import links
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import InvalidCredentials, InvalidLink, PasswordTooCommon, SessionEnded, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn, busy_hashing
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.models import AuditEvent, OneTimeToken, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_db.types import new_id, utcnow

type Recognise = Callable[..., Awaitable[Principal]]
type Verify = Callable[..., Coroutine[None, None, None]]

OWNERS = "the owner's battery horse 43"


@pytest.fixture
async def registered(make_account: MakeAccount, database: Database) -> Account:
    """What somebody registered with an address that nobody has verified."""
    account = await make_account(email="ada@example.test")
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email_verified_at=None))
    return account


async def mail_link(auth: Auth, database: Database, purpose: TokenPurpose = TokenPurpose.VERIFY_EMAIL) -> str:
    """Return the token which the worker would mail to the only user."""
    async with database.unit_of_work() as session:
        user = (await session.scalars(select(User).with_for_update())).one()
        row = auth.one_time_tokens.issue(user, purpose, now=utcnow())
        await OneTimeTokenRepository(session).replace(row)
        return auth.one_time_tokens.derive(row)


@pytest.fixture
def verify(auth: Auth, database: Database) -> Verify:
    async def verify(token: str, password: str = OWNERS, *, auth: Auth = auth, to: Database = database) -> None:
        async with to.unit_of_work() as session:
            await links.verify_email(auth, session, token=token, password=password, client=NOBODY)

    return verify


async def ways_left(database: Database, ways_in: Table) -> int:
    async with database.unit_of_work() as session:
        return (await session.scalars(select(func.count()).select_from(ways_in))).one()


async def test_the_password_of_the_registration_still_counts_if_it_comes_with_the_link(
    auth: Auth, database: Database, registered: Account, verify: Verify, sign_in: SignIn, recognise: Recognise
) -> None:
    tokens = await sign_in(registered)  # as while verification was off

    await verify(await mail_link(auth, database), PASSWORD)

    assert (await recognise(tokens.access_token)).user_id == registered.id
    await sign_in(registered)


async def test_another_password_replaces_that_of_who_registered_first(
    auth: Auth, database: Database, registered: Account, verify: Verify, sign_in: SignIn, session: Session
) -> None:
    await verify(await mail_link(auth, database))

    with pytest.raises(InvalidCredentials):
        await sign_in(registered)
    await sign_in(replace(registered, password=OWNERS))
    verified = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "email_verified"))).one()
    assert verified.details == {"password_replaced": True}


async def test_nothing_of_who_registered_first_is_left(
    auth: Auth, database: Database, registered: Account, verify: Verify, sign_in: SignIn, recognise: Recognise
) -> None:
    tokens = await sign_in(registered)
    token = await mail_link(auth, database)
    await mail_link(auth, database, TokenPurpose.RESET_PASSWORD)

    await verify(token)

    with pytest.raises(SessionEnded):
        await recognise(tokens.access_token)
    async with database.unit_of_work() as session:
        [left] = (await session.scalars(select(OneTimeToken.purpose))).all()
    assert left is TokenPurpose.VERIFY_EMAIL
    await verify(token)  # the link itself may be opened again


async def test_a_reset_of_an_address_that_nobody_proved_leaves_no_way_in(
    auth: Auth, database: Database, registered: Account, ways_in: Table
) -> None:
    left = []
    for _ in range(2):
        token = await mail_link(auth, database, TokenPurpose.RESET_PASSWORD)
        async with database.unit_of_work() as session:
            await session.execute(insert(ways_in).values(id=new_id(), user_id=registered.id))
        async with database.unit_of_work() as session:
            await links.reset_password(auth, session, token=token, new_password=OWNERS, client=NOBODY)
        left.append(await ways_left(database, ways_in))

    assert left == [0, 1]  # what the owner has added since stays


async def test_who_proves_an_address_is_asked_for_no_second_factor_of_another(
    auth: Auth, database: Database, registered: Account, verify: Verify
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(second_factors=["totp"]))

    await verify(await mail_link(auth, database))

    async with database.unit_of_work() as session:
        assert (await session.scalars(select(User.second_factors))).one() == []


async def test_a_used_link_sets_no_other_password(
    auth: Auth, database: Database, registered: Account, verify: Verify, sign_in: SignIn
) -> None:
    token = await mail_link(auth, database)
    await verify(token)

    with pytest.raises(InvalidCredentials):
        await verify(token, "one more password of eve 44")

    await sign_in(replace(registered, password=OWNERS))


async def test_an_old_link_is_no_way_to_guess_the_password(
    auth: Auth, database: Database, registered: Account, verify: Verify
) -> None:
    limits = dict.fromkeys(ThrottleSettings.model_fields, "10000/s") | {"login_account": "2/h"}
    throttled = replace(auth, throttle=Throttle(ThrottleSettings(**limits), secret=b"of this test"))
    token = await mail_link(auth, database)
    await verify(token)

    for guess in ("the first guess of eve 44", "the second guess of eve 45"):
        with pytest.raises(InvalidCredentials):
            await verify(token, guess, auth=throttled)
    with pytest.raises(Throttled):
        await verify(token, auth=throttled)


async def test_of_two_passwords_at_once_the_first_counts(
    auth: Auth, database: Database, registered: Account, verify: Verify, sign_in: SignIn
) -> None:
    token = await mail_link(auth, database)
    passwords = [f"the password of person {number}" for number in range(5)]

    outcomes = await asyncio.gather(*(verify(token, each) for each in passwords), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, InvalidCredentials) for outcome in outcomes) == 4
    await sign_in(replace(registered, password=passwords[outcomes.index(None)]))


async def test_a_weak_password_is_refused_and_leaves_the_link(
    auth: Auth, database: Database, registered: Account, verify: Verify
) -> None:
    token = await mail_link(auth, database)

    with pytest.raises(PasswordTooCommon):
        await verify(token, "ada@example.test")

    await verify(token)


async def test_a_disabled_account_is_not_claimed(
    auth: Auth, database: Database, registered: Account, verify: Verify
) -> None:
    token = await mail_link(auth, database)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=utcnow()))

    with pytest.raises(InvalidLink):
        await verify(token)


async def test_a_verification_holds_no_connection_while_it_hashes(
    auth: Auth, database: Database, narrow: Database, taken: asyncio.Event, registered: Account, verify: Verify
) -> None:
    token = await mail_link(auth, database)

    async with busy_hashing(auth.passwords):
        verifying = asyncio.create_task(verify(token, to=narrow))
        await taken.wait()
        async with narrow.unit_of_work() as session:
            assert await UserRepository(session).credentials_of(registered.email)
        still_hashing = not verifying.done()
    await verifying

    assert still_hashing
