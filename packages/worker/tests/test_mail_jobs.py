"""The outcomes of jobs that send mail, and their effects on the accounts that they write to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from app_db import Database
from app_db.features.accounts.payloads import AccountErasure, WelcomeEmail
from app_db.models import AuditEvent, JobError, JobState, User
from app_db.testing.plugin import MakeUser
from app_worker.context import JobContext
from app_worker.correspondence import MOST_COPIES, mail_to
from app_worker.handlers import HANDLERS
from app_worker.mail import MemoryMailer
from app_worker.mail_errors import MailDeferred, MailServerRefuses, MailUnanswered, MailUndeliverable, Reply
from app_worker.registry import Handler, Mode, handles
from app_worker.testing import drain

from .conftest import Jobs, Note

GONE = MailUndeliverable("RCPT", Reply(550, "5.1.1"))


class Refusing(MemoryMailer):
    """A mailer that raises `error` until the test takes it away."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error
        self.tries = 0

    async def send(self, message: EmailMessage) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        await super().send(message)


async def stored(database: Database, user_id: UUID) -> User:
    async with database.read_sessions() as session:
        return await session.get_one(User, user_id)


async def audited(database: Database) -> list[tuple[UUID | None, dict[str, object]]]:
    async with database.read_sessions() as session:
        events = await session.scalars(select(AuditEvent).where(AuditEvent.event == "mail_undeliverable"))
        return [(event.user_id, event.details) for event in events]


async def try_again_and_again(database: Database, mailer: MemoryMailer, times: int = 2) -> None:
    for _ in range(times):
        await drain(database, mailer=mailer, keep_failures=True, with_scheduled=True)


