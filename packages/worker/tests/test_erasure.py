"""The data that is left of an account once it is deleted."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from app_db import Database
from app_db.features.accounts.payloads import AccountErasure
from app_db.models import JobState
from app_db.testing.plugin import MakeUser
from app_worker.testing import drain

from .conftest import Jobs


@pytest_asyncio.fixture(loop_scope="session")
async def end_between(database: Database) -> AsyncIterator[None]:
    """Let the jobs of accounts end, with an error, when the first transaction of a job in lease mode does."""
    async with database.sessions.begin() as session:
        await session.execute(
            text("""
                CREATE FUNCTION end_the_others() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    INSERT INTO job_errors (id, job_id, attempt, error)
                        SELECT uuidv7(), id, 1, 'ada@example.test' FROM jobs
                        WHERE owner_id IS NOT NULL AND state = 'executing';
                    UPDATE jobs SET state = 'discarded', claim_at = NULL, finished_at = now()
                        WHERE owner_id IS NOT NULL AND state = 'executing';
                    RETURN NULL;
                END$$
            """)
        )
        await session.execute(
            text("""
                CREATE TRIGGER end_the_others AFTER UPDATE ON jobs FOR EACH ROW
                WHEN (OLD.state = 'executing' AND NEW.state = 'executing' AND OLD.claim_at < NEW.claim_at)
                EXECUTE FUNCTION end_the_others()
            """)
        )
    yield
    async with database.sessions.begin() as session:
        await session.execute(text("DROP FUNCTION end_the_others CASCADE"))


async def test_a_job_that_ends_while_its_account_is_erased_leaves_nothing(
    jobs: Jobs, database: Database, make_user: MakeUser, end_between: None
) -> None:
    """jikig-ai/soleur #8528: an erasure that misses running jobs. Ours once looked for running jobs only after it
    had erased: the error of a job that ended in between stayed.
    """
    user = await make_user()
    delivery = await jobs.deliver(owner_id=user.id)
    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE jobs SET state = 'executing'"))
    erasure = await jobs.enqueue(AccountErasure(user_id=user.id))

    await drain(database)
    await drain(database, with_scheduled=True)

    assert (await jobs.get(delivery)).state is JobState.DISCARDED
    assert (await jobs.get(erasure)).state is JobState.COMPLETED
    assert await jobs.errors(delivery) == []


@pytest.mark.parametrize(
    "left",
    ["result = '1'", "progress = '1'", 'steps = \'[{"name": "mail", "result": "ada@example.test"}]\'', "cursor = '1'"],
)
async def test_nothing_that_an_ended_job_has_committed_outlives_its_account(
    jobs: Jobs, database: Database, make_user: MakeUser, left: str
) -> None:
    user = await make_user()
    delivery = await jobs.deliver(owner_id=user.id)
    await jobs.execute(f"UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now(), {left}")
    await jobs.enqueue(AccountErasure(user_id=user.id))

    await drain(database)

    job = await jobs.get(delivery)
    assert (job.result, job.progress, job.steps, job.cursor) == (None, None, None, None)
