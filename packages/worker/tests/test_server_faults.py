"""A fault of the database costs a job no attempt (ADR-0034; SQLSTATEs of PostgreSQL, appendix A)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from app_db import open_database
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_db.testing.databases import AppRole
from app_worker.context import JobContext
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note


@handles(Note, max_attempts=1)
async def meets(job: JobContext, payload: Note) -> None:
    """Raise the SQLSTATE that the payload names."""
    await job.session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{payload.text}'; END $$"))


@pytest.mark.parametrize("sqlstate", ["58030", "58P01", "XX001", "XX002", "55006", "53100", "57P03"])
async def test_a_job_that_met_a_fault_of_the_server_is_given_back(
    jobs: Jobs, make_runner: MakeRunner, sqlstate: str
) -> None:
    delivery = await jobs.deliver(Note(text=sqlstate))

    await make_runner(meets).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 0)


@pytest.mark.parametrize("sqlstate", ["57014", "40001", "42501", "P0001"])
async def test_a_job_that_had_a_part_in_it_pays(jobs: Jobs, make_runner: MakeRunner, sqlstate: str) -> None:
    delivery = await jobs.deliver(Note(text=sqlstate))

    await make_runner(meets).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISCARDED


async def test_a_job_under_which_the_schema_changed_is_given_back_and_then_done(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    """PostgreSQL answers 0A000, "cached plan must not change result type", on each connection that knew the table."""
    sizes = []

    @handles(Note, max_attempts=1)
    async def measure(job: JobContext, payload: Note) -> None:
        sizes.append(await job.session.scalar(text("SELECT size FROM things")))

    async with jobs.database.sessions.begin() as session:
        await session.execute(text("CREATE TABLE things AS SELECT 7 AS size"))
    try:
        async with open_database(database_settings.model_copy(update={"pool_size": 1}), name="worker") as database:
            runner = make_runner(measure, database=database)
            await runner.run(await jobs.deliver())
            async with jobs.database.sessions.begin() as session:
                await session.execute(text("ALTER TABLE things ALTER size TYPE text"))

            delivery = await jobs.deliver()
            await runner.run(delivery)
            given_back = await jobs.get(delivery)
            await runner.run(await jobs.dispatch(delivery.id))
    finally:
        async with jobs.database.sessions.begin() as session:
            await session.execute(text("DROP TABLE things"))

    assert (given_back.state, given_back.attempt) == (JobState.RETRYABLE, 0)
    assert sizes == [7, "7"]
    assert (await jobs.get(delivery)).state is JobState.COMPLETED


@asynccontextmanager
async def shut_out(modest_role: AppRole) -> AsyncIterator[None]:
    """Refuse the role new sessions in its database, and end the open ones, until the end of the block."""
    name, role = modest_role.administrator.sqlalchemy_url.database, modest_role.roles.app
    goodbyes = text("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = :role")
    async with open_database(modest_role.administrator, name="test") as administrator:
        async with administrator.sessions.begin() as session:
            await session.execute(text(f'REVOKE CONNECT ON DATABASE "{name}" FROM {role}'))
        async with administrator.sessions.begin() as session:
            await session.execute(goodbyes, {"role": role})
        try:
            yield
        finally:
            async with administrator.sessions.begin() as session:
                await session.execute(text(f'GRANT CONNECT ON DATABASE "{name}" TO {role}'))


async def test_a_job_whose_role_is_shut_out_of_its_database_is_given_back(
    make_runner: MakeRunner, modest_role: AppRole
) -> None:
    """PostgreSQL refuses such a connection with 42501 (InitPostgres), as it does a statement without a GRANT."""

    @handles(Note, max_attempts=1, mode=Mode.LEASE)
    async def writes(job: JobContext, payload: Note) -> None:
        async with shut_out(modest_role), job.transaction():
            pass

    async with open_database(modest_role.settings, name="worker") as database:
        async with database.sessions.begin() as session:
            await session.execute(text("DELETE FROM jobs"))  # of earlier tests: no fixture empties this database
        jobs = Jobs(database)
        delivery = await jobs.deliver()

        await make_runner(writes, database=database).run(delivery)

        job, errors = await jobs.get(delivery), await jobs.errors(delivery)

    assert (job.state, job.attempt) == (JobState.RETRYABLE, 0)
    assert "permission denied for database" in errors[0].error
    assert database.failures["refused"] == 1
