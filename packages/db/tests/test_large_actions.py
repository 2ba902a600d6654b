"""Actions on many jobs, and the counts before them, beside many others: they say how many jobs they look at."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from sqlalchemy import func, select, text, update

from app_db import Session
from app_db.jobs import control
from app_db.jobs.bulk import act_on_batch
from app_db.jobs.control import Action
from app_db.jobs.counting import Count, count_all
from app_db.jobs.filters import JobFilter
from app_db.models import FINAL_STATES, OPEN_STATES, Job, JobState
from app_db.repositories.walks import MOST_LOOKED_AT
from app_db.types import new_id, utcnow

from .large_jobs import OWNER, ROWS, filters, rows_read

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
DUE = 6000
"""How many jobs are due at least."""
MOST_READ = MOST_LOOKED_AT + 600
PLANS = pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])


def asked() -> Iterator[tuple[JobFilter, Action]]:
    """Yield what operators ask for: each filter of the pages with each action, some with the times that they add."""
    before = utcnow() + DAY
    for job_filter, action in product(filters(), Action):
        if job_filter.conditions():
            yield job_filter, action
        if job_filter.state is None:
            yield replace(job_filter, before=before), action
            yield replace(job_filter, since=before - 2 * DAY, before=before), action
    for job_filter, action in product((JobFilter(owner_id=OWNER), JobFilter(kind="seldom", owner_id=OWNER)), Action):
        yield job_filter, action


async def number_of(session: Session, job_filter: JobFilter, action: Action) -> int:
    """Return how many jobs the action fits, by a query without the repository; no job here has a unique key."""
    fits = {
        Action.CANCEL: OPEN_STATES,
        Action.DISCARD: control.QUEUED,
        Action.RETRY: control.FAILED if job_filter.state is None else control.RETRIABLE,
        Action.DELETE: FINAL_STATES,
    }
    conditions = [Job.state.in_(fits[action]), *job_filter.conditions()]
    return (await session.scalars(select(func.count()).select_from(Job).where(*conditions))).one()


@PLANS
async def test_the_number_that_would_be_acted_on_is_found_without_reading_the_others(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    for job_filter, action in asked():
        whole_before, index_before = await rows_read(large)

        await count_all(large, job_filter, action, most=100)

        whole, index = await rows_read(large)
        assert whole == whole_before, (job_filter, action)
        assert index - index_before <= MOST_READ < DUE, (job_filter, action)


async def test_old_statistics_make_no_count_before_an_action_read_more(grown: Session) -> None:
    """As through a pooler: each statement is planned with its parameters, and the planner expects few rows."""
    await grown.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    for job_filter, action in asked():
        before = await rows_read(grown)

        await count_all(grown, job_filter, action, most=100)

        after = await rows_read(grown)
        assert after[0] == before[0], (job_filter, action)
        assert after[1] - before[1] <= MOST_READ, (job_filter, action)


async def test_a_number_is_right_or_says_that_there_may_be_more(large: Session) -> None:
    exact = 0
    for job_filter, action in asked():
        number = await number_of(large, job_filter, action)

        found = await count_all(large, job_filter, action, most=1000)

        assert found.jobs == number or (found.at_least and found.jobs < number), (job_filter, action)
        assert found.jobs <= 1000
        exact += found == Count(number, at_least=False)
    assert exact > 300


async def test_a_kind_that_does_not_wait_may_be_among_those_that_were_not_looked_at(large: Session) -> None:
    seldom = JobFilter(kind="misspelt")

    assert await count_all(large, seldom, Action.CANCEL, most=10) == Count(0, at_least=True)
    assert await count_all(large, replace(seldom, queue="slow"), Action.CANCEL, most=10) == Count(0, at_least=False)
    assert await count_all(large, seldom, Action.RETRY, most=10) == Count(0, at_least=False)


@PLANS
@pytest.mark.parametrize("action", [Action.CANCEL, Action.DISCARD])
async def test_ending_the_few_that_match_reads_no_more_jobs_than_it_is_told(
    large: Session, action: Action, plan: str
) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    for job_filter in (JobFilter(kind="misspelt"), JobFilter(queue="empty"), JobFilter(kind="misspelt", queue="slow")):
        whole_before, index_before = await rows_read(large)

        assert await control.act_on_all(large, job_filter, action, most_looked_at=500) == 0

        whole, index = await rows_read(large)
        assert whole == whole_before, job_filter
        assert index - index_before < 2000, job_filter


@pytest.mark.parametrize("most_looked_at", [None, 5000])
async def test_ending_many_reads_their_rows_and_those_it_looks_at(large: Session, most_looked_at: int | None) -> None:
    for job_filter in (JobFilter(queue="slow"), JobFilter(state=JobState.SCHEDULED), JobFilter(kind="mail")):
        whole_before, index_before = await rows_read(large)

        count = await control.act_on_all(large, job_filter, Action.DISCARD, limit=250, most_looked_at=most_looked_at)

        whole, index = await rows_read(large)
        assert count == 250
        assert whole == whole_before, job_filter
        assert index - index_before < MOST_READ + 4 * 250, job_filter


async def test_what_is_not_looked_at_is_ended_by_an_action_without_a_limit(large: Session) -> None:
    last = (await large.scalars(select(Job.id).where(Job.state == JobState.AVAILABLE).order_by(Job.id.desc()))).first()
    await large.execute(update(Job).where(Job.id == last).values(kind="last", claim_at=func.now()))
    last_of_all = JobFilter(kind="last")

    counts = [await control.act_on_all(large, last_of_all, Action.CANCEL, most_looked_at=most) for most in (500, None)]

    assert counts == [0, 1]


@PLANS
async def test_retrying_the_few_that_match_does_not_read_the_table(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    for job_filter in (JobFilter(kind="misspelt"), JobFilter(queue="empty"), JobFilter(kind="seldom")):
        whole_before, index_before = await rows_read(large)

        await control.act_on_all(large, job_filter, Action.RETRY)

        whole, index = await rows_read(large)
        assert whole == whole_before, job_filter
        assert index - index_before < ROWS / 2, job_filter


@PLANS
async def test_acting_on_all_that_match_reads_what_it_looks_at_in_each_batch(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    owned = JobFilter(owner_id=OWNER, kind="seldom")
    for job_filter, action in product((JobFilter(kind="seldom"), JobFilter(queue="slow"), owned), Action):
        whole_before, index_before = await rows_read(large)

        after = None
        for _ in range(2):
            batch = await act_on_batch(large, job_filter, action, after=after, until=new_id(), most=500)
            after = batch.last_id

        whole, index = await rows_read(large)
        assert whole == whole_before, (job_filter, action)
        assert index - index_before < 10_000, (job_filter, action)
