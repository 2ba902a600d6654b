"""Lists and counts of jobs beside many others: right, and without reading the table for the few that match.

As in the project's own report: on 2,200,000 jobs a list of what executes took 2 to 282 ms, one of a misspelt kind 300.
"""

from datetime import timedelta

import pytest
from sqlalchemy import ColumnElement, select, text

from app_db import Database, Session
from app_db.jobs.filters import JobFilter
from app_db.jobs.leased import LeasedJobs
from app_db.jobs.ledger import Delivery, Starter
from app_db.models import Job, JobState
from app_db.paging import Cursor
from app_db.repositories.job_counts import MEAN_OF, MOST
from app_db.repositories.job_lists import FEW, GLANCE
from app_db.repositories.job_views import FinishedCount
from app_db.repositories.jobs import JobRepository
from app_db.repositories.walks import MOST_LOOKED_AT
from app_db.testing.queries import assert_queries
from app_db.types import new_id

from .large_jobs import OWNER, ROWS, filters, rows_read

pytestmark = pytest.mark.integration

# The end of a walk is read from the index, which also fetches rows here: nobody has vacuumed them.
ALL_INDEXED = 2 * GLANCE + 4 * FEW + 21

ENDED = text("""
    INSERT INTO jobs (id, kind, payload, payload_version, state, finished_at, started_at)
    SELECT uuidv7(), 'mail', '{}', 1, 'completed', now() - number * interval '1 second',
        now() - number * interval '1 second' - interval '2 seconds' * CASE WHEN number > 1500 THEN 3 ELSE 1 END
    FROM generate_series(1, :rows) AS number
""")


async def matching(session: Session, job_filter: JobFilter) -> list[str]:
    """Return the jobs that match, by a query without the repository."""
    given = {Job.state: job_filter.state, Job.kind: job_filter.kind, Job.queue: job_filter.queue}
    conditions: list[ColumnElement[bool]] = [column == value for column, value in given.items() if value is not None]
    if job_filter.owner_id is not None:
        conditions.append(Job.owner_id == job_filter.owner_id)
    found = await session.scalars(select(Job.id).where(*conditions).order_by(Job.id.desc()))
    return [str(job_id) for job_id in found]


async def pages(session: Session, job_filter: JobFilter, *, limit: int, most: int) -> tuple[list[str], bool]:
    """Return the jobs of the first pages, at least `most`, and whether those are all."""
    found: list[str] = []
    after: Cursor | None = None
    while len(found) < most:
        page = await JobRepository(session).matching(job_filter, after=after, limit=limit)
        assert len(page.items) <= limit
        assert page.partial or len(page.items) == limit or page.next is None
        found += [str(job.id) for job in page.items]
        after = page.next
        if after is None:
            return found, True
    return found, False


