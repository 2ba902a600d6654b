"""Links to sign in with: made for whom, and mailed until when."""

import pytest
from sqlalchemy import text, update

from app_db import Database
from app_db.features.magic_link.payloads import SignInLinkEmail, SignInLinkRequest
from app_db.models import User
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.handlers import HANDLERS
from app_worker.mail import MemoryMailer, plain_text
from app_worker.testing import drain
from packages.worker.tests.conftest import Jobs, MakeRunner

DIGEST = "0" * 64


async def test_a_link_is_made_and_mailed_to_the_owner(
    jobs: Jobs, database: Database, make_user: MakeUser, mailer: MemoryMailer
) -> None:
    user = await make_user(email="ada@example.test")
    await jobs.enqueue(SignInLinkRequest(user_id=user.id, binding_digest=DIGEST))

    await drain(database, mailer=mailer)

    [mail] = mailer.sent
    assert (mail["To"], mail["Subject"]) == ("ada@example.test", "Sign in to Groundwork")
    assert "/#/sign-in?token=" in plain_text(mail)
    assert await jobs.scalar("SELECT expires_at - created_at = interval '15 minutes' FROM sign_in_links")


@pytest.mark.parametrize("known", [True, False])
async def test_nobody_without_an_account_and_no_disabled_one_gets_a_link(
    jobs: Jobs, database: Database, make_user: MakeUser, mailer: MemoryMailer, *, known: bool
) -> None:
    user = await make_user()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=utcnow()))
    await jobs.enqueue(SignInLinkRequest(user_id=user.id if known else None, binding_digest=DIGEST))

    await drain(database, mailer=mailer)

    assert mailer.sent == []


@pytest.mark.parametrize("how", ["DELETE FROM sign_in_links", "UPDATE sign_in_links SET expires_at = now()"])
async def test_a_link_that_has_ended_is_not_mailed(
    jobs: Jobs, make_runner: MakeRunner, database: Database, make_user: MakeUser, mailer: MemoryMailer, how: str
) -> None:
    user, link_id = await make_user(), new_id()
    values = {"id": link_id, "user": user.id, "digest": DIGEST}
    insert = text(
        "INSERT INTO sign_in_links (id, user_id, email_canonical, binding_digest, key_id, expires_at)"
        " VALUES (:id, :user, 'x', :digest, 'test', now() + interval '1 minute')"
    )
    async with database.unit_of_work() as session:
        await session.execute(insert, values)
        await session.execute(text(how))

    await make_runner(*HANDLERS).run(await jobs.deliver(SignInLinkEmail(link_id=link_id)))

    assert mailer.sent == []
