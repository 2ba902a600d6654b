"""What fails is read from the newest errors, however many jobs and errors there are."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from app_db import Database
from app_db.repositories.job_failures import MOST, account_and_jobs_with_error, failing_kinds
from app_db.types import utcnow

pytestmark = pytest.mark.integration

SEED = text("""
    WITH failed AS (
        INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at)
        SELECT uuidv7(make_interval(secs => number - 20000)), 'kind.' || number % 5, '{}', 1, 'retryable', now()
        FROM generate_series(1, 20000) AS number RETURNING id
    )
    INSERT INTO job_errors (id, job_id, attempt, error) SELECT uuidv7(), id, 1, 'no route' FROM failed
""")
READ = text("""
    SELECT relname, seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname IN ('jobs', 'job_errors')
""")


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_no_page_reads_more_errors_than_it_says(database: Database, plan: str) -> None:
    async with database.sessions() as session:
        await session.execute(SEED)
        await session.execute(text("ANALYZE jobs"))
        await session.execute(text("ANALYZE job_errors"))
        await session.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
        before = {row.relname: row for row in await session.execute(READ)}

        failing = await failing_kinds(session, since=utcnow() - timedelta(hours=1))
        _, found = await account_and_jobs_with_error(session, email=None, error="NO ROUTE")

        after = {row.relname: row for row in await session.execute(READ)}
        await session.rollback()
    assert sum(each.errors for each in failing) == MOST
    assert all(each.at_least for each in failing)
    assert len(found) == 1000
    for name, row in after.items():
        assert row.seq_tup_read == before[name].seq_tup_read, name
        assert row.idx_tup_fetch - before[name].idx_tup_fetch <= 3 * MOST, name
