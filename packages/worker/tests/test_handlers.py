"""What our own jobs do."""

from datetime import timedelta

import pytest

from app_db import Database
from app_db.jobs.catalog import AccountExport, Notice, PruneSessions, SecurityNotice, WelcomeEmail
from app_db.models import JobState, UserSession
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.handlers import HANDLERS
from app_worker.handlers.account import PAGE
from app_worker.mail import MemoryMailer

from .conftest import Jobs, MakeRunner


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
    assert (mail["To"], mail["Message-ID"]) == ("ada@example.test", f"<{delivery.id}@groundwork>")


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


async def test_an_export_holds_all_that_belongs_to_the_user(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user, other = await make_user(email="ada@example.test"), await make_user()
    user_session = await add_session(jobs.database, user.id, expires_in=timedelta(days=1))
    await add_session(jobs.database, other.id, expires_in=timedelta(days=1))
    own_jobs = [await jobs.enqueue(owner_id=user.id) for _ in range(PAGE)]
    await jobs.enqueue(owner_id=other.id)
    delivery = await jobs.deliver(AccountExport(user_id=user.id), owner_id=user.id, priority=0)

    await make_runner(*HANDLERS).run(delivery)

    result = (await jobs.get(delivery)).result
    assert result is not None
    assert result["account"] == {
        "user_id": str(user.id),
        "email": "ada@example.test",
        "role": "user",
        "created_at": user.created_at.isoformat(),
    }
    assert [entry["id"] for entry in result["sessions"]] == [str(user_session.id)]
    assert {entry["id"] for entry in result["jobs"]} == {str(job_id) for job_id in [*own_jobs, delivery.id]}


async def test_an_export_shows_how_far_it_is(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    delivery = await jobs.deliver(AccountExport(user_id=user.id))

    await make_runner(*HANDLERS).run(delivery)

    assert (await jobs.get(delivery)).progress == {"done": 3, "of": 3, "step": "done"}


async def test_an_export_for_a_user_who_has_left_is_empty(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(AccountExport(user_id=new_id()))

    await make_runner(*HANDLERS).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result) == (JobState.COMPLETED, {})


async def test_pruning_deletes_the_sessions_that_nobody_can_use_any_more(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user = await make_user()
    await add_session(jobs.database, user.id, expires_in=timedelta(seconds=-1))
    living = await add_session(jobs.database, user.id, expires_in=timedelta(days=1))

    await make_runner(*HANDLERS).run(await jobs.deliver(PruneSessions()))

    assert await jobs.scalar("SELECT array_agg(id) FROM user_sessions") == [living.id]
