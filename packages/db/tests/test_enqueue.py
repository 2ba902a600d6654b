"""Accepting jobs."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from app_db import Database, Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.catalog import CATALOG
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_db.models import Job, JobState
from app_db.testing.queries import assert_queries
from app_db.types import new_id


class Versioned(JobPayload):
    """A payload whose fields have changed their meaning twice."""

    kind = "test.versioned"
    version = 3


class Note(JobPayload):
    """A payload that holds anything."""

    kind = "test.note"
    note: Any


async def stored(session: Session, job_id: UUID) -> Job:
    return (await session.scalars(select(Job).where(Job.id == job_id))).one()


async def test_a_job_is_one_insert_in_the_callers_transaction(database: Database, session: Session) -> None:
    with assert_queries(database, max=1):
        job_id = await enqueue(session, PruneSessions())
        await session.commit()

    assert await session.get(Job, job_id) is not None


async def test_a_job_is_rolled_back_with_its_transaction(database: Database, session: Session) -> None:
    job_id = await enqueue(session, PruneSessions())
    await session.rollback()

    assert await session.get(Job, job_id) is None


async def test_a_job_holds_the_fields_of_its_payload_and_nothing_else(session: Session) -> None:
    user_id = new_id()

    job = await stored(session, await enqueue(session, WelcomeEmail(user_id=user_id)))

    assert (job.kind, job.payload) == ("email.welcome", {"user_id": str(user_id)})


async def test_a_job_keeps_the_version_of_its_payload(session: Session) -> None:
    job = await stored(session, await enqueue(session, Versioned()))

    assert job.payload_version == 3


async def test_a_job_is_available_at_once_by_default(session: Session) -> None:
    job = await stored(session, await enqueue(session, PruneSessions()))

    now = await database_time(session)  # the beginning of the transaction
    assert (job.state, job.run_at, job.claim_at) == (JobState.AVAILABLE, now, now)


async def test_a_job_for_later_is_scheduled_for_that_time(session: Session) -> None:
    tomorrow = await database_time(session) + timedelta(days=1)

    job = await stored(session, await enqueue(session, PruneSessions(), run_at=tomorrow))

    assert (job.state, job.run_at, job.claim_at) == (JobState.SCHEDULED, tomorrow, tomorrow)


@pytest.mark.parametrize(
    ("seconds", "state"), [(-1, JobState.AVAILABLE), (0, JobState.AVAILABLE), (1, JobState.SCHEDULED)]
)
async def test_postgres_clock_decides_what_is_for_later(session: Session, seconds: int, state: JobState) -> None:
    run_at = await database_time(session) + timedelta(seconds=seconds)

    job = await stored(session, await enqueue(session, PruneSessions(), run_at=run_at))

    assert job.state is state


async def test_a_job_has_modest_defaults(session: Session) -> None:
    job = await stored(session, await enqueue(session, PruneSessions()))

    assert (job.queue, job.priority, job.max_attempts, job.owner_id, job.request_id) == ("default", 2, None, None, None)


async def test_a_job_keeps_what_it_was_enqueued_with(session: Session) -> None:
    owner_id = new_id()

    job_id = await enqueue(session, PruneSessions(), queue="mail", priority=0, max_attempts=3, owner_id=owner_id)

    job = await stored(session, job_id)
    assert (job.queue, job.priority, job.max_attempts, job.owner_id) == ("mail", 0, 3, owner_id)


async def test_a_job_remembers_the_request_that_made_it(database: Database) -> None:
    async with database.unit_of_work(request_id="request-1") as session:
        job = await stored(session, await enqueue(session, PruneSessions()))

    assert job.request_id == "request-1"


async def test_a_new_job_was_neither_delivered_nor_tried(session: Session) -> None:
    job = await stored(session, await enqueue(session, PruneSessions()))

    assert (job.fence, job.attempt, job.redeliveries, job.crashes) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ({"run_at": datetime(2026, 3, 29, 2, 30)}, "run_at 2026-03-29 02:30:00 has no time zone"),  # noqa: DTZ001  # what is tested
        (
            {"run_at": datetime.max.replace(tzinfo=UTC)},
            "run_at 9999-12-31 23:59:59.999999.* is not between 1970-01-01 and",
        ),
        ({"run_at": datetime(9999, 1, 1, tzinfo=UTC)}, "run_at 9999-01-01 .* is not between"),
        ({"run_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}, "run_at 0001-01-01 .* is not between"),
        ({"queue": ""}, "the queue needs a name"),
        ({"queue": "q" * 201}, "the queue has 201 characters, 200 are allowed"),
        ({"queue": "a\0"}, r"the queue 'a\\x00' holds U\+0000"),
        ({"queue": "\ud800"}, "surrogates not allowed"),
        ({"priority": 32768}, "priority 32768 is not between -32768 and 32767"),
        ({"priority": -32769}, "priority -32769 is not between"),
        ({"max_attempts": 0}, "max_attempts 0 is not between 1 and 32767"),
        ({"max_attempts": 32768}, "max_attempts 32768 is not between"),
    ],
)
async def test_a_job_on_impossible_terms_is_refused_before_it_is_sent(
    database: Database, session: Session, terms: dict[str, Any], complaint: str
) -> None:
    with assert_queries(database, max=0), pytest.raises(ValueError, match=complaint):
        await enqueue(session, PruneSessions(), **terms)


@pytest.mark.parametrize(("priority", "max_attempts"), [(-32768, 1), (32767, 32767)])
async def test_a_job_on_extreme_terms_is_accepted(session: Session, priority: int, max_attempts: int) -> None:
    job = await stored(session, await enqueue(session, PruneSessions(), priority=priority, max_attempts=max_attempts))

    assert (job.priority, job.max_attempts) == (priority, max_attempts)


@pytest.mark.parametrize("run_at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)])
async def test_the_first_and_the_last_time_of_a_job_can_be_read_again(session: Session, run_at: datetime) -> None:
    job = await stored(session, await enqueue(session, PruneSessions(), run_at=run_at, queue="\N{SNOWMAN}" * 200))

    assert (job.run_at, job.claim_at) == (run_at, run_at)


async def test_a_job_with_wrong_fields_is_refused_before_it_is_sent(database: Database, session: Session) -> None:
    nobody: Any = "nobody"
    payload = WelcomeEmail.model_construct(user_id=nobody)

    with assert_queries(database, max=0), pytest.raises(ValidationError):
        await enqueue(session, payload)


@pytest.mark.parametrize(
    ("note", "complaint"),
    [("a\0", r"test\.note: a text holds U\+0000"), ({"\0": 1}, r"U\+0000"), (["\ud800"], "surrogates")],
)
async def test_a_payload_that_postgres_cannot_hold_is_refused_before_it_is_sent(
    database: Database, session: Session, note: Any, complaint: str
) -> None:
    with assert_queries(database, max=0), pytest.raises(ValueError, match=complaint):
        await enqueue(session, Note(note=note))


async def test_a_payload_may_spell_what_postgres_cannot_hold(session: Session) -> None:
    spelled = r"\u0000 \\u0000 😀"

    job = await stored(session, await enqueue(session, Note(note=spelled), unique=Unique(key="a\0 \ud800")))

    assert job.payload == {"note": spelled}


async def test_a_job_that_is_to_run_inline_has_run_when_enqueue_returns(session: Session) -> None:
    ran: list[tuple[Session, UUID]] = []

    async def run(session: Session, job_id: UUID) -> None:
        ran.append((session, (await stored(session, job_id)).id))

    session.info["run_inline"] = run

    job_id = await enqueue(session, PruneSessions())

    assert ran == [(session, job_id)]


async def test_the_ids_of_jobs_are_in_their_order(session: Session) -> None:
    ids = [await enqueue(session, PruneSessions()) for _ in range(5)]

    assert ids == sorted(ids)
    assert await session.scalar(select(func.count()).select_from(Job)) == 5


def test_every_kind_of_job_has_a_name_of_its_own() -> None:
    assert len({payload.kind for payload in CATALOG}) == len(CATALOG)
