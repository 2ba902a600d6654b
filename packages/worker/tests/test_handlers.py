"""The handlers of our own jobs."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app_auth.one_time import OneTimeTokens
from app_db import Database
from app_db.features.accounts.payloads import (
    Notice,
    OneTimeEmail,
    OneTimeLink,
    RegistrationNotice,
    SecurityNotice,
    WelcomeEmail,
)
from app_db.features.retention.payloads import PruneSessions
from app_db.models import JobState, OneTimeToken, TokenPurpose, User, UserSession
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.handlers import HANDLERS
from app_worker.mail import MemoryMailer, plain_text
from app_worker.testing import one_time_settings

from .conftest import Jobs, MakeRunner

RESET, VERIFY = TokenPurpose.RESET_PASSWORD, TokenPurpose.VERIFY_EMAIL


async def add_session(database: Database, user_id: object, *, expires_in: timedelta) -> UserSession:
    expires_at = utcnow() + expires_in
    user_session = UserSession(
        id=new_id(), user_id=user_id, refresh_key_id="1", idle_expires_at=expires_at, expires_at=expires_at
    )
    async with database.sessions.begin() as session:
        session.add(user_session)
    return user_session


async def test_a_new_user_is_greeted_at_the_address_of_now(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, mailer: MemoryMailer
) -> None:
    user = await make_user(email="ada@example.test")
    delivery = await jobs.deliver(WelcomeEmail(user_id=user.id))

    await make_runner(*HANDLERS).run(delivery)

    (mail,) = mailer.sent
    assert (mail["To"], mail["Message-ID"]) == ("ada@example.test", f"<{delivery.id}@groundwork.test>")


async def test_a_user_who_has_left_gets_no_mail(jobs: Jobs, make_runner: MakeRunner, mailer: MemoryMailer) -> None:
    delivery = await jobs.deliver(WelcomeEmail(user_id=new_id()))

    await make_runner(*HANDLERS).run(delivery)

    assert mailer.sent == []
    assert (await jobs.get(delivery)).state is JobState.COMPLETED


@pytest.mark.parametrize("what", Notice)
async def test_an_owner_is_told_what_happened_to_the_account(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, mailer: MemoryMailer, what: Notice
) -> None:
    user = await make_user(email="ada@example.test")
    delivery = await jobs.deliver(SecurityNotice(user_id=user.id, what=what))

    await make_runner(*HANDLERS).run(delivery)

    (mail,) = mailer.sent
    body = mail.get_body(("plain",))
    assert mail["To"] == "ada@example.test"
    assert body is not None
    assert ("ended that sign-in" in body.get_content()) == (what is Notice.REFRESH_REUSED)


async def test_an_owner_who_has_left_is_told_nothing(jobs: Jobs, make_runner: MakeRunner, mailer: MemoryMailer) -> None:
    delivery = await jobs.deliver(SecurityNotice(user_id=new_id(), what=Notice.REFRESH_REUSED))

    await make_runner(*HANDLERS).run(delivery)

    assert mailer.sent == []


async def test_pruning_deletes_the_sessions_that_nobody_can_use_any_more(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user = await make_user()
    await add_session(jobs.database, user.id, expires_in=timedelta(seconds=-1))
    living = await add_session(jobs.database, user.id, expires_in=timedelta(days=1))

    await make_runner(*HANDLERS).run(await jobs.deliver(PruneSessions()))

    assert await jobs.scalar("SELECT array_agg(id) FROM user_sessions") == [living.id]


async def add_token(
    database: Database, user: User, *, purpose: TokenPurpose = RESET, expires_in: timedelta = timedelta(minutes=30)
) -> OneTimeToken:
    now = utcnow()
    token = OneTimeTokens(one_time_settings()).issue(user, purpose, now=now)
    token.expires_at = now + expires_in
    async with database.sessions.begin() as session:
        session.add(token)
    return token


async def tokens_left(database: Database) -> list[OneTimeToken]:
    async with database.read_sessions() as session:
        return list(await session.scalars(select(OneTimeToken)))


async def test_pruning_deletes_the_links_that_nobody_can_use_any_more(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user = await make_user()
    await add_token(jobs.database, user, expires_in=timedelta(seconds=-1))
    living = await add_token(jobs.database, user)

    await make_runner(*HANDLERS).run(await jobs.deliver(PruneSessions()))

    assert [token.id for token in await tokens_left(jobs.database)] == [living.id]


async def test_an_owner_hears_that_somebody_tried_to_register(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, mailer: MemoryMailer
) -> None:
    user = await make_user(email="ada@example.test")

    await make_runner(*HANDLERS).run(await jobs.deliver(RegistrationNotice(user_id=user.id)))

    (mail,) = mailer.sent
    assert (mail["To"], mail["Subject"]) == ("ada@example.test", "You have a Groundwork account already")


@pytest.mark.parametrize("user_id", [None, new_id()])
async def test_nobody_hears_of_a_registration_without_an_account(
    jobs: Jobs, make_runner: MakeRunner, mailer: MemoryMailer, user_id: UUID | None
) -> None:
    delivery = await jobs.deliver(RegistrationNotice(user_id=user_id))

    await make_runner(*HANDLERS).run(delivery)

    assert mailer.sent == []
    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_a_link_replaces_the_one_before_it(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    old = await add_token(jobs.database, user)
    verification = await add_token(jobs.database, user, purpose=VERIFY)

    await make_runner(*HANDLERS).run(await jobs.deliver(OneTimeLink(user_id=user.id, purpose=RESET)))

    ids = {token.id for token in await tokens_left(jobs.database)}
    assert len(ids) == 2
    assert verification.id in ids
    assert old.id not in ids


async def test_parallel_requests_leave_one_link(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    deliveries = [await jobs.deliver(OneTimeLink(user_id=user.id, purpose=RESET)) for _ in range(5)]

    await asyncio.gather(*(make_runner(*HANDLERS).run(delivery) for delivery in deliveries))

    assert len(await tokens_left(jobs.database)) == 1


async def test_a_link_is_mailed_by_a_job_of_its_own(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()

    await make_runner(*HANDLERS).run(await jobs.deliver(OneTimeLink(user_id=user.id, purpose=RESET)))

    (token,) = await tokens_left(jobs.database)
    job = await jobs.scalar("SELECT payload FROM jobs WHERE kind = 'email.link'")
    assert job == {"token_id": str(token.id)}


@pytest.mark.parametrize("who", ["nobody", "a removed user", "a disabled user", "a verified user"])
async def test_some_get_no_link(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, who: str) -> None:
    user = await make_user()
    async with jobs.database.sessions.begin() as session:
        disabled_at = utcnow() if who == "a disabled user" else None
        await session.execute(update(User).values(email_verified_at=utcnow(), disabled_at=disabled_at))
    user_id = {"nobody": None, "a removed user": new_id()}.get(who, user.id)
    delivery = await jobs.deliver(OneTimeLink(user_id=user_id, purpose=VERIFY))

    await make_runner(*HANDLERS).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED
    assert await tokens_left(jobs.database) == []


@pytest.mark.parametrize(
    ("purpose", "expires_in", "page", "lifetime"),
    [(RESET, timedelta(minutes=30), "reset", "30 minutes"), (VERIFY, timedelta(hours=24), "verify", "24 hours")],
)
async def test_a_link_is_mailed_with_the_token_in_its_fragment(
    jobs: Jobs,
    make_runner: MakeRunner,
    make_user: MakeUser,
    mailer: MemoryMailer,
    purpose: TokenPurpose,
    expires_in: timedelta,
    page: str,
    lifetime: str,
) -> None:
    user = await make_user(email="ada@example.test")
    token = await add_token(jobs.database, user, purpose=purpose, expires_in=expires_in)

    await make_runner(*HANDLERS).run(await jobs.deliver(OneTimeEmail(token_id=token.id)))

    (mail,) = mailer.sent
    secret = OneTimeTokens(one_time_settings()).derive(token)
    assert mail["To"] == "ada@example.test"
    assert f"https://groundwork.test/#/{page}?token={secret}" in plain_text(mail)
    assert f"within {lifetime}" in plain_text(mail)


async def test_a_link_that_is_mailed_again_is_the_same(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, mailer: MemoryMailer
) -> None:
    token = await add_token(jobs.database, await make_user())
    delivery = await jobs.deliver(OneTimeEmail(token_id=token.id))
    await make_runner(*HANDLERS).run(delivery)
    again = await jobs.deliver(OneTimeEmail(token_id=token.id))

    await make_runner(*HANDLERS).run(again)

    first, second = mailer.sent
    assert plain_text(first) == plain_text(second)


@pytest.mark.parametrize("gone", ["used", "expired"])
async def test_a_link_that_nobody_can_use_is_not_mailed(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser, mailer: MemoryMailer, gone: str
) -> None:
    token = await add_token(jobs.database, await make_user(), expires_in=timedelta(seconds=-1))
    delivery = await jobs.deliver(OneTimeEmail(token_id=new_id() if gone == "used" else token.id))

    await make_runner(*HANDLERS).run(delivery)

    assert mailer.sent == []
    assert (await jobs.get(delivery)).state is JobState.COMPLETED
