"""The job that adds the months of the audit, and drops those that are no longer kept."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import Database
from app_db.features.retention.payloads import KeepAuditMonths
from app_db.features.retention.settings import RetentionSettings
from app_db.jobs.crons import cron_states
from app_db.models import AuditEvent, JobState
from app_db.repositories.jobs import JobRepository
from app_runtime.resources import Opened
from app_worker.features.retention.handlers import keep_audit_months
from app_worker.resources import supplied

from .conftest import Jobs, MakeRunner

OLD = """
    DO $$
    DECLARE
        month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') - interval '7 months';
    BEGIN
        FOR i IN 0..1 LOOP
            EXECUTE format(
                'CREATE TABLE audit_events_old_%s PARTITION OF audit_events FOR VALUES FROM (%L) TO (%L)',
                i, audit_id_at(month + make_interval(months => i)), audit_id_at(month + make_interval(months => i + 1))
            );
        END LOOP;
    END
    $$
"""
DROP = """
    DO $$
    BEGIN
        EXECUTE (SELECT coalesce('DROP TABLE ' || string_agg(quote_ident(name), ', '), 'SELECT 1') FROM audit_months());
    END
    $$
"""
MONTHS = "SELECT array_agg(name ORDER BY first_id) FROM audit_months()"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def old_months(database: Database) -> AsyncIterator[None]:
    """Two months of half a year ago; no months are left in the database of other tests."""
    async with database.sessions.begin() as session:
        await session.execute(text(DROP))
        await session.execute(text(OLD))
    yield
    async with database.sessions.begin() as session:
        await session.execute(text(DROP))


@pytest.mark.parametrize(
    ("keep", "dropped"),
    [(None, []), (timedelta(days=365), []), (timedelta(days=90), ["audit_events_old_0", "audit_events_old_1"])],
)
async def test_months_are_added_and_dropped_as_the_setting_says(
    jobs: Jobs, make_runner: MakeRunner, keep: timedelta | None, dropped: list[str]
) -> None:
    delivery = await jobs.deliver(KeepAuditMonths())
    resources: Opened = {RetentionSettings: RetentionSettings(audit=keep)}

    await make_runner(*supplied([keep_audit_months], resources)).run(delivery)

    job, months = await jobs.get(delivery), await jobs.scalar(MONTHS)
    assert (job.state, job.result, job.progress) == (JobState.COMPLETED, job.result, job.result)
    assert job.result is not None
    assert (job.result["dropped"], len(job.result["added"])) == (dropped, 4)
    assert len(months) == 6 - len(dropped)


async def test_months_wait_for_their_export_and_the_job_says_so(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    settings = RetentionSettings(audit=timedelta(days=90), audit_after_export=True)
    resources: Opened = {RetentionSettings: settings}
    results: list[Any] = []  # Any: JSON
    waiting: list[object] = []
    for _ in range(2):
        delivery = await jobs.deliver(KeepAuditMonths())
        with capture_logs() as logs:
            await make_runner(*supplied([keep_audit_months], resources)).run(delivery)
        results.append((await jobs.get(delivery)).result)
        waiting = [line["months"] for line in logs if line["event"] == "audit_months_wait_for_their_export"]
        async with database.sessions.begin() as session:
            details = {"month": "audit_events_old_0", "rows": 0}
            session.add(AuditEvent(event="audit_month_exported", details=details))

    first, second = results
    assert (first["dropped"], first["waiting"]) == ([], ["audit_events_old_0", "audit_events_old_1"])
    assert (second["dropped"], second["waiting"]) == (["audit_events_old_0"], ["audit_events_old_1"])
    assert waiting == [["audit_events_old_1"]]


async def test_what_a_cron_has_applied_is_on_record(jobs: Jobs, make_runner: MakeRunner, database: Database) -> None:
    resources: Opened = {RetentionSettings: RetentionSettings(audit=timedelta(days=400))}
    async with database.sessions.begin() as session:
        await cron_states(session, [KeepAuditMonths.kind])

    delivery = await jobs.deliver(KeepAuditMonths())
    await make_runner(*supplied([keep_audit_months], resources)).run(delivery)

    async with database.sessions() as session:
        (cron,) = await JobRepository(session).crons()
    assert cron.applied == {"audit": 400 * 86400, "audit_after_export": False}


@pytest.mark.parametrize("keep", [timedelta(days=89), timedelta(0), timedelta(days=40_000)])
def test_less_than_the_database_keeps_anyway_is_no_setting(keep: timedelta) -> None:
    with pytest.raises(ValidationError, match="audit"):
        RetentionSettings(audit=keep)