@pytest.mark.parametrize("owner_id", [None, OWNER])
async def test_each_filter_finds_what_matches_newest_first_page_by_page(large: Session, owner_id: object) -> None:
    for job_filter in filters():
        if owner_id is not None:
            job_filter = JobFilter(job_filter.state, job_filter.kind, job_filter.queue, OWNER)  # noqa: PLW2901  # the user's own
        wanted = await matching(large, job_filter)

        found, is_all = await pages(large, job_filter, limit=7, most=30)

        assert (found == wanted) if is_all else (found == wanted[: len(found)]), job_filter


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_no_list_reads_more_jobs_than_it_says(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    for job_filter in filters():
        whole_before, index_before = await rows_read(large)

        page = await JobRepository(large).matching(job_filter, after=None, limit=20)

        whole, index = await rows_read(large)
        most = ALL_INDEXED + (2 * MOST_LOOKED_AT if page.partial or len(page.items) == 20 else 0)
        assert whole == whole_before, job_filter
        assert index - index_before <= most < ROWS, job_filter


async def test_each_list_costs_one_query(large: Session, patient: Database) -> None:
    for job_filter in filters():
        with assert_queries(patient, max=1):
            await JobRepository(large).matching(job_filter, after=None, limit=20)


async def test_what_waits_or_runs_is_found_at_once_beside_many_others(large: Session) -> None:
    """The lists that an operator looks at first are never partial."""
    for state in (JobState.EXECUTING, JobState.DISPATCHED, JobState.RETRYABLE, JobState.DISCARDED, JobState.CANCELLED):
        for kind in (None, "seldom", "misspelt"):
            page = await JobRepository(large).matching(JobFilter(state=state, kind=kind), after=None, limit=20)
            assert not page.partial


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_no_count_reads_more_jobs_than_it_says(large: Session, plan: str) -> None:
    await large.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
    whole_before, index_before = await rows_read(large)

    queues = await JobRepository(large).queues()
    stats = await JobRepository(large).stats()

    whole, index = await rows_read(large)
    groups = 5 * 6
    assert (whole - whole_before, index - index_before < groups * MOST) == (0, True)
    assert stats.at_least
    assert [(queue.name, queue.at_least) for queue in queues] == [("default", True), ("slow", False)]


async def test_jobs_that_have_ended_are_counted_in_their_index_and_few_are_timed(patient: Database) -> None:
    """Once autovacuum was there; a row is read only to tell for how long it ran."""
    async with patient.sessions.begin() as session:
        await session.execute(text("SET LOCAL synchronous_commit = on"))  # else VACUUM cannot rely on the commit yet
        await session.execute(ENDED, {"rows": 3 * MOST})
    async with patient.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM (ANALYZE) jobs"))

    async with patient.sessions() as session:
        stats = await JobRepository(session).stats()
        read = await rows_read(session)

    assert stats.finished == [FinishedCount("mail", JobState.COMPLETED, MOST, 2.0)]
    assert stats.at_least
    assert read[0] == 0
    assert read[1] <= MEAN_OF


async def test_old_statistics_make_no_count_and_no_list_read_more(grown: Session) -> None:
    """As through a pooler: each statement is planned with its parameters, and the planner expects few rows."""
    await grown.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    before = await rows_read(grown)

    await JobRepository(grown).queues()
    await JobRepository(grown).stats()
    after = await rows_read(grown)
    assert (after[0] - before[0], after[1] - before[1] < 5 * 6 * MOST) == (0, True)
    for job_filter in filters():
        before = await rows_read(grown)

        await JobRepository(grown).matching(job_filter, after=None, limit=20)

        after = await rows_read(grown)
        assert after[0] == before[0], job_filter
        assert after[1] - before[1] <= ALL_INDEXED + 2 * MOST_LOOKED_AT < ROWS, job_filter


async def test_counts_without_a_limit_are_exact(large: Session) -> None:
    counted = text("SELECT queue, kind, state, count(*) AS jobs FROM jobs GROUP BY queue, kind, state")
    rows = (await large.execute(counted)).all()
    wanted = {(row.queue, row.kind, row.state): row.jobs for row in rows if row.state not in ("completed", "cancelled")}
    ended = {state: sum(row.jobs for row in rows if row.state == state) for state in ("completed", "cancelled")}

    stats = await JobRepository(large).stats(most=None)
    queues = await JobRepository(large).queues(most=None)

    assert {(count.queue, count.kind, count.state): count.count for count in stats.jobs} == wanted
    assert {state: sum(one.count for one in stats.finished if one.state == state) for state in ended} == ended
    assert not stats.at_least
    assert not any(queue.at_least for queue in queues)
    assert sum(n for queue in queues for n in queue.counts.values()) == sum(
        jobs for (_, _, state), jobs in wanted.items() if state != "discarded"
    )


async def test_no_question_about_jobs_has_a_plan_that_reads_the_table(patient: Database, large: Session) -> None:
    """Asked with GENERIC_PLAN: at its sixth run a prepared statement may take the plan for any parameters."""
    with assert_queries(patient, max=10_000) as statements:
        for job_filter in filters():
            await JobRepository(large).matching(job_filter, after=Cursor(new_id()), limit=20)
        await JobRepository(large).queues()
        await JobRepository(large).stats()

    for statement in set(statements):
        plan = await explained(large, statement)
        assert "Seq Scan on jobs" not in plan, plan


async def test_leased_jobs_start_and_end_without_reading_the_table(patient: Database, large: Session) -> None:
    leased = LeasedJobs(patient, Starter(new_id(), ["note"], timedelta(minutes=1)))

    with assert_queries(patient, max=2) as statements:
        await leased.start(Delivery(new_id(), 1))
        await leased.complete(Delivery(new_id(), 1), result=None, progress=None)

    for statement in statements:
        plan = await explained(large, statement)
        assert "Seq Scan on jobs" not in plan, plan


async def explained(session: Session, statement: str) -> str:
    raw = await (await session.connection()).get_raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    # Without arguments asyncpg sends plain text, and $1 stays in it.
    await driver.execute("DROP TABLE IF EXISTS plan; CREATE TEMPORARY TABLE plan (line text) ON COMMIT DROP")
    await driver.execute(
        "DO $do$ DECLARE line text; BEGIN FOR line IN EXECUTE $q$EXPLAIN (GENERIC_PLAN) "
        + statement
        + "$q$ LOOP INSERT INTO plan VALUES (line); END LOOP; END $do$"
    )
    return "\n".join(row["line"] for row in await driver.fetch("SELECT line FROM plan"))
