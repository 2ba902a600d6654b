"""Mailed links: their effect, how often they work, and the answer to a request for one."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from app_auth import accounts, links
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import InvalidCredentials, InvalidEmail, InvalidLink, PasswordTooCommon, SessionEnded
from app_auth.principal import Principal
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn, busy_hashing
from app_db import Database, Session
from app_db.models import AuditEvent, Job, OneTimeToken, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_db.testing.queries import assert_queries
from app_db.types import utcnow

type MailLink = Callable[..., Awaitable[str]]
type UseLink = Callable[..., Coroutine[Any, Any, None]]
type Recognise = Callable[..., Awaitable[Principal]]

RESET, VERIFY = TokenPurpose.RESET_PASSWORD, TokenPurpose.VERIFY_EMAIL
NEW_PASSWORD = "incorrect donkey capacitor 43"


@pytest.fixture
async def ada(make_account: MakeAccount, database: Database) -> Account:
    """An account whose address nobody has verified."""
    account = await make_account(email="ada@example.test")
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email_verified_at=None))
    return account


@pytest.fixture
def mail_link(auth: Auth, database: Database, ada: Account) -> MailLink:
    """Return a function that gives the token which the worker would mail to Ada."""

    async def mail(purpose: TokenPurpose = RESET, *, now: datetime | None = None) -> str:
        async with database.unit_of_work() as session:
            user = await UserRepository(session).locked(ada.id)
            assert user is not None
            row = auth.one_time_tokens.issue(user, purpose, now=now or utcnow())
            await OneTimeTokenRepository(session).replace(row)
            return auth.one_time_tokens.derive(row)

    return mail


@pytest.fixture
def verify(auth: Auth, database: Database) -> UseLink:
    async def verify(token: str, *, password: str = PASSWORD, now: datetime | None = None) -> None:
        async with database.unit_of_work() as session:
            await links.verify_email(auth, session, token=token, password=password, client=NOBODY, now=now or utcnow())

    return verify


@pytest.fixture
def reset(auth: Auth, database: Database) -> UseLink:
    async def reset(token: str, *, new: str = NEW_PASSWORD, now: datetime | None = None) -> None:
        async with database.unit_of_work() as session:
            await links.reset_password(auth, session, token=token, new_password=new, client=NOBODY, now=now or utcnow())

    return reset


async def stored_user(session: Session) -> User:
    return (await session.scalars(select(User))).one()


async def tokens_left(session: Session) -> int:
    return len((await session.scalars(select(OneTimeToken))).all())


async def move(database: Database) -> None:
    """Give Ada another address, as an operator of the database might."""
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email_canonical="lovelace@example.test"))


async def test_a_link_verifies_the_address(mail_link: MailLink, verify: UseLink, session: Session) -> None:
    token = await mail_link(VERIFY)

    await verify(token)

    assert (await stored_user(session)).email_verified_at is not None


async def test_a_verification_link_that_is_opened_twice_is_done_once(
    mail_link: MailLink, verify: UseLink, database: Database, session: Session
) -> None:
    token = await mail_link(VERIFY)
    async with database.sessions.begin() as holder:
        await holder.execute(select(User.id).with_for_update())
        tasks = [asyncio.create_task(verify(token)) for _ in range(3)]
        await all_wait(database, len(tasks))  # each has found the link by now

    await asyncio.gather(*tasks)

    await verify(token)
    verified = await session.scalars(select(AuditEvent).where(AuditEvent.event == "email_verified"))
    assert len(verified.all()) == 1


async def all_wait(database: Database, count: int) -> None:
    """Return when `count` sessions wait for a lock in this database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(45):
        while True:
            async with database.read_sessions() as session:
                if (await session.scalars(text(query))).one() == count:
                    return
            await asyncio.sleep(0.01)


async def test_an_address_stays_verified_since_it_first_was(
    mail_link: MailLink, verify: UseLink, session: Session
) -> None:
    first, second = utcnow(), utcnow() + timedelta(minutes=1)
    await verify(await mail_link(VERIFY), now=first)
    await verify(await mail_link(VERIFY), now=second)

    assert (await stored_user(session)).email_verified_at == first


@pytest.mark.parametrize("purpose", TokenPurpose)
async def test_a_link_for_another_address_is_worthless(
    mail_link: MailLink, verify: UseLink, reset: UseLink, database: Database, purpose: TokenPurpose
) -> None:
    token = await mail_link(purpose)
    await move(database)

    with pytest.raises(InvalidLink):
        await (verify if purpose is VERIFY else reset)(token)


@pytest.mark.parametrize(("purpose", "lifetime"), [(VERIFY, timedelta(hours=24)), (RESET, timedelta(minutes=30))])
async def test_an_expired_link_is_worthless(
    mail_link: MailLink, verify: UseLink, reset: UseLink, purpose: TokenPurpose, lifetime: timedelta
) -> None:
    now = utcnow()
    token = await mail_link(purpose, now=now)

    with pytest.raises(InvalidLink):
        await (verify if purpose is VERIFY else reset)(token, now=now + lifetime)


async def test_a_new_link_is_the_only_one(mail_link: MailLink, reset: UseLink) -> None:
    old, new = await mail_link(), await mail_link()

    with pytest.raises(InvalidLink):
        await reset(old)
    await reset(new)


async def test_a_new_link_leaves_those_of_the_other_purpose(mail_link: MailLink, verify: UseLink) -> None:
    verification = await mail_link(VERIFY)
    await mail_link(RESET)

    await verify(verification)


