"""The test kit: databases that may be emptied, and no others."""

from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, insert, select, text

from app_db import Database, Session, open_database
from app_db.base import Base
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.models import JobCancellation, JobError, JobQueue, SchemaHistory, UserSession
from app_db.models.schema import SCHEMA_REVISION
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_db.testing.plugin import MakeUser
from app_db.testing.queries import assert_queries
from app_db.types import utcnow


async def test_other_databases_are_never_touched(postgres_server_url: str) -> None:
    with pytest.raises(RuntimeError, match="_test"):
        await databases.recreate(postgres_server_url, "app_production")


async def test_other_databases_are_never_emptied(refusing_url: str) -> None:
    settings = DatabaseSettings.model_validate({"url": refusing_url.replace("none_test", "none")})

    async with open_database(settings, name="test") as database:
        with pytest.raises(RuntimeError, match="'none'"):
            await databases.empty(database)


async def test_emptying_leaves_no_row_of_any_test(database: Database, session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    session.add(UserSession(user_id=user.id, refresh_key_id="k1", idle_expires_at=utcnow(), expires_at=utcnow()))
    job_id = await enqueue(session, PruneSessions(), owner_id=user.id)
    session.add_all([JobCancellation(job_id=job_id), JobError(job_id=job_id, attempt=1, error="-"), JobQueue(name="q")])
    await session.commit()

    await databases.empty(database)

    for table in Base.metadata.sorted_tables:
        if table.name != SchemaHistory.__tablename__:
            assert await session.scalar(select(func.count()).select_from(table)) == 0, table.name


async def test_emptying_keeps_what_the_migrations_did(database: Database, session: Session) -> None:
    await databases.empty(database)

    assert await session.get(SchemaHistory, SCHEMA_REVISION) is not None


async def test_a_database_is_made_again_from_nothing(postgres_server_url: str, worker_id: str) -> None:
    name = f"app_recreated_{worker_id}_test"
    for _ in range(2):
        url = await databases.recreate(postgres_server_url, name)

        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        await connection.execute("CREATE TABLE pets ()")
        await connection.close()

        assert tables == 0


async def test_a_database_is_migrated_without_a_word(
    postgres_server_url: str, worker_id: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await databases.recreate(postgres_server_url, f"app_recreated_{worker_id}_test")

    await databases.migrate(url, root=Path(pytestconfig.rootpath))

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    assert await connection.fetchval("SELECT count(*) FROM schema_history") > 0
    await connection.close()
    assert capsys.readouterr().out == ""


async def test_too_many_queries_fail_a_test_and_are_shown(database: Database, session: Session) -> None:
    async with database.read_sessions() as reader:
        with pytest.raises(AssertionError, match=r"2 queries, expected at most 1:\s+SELECT 1\s+SELECT 2"):  # noqa: PT012, SIM117  # as it is used
            with assert_queries(database, max=1):
                await session.execute(text("SELECT 1"))
                await reader.execute(text("SELECT 2"))


async def test_queries_are_counted_in_the_block_alone(database: Database, session: Session) -> None:
    await session.execute(insert(JobQueue).values(name="before"))

    with assert_queries(database, max=1) as statements:
        await session.execute(text("SELECT 1"))
    await session.execute(text("SELECT 2"))

    assert statements == ["SELECT 1"]