async def test_a_recipient_that_is_refused_for_good_is_not_tried_again(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    """RFC 5321, 4.2.1: a client must not repeat a request unchanged after 5yz."""
    user = await make_user(email="ada@example.test")
    job_id = await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer = Refusing(GONE)

    await try_again_and_again(database, mailer)

    job = await jobs.get(job_id)
    assert (job.state, job.attempt, mailer.tries) == (JobState.DISCARDED, 1, 1)
    async with database.read_sessions() as session:
        error = (await session.scalars(select(JobError))).one()
    assert error.error == "app_worker.mail_errors.MailUndeliverable: RCPT: 550 5.1.1"


async def test_an_account_whose_mail_is_refused_is_marked(jobs: Jobs, database: Database, make_user: MakeUser) -> None:
    user, other = await make_user(email="ada@example.test"), await make_user(email="bob@example.test")
    for _ in range(2):
        await jobs.enqueue(WelcomeEmail(user_id=user.id))

    await try_again_and_again(database, Refusing(GONE))

    marked = await stored(database, user.id)
    assert marked.undeliverable_at is not None
    assert marked.undeliverable_because == "RCPT: 550 5.1.1"
    assert (await stored(database, other.id)).undeliverable_at is None
    assert await audited(database) == [(user.id, {"because": "RCPT: 550 5.1.1"})]


async def test_an_account_is_reached_again_once_a_mail_is_taken(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="ada@example.test")
    await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer = Refusing(GONE)
    await try_again_and_again(database, mailer, times=1)
    await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer.error = None

    await try_again_and_again(database, mailer, times=1)

    reached = await stored(database, user.id)
    assert (reached.undeliverable_at, reached.undeliverable_because, len(mailer.sent)) == (None, None, 1)


async def test_what_is_refused_at_an_address_of_before_marks_nobody(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="ada@example.test")
    await jobs.enqueue(WelcomeEmail(user_id=user.id))

    class Moving(Refusing):
        async def send(self, message: EmailMessage) -> None:
            async with database.sessions.begin() as session:
                await session.execute(update(User).values(email_canonical="ada@elsewhere.test"))
            await super().send(message)

    await try_again_and_again(database, Moving(GONE), times=1)

    assert (await stored(database, user.id)).undeliverable_at is None


@pytest.mark.parametrize(
    "error", [MailDeferred("RCPT", Reply(450, "4.2.0")), MailServerRefuses("AUTH", Reply(535, "5.7.8"))]
)
async def test_what_concerns_no_recipient_is_tried_again_and_marks_nobody(
    jobs: Jobs, database: Database, make_user: MakeUser, error: Exception
) -> None:
    user = await make_user(email="ada@example.test")
    job_id = await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer = Refusing(error)
    await try_again_and_again(database, mailer, times=3)
    mailer.error = None

    await try_again_and_again(database, mailer, times=1)

    assert ((await jobs.get(job_id)).state, mailer.tries, len(mailer.sent)) == (JobState.COMPLETED, 4, 1)
    assert await audited(database) == []


async def test_a_server_that_never_answers_gets_three_copies(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    """RFC 1047: the server may have taken each copy; earlier attempts that handed nothing over do not count."""
    user = await make_user(email="ada@example.test")
    job_id = await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer = Refusing(MailDeferred("RCPT", Reply(450)))
    await try_again_and_again(database, mailer, times=3)
    mailer.error, mailer.tries = MailUnanswered("the message", "no answer in time"), 0

    await try_again_and_again(database, mailer, times=MOST_COPIES + 2)

    job = await jobs.get(job_id)
    assert (job.state, mailer.tries) == (JobState.DISCARDED, MOST_COPIES)
    assert (await stored(database, user.id)).undeliverable_at is None


@asynccontextmanager
async def users_refuse_changes(database: Database) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Give a function that sets the SQLSTATE with which every UPDATE of a user fails in this block."""
    function = "FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE SQLSTATE '{}'; END$$"

    async def fail_with(sqlstate: str) -> None:
        async with database.sessions.begin() as session:
            await session.execute(text(f"CREATE OR REPLACE {function.format(sqlstate)}"))

    await fail_with("57014")
    async with database.sessions.begin() as session:
        await session.execute(
            text("CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    try:
        yield fail_with
    finally:
        async with database.sessions.begin() as session:
            await session.execute(text("DROP FUNCTION refuse CASCADE"))


async def test_a_mark_that_cannot_be_taken_away_now_does_not_send_the_mail_again(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="ada@example.test")
    async with database.sessions.begin() as session:
        await session.execute(update(User).values(undeliverable_at=text("now()"), undeliverable_because="RCPT: 550"))
    job_id = await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer = Refusing(GONE)
    mailer.error = None
    async with users_refuse_changes(database) as fail_with:
        await try_again_and_again(database, mailer)
        first = await jobs.get(job_id)
        await fail_with("P0001")
        failing = await jobs.enqueue(WelcomeEmail(user_id=user.id))
        await try_again_and_again(database, mailer, times=1)

    assert (first.state, len(mailer.sent)) == (JobState.COMPLETED, 2)
    assert (await jobs.get(failing)).state is JobState.RETRYABLE


@handles(Note, mode=Mode.LEASE)
async def speak_too_much(job: JobContext, payload: Note) -> str:
    """Leave an address wherever a handler can leave something."""
    await job.set_progress({"to": "ada@example.test"})
    if job.attempt == 1:
        raise ValueError("ada@example.test")
    return "ada@example.test"


async def test_what_a_job_leaves_after_the_deletion_goes_too(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    """GDPR, article 17: an export that is under way when its account is deleted writes its result afterwards."""
    user, other = await make_user(email="ada@example.test"), await make_user(email="bob@example.test")
    handlers: tuple[Handler, ...] = (*HANDLERS, speak_too_much)

    async def run(*, with_scheduled: bool = False) -> None:
        await drain(database, handlers=handlers, keep_failures=True, with_scheduled=with_scheduled)

    job_ids = [await jobs.enqueue(Note(), owner_id=owner) for owner in (user.id, other.id)]
    await run()  # both have failed once, and wait
    erasure = await jobs.enqueue(AccountErasure(user_id=user.id))
    await run()
    waiting = await jobs.get(erasure)
    left = await jobs.scalar("SELECT count(*) FROM job_errors")
    await run(with_scheduled=True)  # now they complete
    await run(with_scheduled=True)

    assert (waiting.state, left) == (JobState.SCHEDULED, 1)
    assert (await jobs.get(erasure)).state is JobState.COMPLETED
    of_user, of_other = [await jobs.get(job_id) for job_id in job_ids]
    assert (of_user.state, of_user.result, of_user.progress) == (JobState.COMPLETED, None, None)
    assert (of_other.result, of_other.progress) == ("ada@example.test", {"to": "ada@example.test"})


@handles(Note, mode=Mode.LEASE)
async def write_elsewhere(job: JobContext, payload: Note) -> None:
    """Write to an address that the only account does not have."""
    async with job.transaction() as session:
        user = (await session.scalars(select(User))).one()
    await mail_to(job, user, "welcome", to="elsewhere@example.test")


async def test_an_address_that_an_account_does_not_have_marks_no_account(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="ada@example.test")
    job_id = await jobs.enqueue(Note())

    await drain(database, handlers=[write_elsewhere], mailer=Refusing(GONE), keep_failures=True)

    assert (await jobs.get(job_id)).state is JobState.DISCARDED
    assert (await stored(database, user.id)).undeliverable_at is None


async def test_a_mail_to_another_address_clears_no_mark(jobs: Jobs, database: Database, make_user: MakeUser) -> None:
    user = await make_user(email="ada@example.test")
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE users SET undeliverable_at = now(), undeliverable_because = 'x'"))
    await jobs.enqueue(Note())

    await drain(database, handlers=[write_elsewhere])

    assert (await stored(database, user.id)).undeliverable_because == "x"