async def test_a_forged_link_is_refused_by_one_query_at_most(
    mail_link: MailLink, reset: UseLink, database: Database
) -> None:
    token = await mail_link()

    with assert_queries(database, max=1), pytest.raises(InvalidLink):
        await reset(f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}")
    with assert_queries(database, max=0), pytest.raises(InvalidLink):
        await reset("nonsense")


async def test_a_reset_replaces_the_password(
    mail_link: MailLink, reset: UseLink, ada: Account, sign_in: SignIn
) -> None:
    await reset(await mail_link())

    assert (await sign_in(replace(ada, password=NEW_PASSWORD))).refresh_token.startswith("rt_")
    with pytest.raises(InvalidCredentials):
        await sign_in(ada)


async def test_a_reset_link_works_once(mail_link: MailLink, reset: UseLink) -> None:
    token = await mail_link()

    outcomes = await asyncio.gather(*(reset(token) for _ in range(10)), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, InvalidLink) for outcome in outcomes) == 9


async def test_a_reset_kills_every_other_link(
    mail_link: MailLink, verify: UseLink, reset: UseLink, session: Session
) -> None:
    await verify(await mail_link(VERIFY))  # the first proof of an address ends links, too
    await mail_link(VERIFY)

    await reset(await mail_link())

    assert await tokens_left(session) == 0


async def test_a_reset_ends_every_session(
    mail_link: MailLink, verify: UseLink, reset: UseLink, ada: Account, sign_in: SignIn, recognise: Recognise
) -> None:
    await verify(await mail_link(VERIFY))  # the first proof of an address ends sessions, too
    tokens = await sign_in(ada)

    await reset(await mail_link())

    with pytest.raises(SessionEnded):
        await recognise(tokens.access_token)


async def test_a_reset_verifies_the_address(mail_link: MailLink, reset: UseLink, session: Session) -> None:
    await reset(await mail_link())

    assert (await stored_user(session)).email_verified_at is not None


async def test_the_owner_hears_of_a_reset(mail_link: MailLink, reset: UseLink, ada: Account, session: Session) -> None:
    await reset(await mail_link())

    jobs = (await session.scalars(select(Job).where(Job.kind == "email.notice"))).all()
    assert [job.payload for job in jobs] == [{"user_id": str(ada.id), "what": "password_reset"}]


async def test_a_refused_password_leaves_the_link_alive(mail_link: MailLink, reset: UseLink) -> None:
    token = await mail_link()

    with pytest.raises(PasswordTooCommon):
        await reset(token, new="ada@example.test")

    await reset(token)


async def test_a_disabled_account_cannot_be_reset(mail_link: MailLink, reset: UseLink, database: Database) -> None:
    token = await mail_link()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=utcnow()))

    with pytest.raises(InvalidLink):
        await reset(token)


async def test_a_reset_holds_no_connection_while_it_hashes(
    auth: Auth, narrow: Database, taken: asyncio.Event, mail_link: MailLink, ada: Account
) -> None:
    token = await mail_link()

    async def reset_over_narrow() -> None:
        async with narrow.unit_of_work() as session:
            await links.reset_password(
                auth, session, token=token, new_password=NEW_PASSWORD, client=NOBODY, now=utcnow()
            )

    async with busy_hashing(auth.passwords):
        resetting = asyncio.create_task(reset_over_narrow())
        await taken.wait()
        async with narrow.unit_of_work() as session:
            someone_else = await UserRepository(session).credentials_of(ada.email)
        still_hashing = not resetting.done()
    await resetting

    assert someone_else is not None
    assert still_hashing


@pytest.mark.parametrize(
    ("ask", "purpose", "event"),
    [
        (links.forgot_password, "reset_password", "password_reset_requested"),
        (links.request_verification, "verify_email", "verification_requested"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
async def test_asking_for_a_link_is_the_same_for_every_address(
    auth: Auth, database: Database, ada: Account, ask: UseLink, purpose: str, event: str, known: bool
) -> None:
    with assert_queries(database, max=3):
        async with database.unit_of_work() as session:
            await ask(auth, session, email="ADA@example.test" if known else "eve@example.test", client=NOBODY)

    async with database.unit_of_work() as session:
        job = (await session.scalars(select(Job).where(Job.kind == "account.link"))).one()
        audited = (await session.scalars(select(AuditEvent).where(AuditEvent.event == event))).one()
    assert job.payload == {"user_id": str(ada.id) if known else None, "purpose": purpose}
    assert (job.owner_id, audited.user_id) == (None, ada.id if known else None)


async def test_no_link_is_sent_to_what_is_no_address(auth: Auth, database: Database, session: Session) -> None:
    with assert_queries(database, max=0), pytest.raises(InvalidEmail):
        await links.forgot_password(auth, session, email="ada", client=NOBODY)


async def test_a_password_that_changes_meanwhile_kills_the_link(
    mail_link: MailLink,
    reset: UseLink,
    auth: Auth,
    ada: Account,
    sign_in: SignIn,
    recognise: Recognise,
    database: Database,
) -> None:
    token = await mail_link()
    principal = await recognise((await sign_in(ada)).access_token)

    async with database.unit_of_work() as session:
        await accounts.change_password(
            auth, session, principal, current_password=PASSWORD, new_password=NEW_PASSWORD, client=NOBODY
        )

    with pytest.raises(InvalidLink):
        await reset(token)
