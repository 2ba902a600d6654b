"""Rows that Postgres wrote while its clock was ahead go on, and times that a caller asked for stay.

As in the project's own report: a cron whose last tick lies ahead stands still without a word.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, text

from app_db import Session
from app_db.jobs.clock_steps import AHEAD, is_ahead, repair_times
from app_db.models import (
    Job,
    JobCron,
    JobError,
    JobState,
    JobWorker,
    OneTimeToken,
    TokenPurpose,
    UserSession,
)
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow

YEAR, HOUR, DAY = timedelta(days=365), timedelta(hours=1), timedelta(days=1)
FUTURE = func.now() + YEAR

type Add = Callable[..., Awaitable[UUID]]


@pytest.fixture
def add(session: Session) -> Add:
    """Return a function that writes a job as if the clock were a year ahead."""

    async def insert_job(state: JobState, **columns: Any) -> UUID:  # Any: columns of Job
        job_id = new_id()
        defaults = {"id": job_id, "kind": "test", "payload": {}, "payload_version": 1, "state": state}
        await session.execute(insert(Job).values(**{**defaults, **columns}))
        return job_id

    return insert_job


async def ages(session: Session, query: str) -> list[float]:
    """Return for each row how many seconds ahead of now its time is."""
    return [float(seconds) for seconds in await session.scalars(text(f"SELECT extract(epoch FROM {query}"))]


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        (JobState.AVAILABLE, {}),
        (JobState.DISPATCHED, {}),
        (JobState.EXECUTING, {"started_at": FUTURE}),
        (JobState.RETRYABLE, {"started_at": FUTURE}),
        (JobState.SCHEDULED, {"started_at": FUTURE}),
    ],
    ids=["available", "dispatched", "executing", "retryable", "snoozed"],
)
async def test_a_job_that_was_due_is_due(session: Session, add: Add, state: JobState, columns: dict[str, Any]) -> None:
    await add(state, claim_at=FUTURE + HOUR, **columns)

    rows = await repair_times(session)

    assert rows["jobs"] == 1
    assert await ages(session, "claim_at - now()) FROM jobs") == [0]


async def test_an_attempt_that_failed_in_the_future_is_tried_again(session: Session, add: Add) -> None:
    job_id = await add(JobState.RETRYABLE, claim_at=FUTURE, started_at=func.now() - HOUR)
    await session.execute(insert(JobError).values(job_id=job_id, attempt=1, error="x", failed_at=FUTURE))

    assert (await repair_times(session))["jobs"] == 1


async def test_a_job_whose_time_somebody_has_asked_for_waits_for_it(session: Session, add: Add) -> None:
    await add(JobState.SCHEDULED, claim_at=FUTURE)
    await add(JobState.RETRYABLE, claim_at=func.now() + HOUR, started_at=func.now() - HOUR)
    await add(JobState.EXECUTING, claim_at=func.now() + timedelta(minutes=10), started_at=func.now())

    assert set((await repair_times(session)).values()) == {0}


async def test_what_ended_in_the_future_is_kept_as_if_it_ended_now(session: Session, add: Add) -> None:
    await add(JobState.COMPLETED, finished_at=FUTURE, started_at=FUTURE)
    await add(JobState.COMPLETED, finished_at=func.now() - HOUR)

    assert (await repair_times(session))["ended_jobs"] == 1
    assert max(await ages(session, "finished_at - now()) FROM jobs")) == 0


async def test_a_cron_goes_on_from_now(session: Session) -> None:
    await session.execute(insert(JobCron).values(name="ahead", last_tick_at=FUTURE, done_at=FUTURE))
    await session.execute(insert(JobCron).values(name="right", last_tick_at=func.now() - HOUR))
    await session.execute(insert(JobCron).values(name="seen", last_tick_at=func.now() - HOUR, seen_at=FUTURE))

    assert (await repair_times(session))["crons"] == 2
    assert sorted(await ages(session, "last_tick_at - now()) FROM job_crons")) == [-3600, -3600, 0]
    assert await ages(session, "seen_at - now()) FROM job_crons WHERE seen_at IS NOT NULL") == [0]


async def test_nothing_is_taken_from_a_worker_before_its_next_beat(session: Session) -> None:
    columns = {"host": "box", "pid": 1, "queues": ["default"], "concurrency": 1}
    await session.execute(insert(JobWorker).values(id=new_id(), beat_at=FUTURE, holds_until=FUTURE, **columns))

    assert (await repair_times(session))["workers"] == 1
    assert await ages(session, "holds_until - now()) FROM job_workers") == [15]


async def test_sessions_and_links_live_as_long_as_they_were_to(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    times = {"created_at": FUTURE, "last_used_at": FUTURE, "rotated_at": FUTURE}
    ends = {"idle_expires_at": FUTURE + DAY, "expires_at": FUTURE + 2 * DAY}
    await session.execute(insert(UserSession).values(id=new_id(), user_id=user.id, refresh_key_id="k", **times, **ends))
    used = {"last_used_at": FUTURE, "idle_expires_at": FUTURE + HOUR, "expires_at": func.now() + 9 * DAY}
    await session.execute(insert(UserSession).values(id=new_id(), user_id=user.id, refresh_key_id="k", **used))
    token = {"purpose": TokenPurpose.RESET_PASSWORD, "email_canonical": "a", "key_id": "k", "created_at": FUTURE}
    await session.execute(insert(OneTimeToken).values(id=new_id(), user_id=user.id, expires_at=FUTURE + HOUR, **token))

    rows = await repair_times(session)

    assert (rows["sessions"], rows["one_time_tokens"]) == (2, 1)
    assert sorted(await ages(session, "idle_expires_at - now()) FROM user_sessions")) == [3600, 86400]
    assert sorted(await ages(session, "expires_at - now()) FROM user_sessions")) == [2 * 86400, 9 * 86400]
    assert await ages(session, "expires_at - now()) FROM one_time_tokens") == [3600]
    assert set((await repair_times(session)).values()) == {0}


def test_a_time_of_a_moment_ahead_is_no_other_clocks() -> None:
    now = utcnow()

    assert not is_ahead(now + AHEAD, now)
    assert is_ahead(now + AHEAD + timedelta(seconds=1), now)
