"""Every documented limit at its maximum, with the statements that add to it, and beside jobs far below it.

Reported of others: a counter at the end of its type makes the statement that works on many rows fail for all of them
(Oban #1024 on `attempt`, good_job #1351).
"""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from app_db import Database, Session
from app_db.jobs import claims, control, ledger
from app_db.jobs.control import Action
from app_db.jobs.filters import JobFilter
from app_db.jobs.ledger import Starter
from app_db.models import Job, JobState
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_runtime.valkey import ValkeySettings

from .ledger_steps import LEASE

type MakeJob = Callable[..., Awaitable[UUID]]


@pytest.fixture
def add_job(database: Database) -> MakeJob:
    """Return a factory of committed jobs with any columns; one that is open is due."""

    async def add(state: JobState, **columns: Any) -> UUID:  # Any: columns of Job
        job_id = new_id()
        times = {"finished_at": func.now()} if state is JobState.DISCARDED else {"claim_at": func.now()}
        async with database.sessions.begin() as session:
            session.add(
                Job(
                    **{
                        "id": job_id,
                        "kind": "test",
                        "payload": {},
                        "payload_version": 1,
                        "state": state,
                        **times,
                        **columns,
                    }
                )
            )
        return job_id

    return add


async def test_a_job_that_has_used_all_attempts_there_can_be_does_not_stop_the_retry_of_others(
    session: Session, add_job: MakeJob
) -> None:
    worn = await add_job(JobState.DISCARDED, attempt=32767, max_attempts=32767)
    other = await add_job(JobState.DISCARDED, attempt=1, max_attempts=1)

    assert await control.act_on_all(session, JobFilter(kind="test"), Action.RETRY) == 2

    found = {job.id: job.max_attempts for job in await session.scalars(select(Job))}
    assert found == {worn: 32767, other: 2}


async def test_a_job_that_has_used_all_attempts_there_can_be_starts_again(session: Session, add_job: MakeJob) -> None:
    await add_job(JobState.AVAILABLE, attempt=32767, max_attempts=32767)
    claim = await claims.claim(session, queue="default", max_jobs=1, lease=LEASE)

    started = await ledger.start(session, claim.deliveries[0], Starter(new_id(), ["test"], LEASE))

    assert started is not None
    assert started.attempt == 32767


@pytest.mark.parametrize("counter", ["fence", "redeliveries"])
async def test_a_counter_at_its_end_does_not_stop_the_claim_of_others(
    session: Session, add_job: MakeJob, counter: str
) -> None:
    worn = await add_job(JobState.DISPATCHED, **{counter: 2**31 - 1})
    other = await add_job(JobState.AVAILABLE)

    claim = await claims.claim(session, queue="default", max_jobs=10, lease=LEASE)

    assert {delivery.id for delivery in claim.deliveries} == {worn, other}
    assert all(delivery.fence > 0 for delivery in claim.deliveries)


@pytest.mark.parametrize("name", ["", "q" * 201, "q" * 4000, "a\0", "\ud800"])
async def test_a_queue_of_no_possible_name_is_neither_paused_nor_limited(session: Session, name: str) -> None:
    with pytest.raises(ValueError, match=r"queue|surrogates"):
        await control.pause(session, name)
    with pytest.raises(ValueError, match=r"queue|surrogates"):
        await control.limit(session, name, 1)


@pytest.mark.parametrize("limit", [0, -1, 2**31])
async def test_a_limit_that_cannot_be_kept_is_refused(session: Session, limit: int) -> None:
    with pytest.raises(ValueError, match="a limit is between 1 and 2147483647; to stop a queue, pause it"):
        await control.limit(session, "default", limit)


async def test_the_longest_name_and_the_largest_limit_are_kept(session: Session) -> None:
    longest = "\N{SNOWMAN}" * 200

    await control.limit(session, longest, 2**31 - 1)
    await control.pause(session, longest)

    assert await claims.is_paused(session, longest)


POSTGRES = "postgresql://app:secret-0123456789@localhost/app"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "P25D"), ("lock_timeout", "-1"), ("pool_timeout", "0"), ("connect_timeout", "0"),
        ("request_timeout", "P999999999D"), ("idle_in_transaction_timeout", "2147484"), ("command_timeout", "0"),
    ],
)  # fmt: skip
def test_a_time_that_postgres_cannot_count_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name):
        DatabaseSettings.model_validate({"url": POSTGRES, name: value})


def test_valkey_is_waited_for_at_least_a_moment() -> None:
    with pytest.raises(ValidationError, match="timeout"):
        ValkeySettings.model_validate({"url": "redis://localhost", "timeout": "0"})
