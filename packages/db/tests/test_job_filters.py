"""Lists by age and by ids; how many jobs an action would act on; another time; what fails."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func

from app_db import Database, Session
from app_db.errors import NotFound
from app_db.jobs.control import Action, FilterTooWide, JobIsFinal, JobIsRunning, act_on_all
from app_db.jobs.counting import Count, count_all
from app_db.jobs.filters import JobFilter
from app_db.jobs.rescheduling import reschedule
from app_db.models import FINAL_STATES, Job, JobError, JobState
from app_db.paging import Cursor
from app_db.repositories import job_lists
from app_db.repositories.job_failures import account_and_jobs_with_error, failing_kinds
from app_db.repositories.jobs import JobRepository
from app_db.repositories.users import UserRepository
from app_db.testing.plugin import MakeUser
from app_db.types import first_id_at, new_id, utcnow

HOUR = timedelta(hours=1)
type AddJob = Callable[..., Awaitable[UUID]]


@pytest.fixture
def add_job(session: Session) -> AddJob:
    """Return a function that adds a job which was enqueued some hours ago."""

    async def add(hours: int = 0, *, state: JobState = JobState.AVAILABLE, **columns: Any) -> UUID:  # Any: columns
        rest = new_id().int & ((1 << 80) - 1)
        job_id = UUID(int=first_id_at(utcnow() - hours * HOUR).int | rest)
        times = {"finished_at": func.now()} if state in FINAL_STATES else {"claim_at": func.now() - HOUR}
        about = {"kind": "test", "payload": {}, "payload_version": 1, "state": state}
        session.add(Job(id=job_id, **{**about, **times, **columns}))
        await session.flush()
        return job_id

    return add


async def found(session: Session, job_filter: JobFilter, *, limit: int = 2) -> list[UUID]:
    ids: list[UUID] = []
    after: Cursor | None = None
    for _ in range(20):
        page = await JobRepository(session).matching(job_filter, after=after, limit=limit)
        ids += [job.id for job in page.items]
        after = page.next
        if after is None:
            return ids
    raise AssertionError("it does not end")


@pytest.mark.parametrize("others", [{}, {"kind": "test"}, {"owner_id": UUID(int=7)}])
@pytest.mark.parametrize("few", [True, False])
async def test_jobs_are_found_by_their_age(
    session: Session, add_job: AddJob, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any], *, few: bool
) -> None:
    monkeypatch.setattr(job_lists, "GLANCE", 1 if few else 1000)
    jobs = [await add_job(hours, owner_id=UUID(int=7)) for hours in (0, 2, 4, 6, 8, 10)]
    now = utcnow()

    since = await found(session, JobFilter(since=now - 5 * HOUR, **others))
    before = await found(session, JobFilter(before=now - 5 * HOUR, **others))
    both = await found(session, JobFilter(since=now - 9 * HOUR, before=now - 3 * HOUR, **others))

    assert (since, before, both) == (jobs[:3], jobs[3:], jobs[2:5])
    assert all(first > second for first, second in pairwise(both))


async def test_jobs_are_found_by_their_ids(session: Session, add_job: AddJob) -> None:
    jobs = [await add_job(hours, kind="even" if hours % 2 else "odd") for hours in range(6)]

    ids = tuple(jobs[:5])

    assert await found(session, JobFilter(ids=ids)) == jobs[:5]
    assert await found(session, JobFilter(ids=ids, kind="odd", since=utcnow() - 3 * HOUR)) == [jobs[0], jobs[2]]


@pytest.mark.parametrize("action", Action)
async def test_the_number_that_is_shown_is_the_number_that_is_acted_on(
    session: Session, add_job: AddJob, action: Action
) -> None:
    for state in JobState:
        for hours in range(3):
            await add_job(hours, state=state)
    job_filter = JobFilter(since=utcnow() - 1.5 * HOUR, before=utcnow() + HOUR)

    counted = await count_all(session, job_filter, action, most=100)
    few = await count_all(session, job_filter, action, most=1)
    acted = await act_on_all(session, job_filter, action)

    assert counted == Count(acted, at_least=False)
    assert few == Count(1, at_least=True)


async def test_every_job_there_is_is_not_counted(session: Session) -> None:
    with pytest.raises(FilterTooWide):
        await count_all(session, JobFilter(), Action.CANCEL, most=1)


@pytest.mark.parametrize(
    ("state", "later", "becomes"),
    [
        (JobState.AVAILABLE, HOUR, JobState.SCHEDULED),
        (JobState.SCHEDULED, -HOUR, JobState.AVAILABLE),
        (JobState.RETRYABLE, HOUR, JobState.RETRYABLE),
    ],
)
async def test_a_job_that_waits_runs_at_another_time(
    session: Session, add_job: AddJob, state: JobState, later: timedelta, becomes: JobState
) -> None:
    job_id, run_at = await add_job(state=state, attempt=3), utcnow() + later

    await reschedule(session, job_id, run_at=run_at)

    job = await JobRepository(session).get(job_id)
    assert job is not None
    assert (job.state, job.claim_at, job.run_at, job.attempt) == (becomes, run_at, run_at, 3)


async def test_a_job_that_runs_or_has_ended_is_not_rescheduled(session: Session, add_job: AddJob) -> None:
    with pytest.raises(JobIsRunning):
        await reschedule(session, await add_job(state=JobState.EXECUTING), run_at=utcnow())
    with pytest.raises(JobIsFinal):
        await reschedule(session, await add_job(state=JobState.CANCELLED), run_at=utcnow())
    with pytest.raises(NotFound):
        await reschedule(session, new_id(), run_at=utcnow())
    with pytest.raises(ValueError, match="time zone"):
        await reschedule(session, await add_job(), run_at=datetime(2030, 1, 1))  # noqa: DTZ001  # the case
    with pytest.raises(ValueError, match="is not between"):
        await reschedule(session, await add_job(), run_at=datetime(9999, 12, 31, tzinfo=UTC))


async def test_failing_kinds_are_shown_with_since_when_and_for_whom(session: Session, add_job: AddJob) -> None:
    first, second = [await add_job(state=JobState.RETRYABLE, kind="mail", owner_id=new_id()) for _ in range(2)]
    gone = await add_job(state=JobState.DISCARDED, kind="sums")
    failed_at = utcnow() - timedelta(minutes=9)
    for number, (job_id, error) in enumerate([(first, "No Route"), (first, "no"), (second, "last"), (gone, "bad")]):
        session.add(JobError(job_id=job_id, attempt=1, error=error, failed_at=failed_at + timedelta(minutes=number)))
        await session.flush()

    sums, mail = await failing_kinds(session, since=utcnow() - HOUR)

    assert (sums.kind, sums.errors, sums.discarded, sums.owners, sums.job_id) == ("sums", 1, 1, 0, gone)
    assert (mail.errors, mail.jobs, mail.discarded, mail.owners, mail.error) == (3, 2, 0, 2, "last")
    assert mail.first_at == failed_at
    assert not mail.at_least
    assert await failing_kinds(session, since=utcnow() + HOUR) == []


async def test_an_address_and_a_text_in_errors_are_looked_up_together(
    session: Session, add_job: AddJob, make_user: MakeUser
) -> None:
    ada, job_id = await make_user(), await add_job()
    session.add(JobError(job_id=job_id, attempt=1, error="No Route"))
    await session.flush()

    assert await account_and_jobs_with_error(session, email=ada.email, error="no route") == (ada.id, (job_id,))
    assert await account_and_jobs_with_error(session, email=None, error="misspelt") == (None, ())
    assert await account_and_jobs_with_error(session, email="nobody@example.com", error="") == (None, ())


async def test_addresses_of_accounts_are_read_together(database: Database, make_user: MakeUser) -> None:
    ada = await make_user()
    async with database.unit_of_work(read_only=True) as session:
        assert await UserRepository(session).emails_of({ada.id, new_id()}) == {ada.id: ada.email}
        assert await UserRepository(session).emails_of(()) == {}
