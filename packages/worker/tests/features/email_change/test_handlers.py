"""The mails of a change of address."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, text, update

from app_db import Database
from app_db.features.email_change.models import EmailChange, FormerEmail
from app_db.features.email_change.payloads import EmailChanged, EmailChangeLink
from app_db.features.retention.payloads import PruneSessions
from app_db.models import User, UserSession
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.handlers import HANDLERS
from app_worker.mail import MemoryMailer, plain_text
from packages.worker.tests.conftest import Jobs, MakeRunner

OLD, NEW = "ada@example.test", "lovelace@example.test"


@pytest.fixture
async def ada(make_user: MakeUser) -> User:
    return await make_user(email=OLD)


async def asked(database: Database, user: User, *, expires_in: timedelta = timedelta(hours=1)) -> UUID:
    """Insert a change of this user's address."""
    times = {"created_at": utcnow(), "expires_at": utcnow() + expires_in}
    living = {"refresh_key_id": "1", "idle_expires_at": times["expires_at"], "expires_at": times["expires_at"]}
    user_session = UserSession(id=new_id(), user_id=user.id, **living)
    change = EmailChange(
        id=new_id(), user_id=user.id, session_id=user_session.id, before_canonical=OLD, email=NEW, email_canonical=NEW,
        key_id="test", **times,
    )  # fmt: skip
    async with database.unit_of_work() as session:
        session.add(user_session)
        await session.flush()  # the change refers to it
        session.add(change)
    return change.id


async def former(database: Database, user: User, *, can_return: bool) -> UUID:
    """Insert an address that the user had before."""
    row = FormerEmail(
        id=new_id(), user_id=user.id, email=OLD, email_canonical=OLD, can_return=can_return, key_id="test",
        expires_at=utcnow() + timedelta(hours=72),
    )  # fmt: skip
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == user.id).values(email=NEW, email_canonical=NEW))
        session.add(row)
    return row.id


async def test_the_link_goes_to_the_new_address_and_names_no_other(
    jobs: Jobs, make_runner: MakeRunner, database: Database, ada: User, mailer: MemoryMailer
) -> None:
    delivery = await jobs.deliver(EmailChangeLink(change_id=await asked(database, ada)))

    await make_runner(*HANDLERS).run(delivery)

    [mail] = mailer.sent
    assert mail["To"] == NEW
    assert "/#/change-email?token=" in plain_text(mail)
    assert OLD not in mail.as_string()


async def test_the_owner_of_a_taken_address_is_told_and_gets_no_link(
    jobs: Jobs, make_runner: MakeRunner, database: Database, ada: User, make_user: MakeUser, mailer: MemoryMailer
) -> None:
    bob = await make_user(email=NEW)
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == bob.id).values(email_verified_at=utcnow()))
    delivery = await jobs.deliver(EmailChangeLink(change_id=await asked(database, ada)))

    await make_runner(*HANDLERS).run(delivery)

    [mail] = mailer.sent
    assert (mail["To"], "token=" in mail.as_string()) == (NEW, False)
    assert OLD not in mail.as_string()


@pytest.mark.parametrize("how", ["expired", "used", "deleted"])
async def test_a_change_that_has_ended_is_not_mailed(
    jobs: Jobs, make_runner: MakeRunner, database: Database, ada: User, mailer: MemoryMailer, how: str
) -> None:
    change_id = await asked(database, ada, expires_in=timedelta(seconds=-1 if how == "expired" else 60))
    async with database.unit_of_work() as session:
        if how == "used":
            await session.execute(delete(EmailChange))
        if how == "deleted":
            await session.execute(delete(User))
    delivery = await jobs.deliver(EmailChangeLink(change_id=change_id))

    await make_runner(*HANDLERS).run(delivery)

    assert mailer.sent == []


@pytest.mark.parametrize("can_return", [True, False])
async def test_the_address_before_is_told_with_a_link_if_it_can_come_back(
    jobs: Jobs, make_runner: MakeRunner, database: Database, ada: User, mailer: MemoryMailer, *, can_return: bool
) -> None:
    delivery = await jobs.deliver(EmailChanged(former_id=await former(database, ada, can_return=can_return)))

    await make_runner(*HANDLERS).run(delivery)

    [mail] = mailer.sent
    assert mail["To"] == OLD
    assert ("/#/undo-email-change?token=" in plain_text(mail)) is can_return
    assert NEW not in mail.as_string()


async def test_a_change_that_was_undone_before_its_mail_tells_nobody(
    jobs: Jobs, make_runner: MakeRunner, mailer: MemoryMailer
) -> None:
    await make_runner(*HANDLERS).run(await jobs.deliver(EmailChanged(former_id=new_id())))

    assert mailer.sent == []


async def test_what_nobody_has_used_is_pruned(
    jobs: Jobs, make_runner: MakeRunner, database: Database, ada: User
) -> None:
    await asked(database, ada, expires_in=timedelta(seconds=-1))
    await former(database, ada, can_return=True)
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE former_emails SET expires_at = now()"))

    await make_runner(*HANDLERS).run(await jobs.deliver(PruneSessions()))

    assert await jobs.scalar("SELECT count(*) FROM email_changes") == 0
    assert await jobs.scalar("SELECT count(*) FROM former_emails") == 0
