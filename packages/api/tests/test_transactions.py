"""A reply of success is sent only after the commit, and a safe method cannot write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from app_api.dependencies import SessionDep
from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.testing import PASSWORD
from app_db import Database, Session
from app_db.errors import NotFound
from app_db.models import User
from app_db.settings import DatabaseSettings
from packages.api.tests.conftest import app_of

ADA = {"email": "ada@example.test", "password": PASSWORD}
INSERT_USER = text(
    "INSERT INTO users (id, email, email_canonical, password_hash)"
    " VALUES (gen_random_uuid(), 'a@b.test', 'a@b.test', '-')"
)


async def emails_in(database: Database) -> list[str]:
    async with database.sessions() as session:
        return list(await session.scalars(select(User.email)))


@asynccontextmanager
async def commit_that_does(statement: str, settings: DatabaseSettings) -> AsyncIterator[None]:
    """Run a statement of PL/pgSQL inside the COMMIT of every transaction that adds a user."""
    connection = await asyncpg.connect(settings.direct_dsn)
    await connection.execute(
        f"CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {statement}; RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION at_commit()"
    )
    try:
        yield
    finally:
        await connection.execute("DROP TRIGGER at_commit ON users; DROP FUNCTION at_commit()")
        await connection.close()


async def test_a_confirmed_registration_is_there_for_everyone(
    client: AsyncClient, database_settings: DatabaseSettings
) -> None:
    response = await client.post("/auth/register", json=ADA)

    connection = await asyncpg.connect(database_settings.direct_dsn)
    kept = await connection.fetchval("SELECT id FROM users WHERE email = $1", ADA["email"])
    await connection.close()
    assert response.status_code == 201
    assert kept == UUID(response.json()["user_id"])


async def test_a_commit_that_is_refused_is_no_success(
    client: AsyncClient, database: Database, database_settings: DatabaseSettings
) -> None:
    async with commit_that_does("RAISE EXCEPTION 'not today'", database_settings):
        response = await client.post("/auth/register", json=ADA)

    assert_problem(response, 500, "internal_error")
    assert "today" not in response.text
    assert await emails_in(database) == []


async def test_a_connection_that_is_lost_in_the_commit_is_an_outage(
    client: AsyncClient, database: Database, database_settings: DatabaseSettings
) -> None:
    async with commit_that_does("PERFORM pg_terminate_backend(pg_backend_pid())", database_settings):
        response = await client.post("/auth/register", json=ADA)

    assert_problem(response, 503, "database_unavailable")
    assert await emails_in(database) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_safe_method_cannot_write(app: FastAPI, client: AsyncClient, database: Database, method: str) -> None:
    @app.get("/writes")
    async def writes(session: SessionDep) -> None:
        await session.execute(INSERT_USER)

    response = await client.request(method, "/writes")

    assert response.status_code == 500
    assert await emails_in(database) == []


async def test_a_write_that_postgres_refuses_is_a_problem_without_its_words(app: FastAPI, client: AsyncClient) -> None:
    @app.get("/writes")
    async def writes(session: SessionDep) -> None:
        await session.execute(INSERT_USER)

    response = await client.get("/writes")

    assert_problem(response, 500, "internal_error")
    assert "read-only" not in response.text


async def test_an_error_takes_back_what_was_written_before_it(
    app: FastAPI, client: AsyncClient, database: Database
) -> None:
    @app.post("/fails")
    async def fails(session: SessionDep) -> None:
        await session.execute(INSERT_USER)
        raise NotFound

    response = await client.post("/fails")

    assert_problem(response, 404, "not_found")
    assert await emails_in(database) == []


async def test_a_route_that_catches_an_error_outside_of_a_savepoint_is_no_success(
    app: FastAPI, client: AsyncClient, database: Database
) -> None:
    """PostgreSQL answers such a COMMIT with ROLLBACK and no error ("COMMIT", Notes)."""

    @app.post("/catches", status_code=201)
    async def catches(session: SessionDep) -> dict[str, str]:
        await session.execute(INSERT_USER)
        with suppress(IntegrityError):
            await session.execute(INSERT_USER)
        return {"id": "there is none"}

    response = await client.post("/catches")

    assert_problem(response, 500, "internal_error")
    assert await emails_in(database) == []


async def test_what_an_error_carries_is_written_after_its_connection_was_given_back(
    api_settings: ApiSettings, database: Database
) -> None:
    class Noted(NotFound):
        """Noted"""

        async def aftermath(self, session: Session) -> None:
            await session.execute(INSERT_USER)

    one_connection = api_settings.database.model_copy(update={"pool_size": 1})
    app = app_of(api_settings.model_copy(update={"database": one_connection}))

    @app.post("/fails")
    async def fails(session: SessionDep) -> None:
        await session.execute(text("SELECT 1"))
        raise Noted

    async with open_client(app) as client:
        response = await client.post("/fails")

    assert_problem(response, 404, "not_found")
    assert await emails_in(database) == ["a@b.test"]


async def test_what_an_error_carries_is_not_promised_when_it_cannot_be_written(
    app: FastAPI, client: AsyncClient
) -> None:
    class Noted(NotFound):
        """Noted"""

        async def aftermath(self, session: Session) -> None:
            raise OSError("no connection")

    @app.post("/fails")
    async def fails(session: SessionDep) -> None:
        raise Noted

    response = await client.post("/fails")

    assert response.status_code == 500


async def test_a_request_gives_its_connections_back(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    for path in ("/auth/me", "/jobs", "/jobs/x", "/probe/health"):
        await client.get(path, headers=signed_in.headers)
    await client.post("/auth/register", json=ADA)
    await client.post("/auth/refresh-token", json={"refresh_token": "x"})

    engines = (state["database"].engine, state["database"].read_engine)
    assert [engine.pool.checkedout() for engine in engines] == [0, 0]  # type: ignore[attr-defined]  # QueuePool has it
