"""/probe: whether the process lives, whether its database answers, whether it should get requests."""

import asyncio
from collections.abc import AsyncIterator
from threading import Event
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_db.models.schema import SCHEMA_REVISION
from app_db.settings import DatabaseSettings, Pooler
from app_db.testing import databases
from app_db.testing.queries import assert_queries
from app_runtime.configuration import Environment
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import ValkeyServer
from packages.api.tests.conftest import app_of


def with_database(settings: ApiSettings, url: str) -> ApiSettings:
    return ApiSettings.model_validate(settings.model_dump() | {"database": {"url": url}})


def without_database(settings: ApiSettings) -> ApiSettings:
    return with_database(settings, f"postgresql://app@127.0.0.1:{free_port()}/gone_test")


def without_valkey(settings: ApiSettings) -> ApiSettings:
    redis = {"url": f"redis://127.0.0.1:{free_port()}/0"}
    return ApiSettings.model_validate(settings.model_dump() | {"redis": redis})


@pytest_asyncio.fixture(loop_scope="session")
async def bare_database_url(postgres_server_url: str, worker_id: str) -> str:
    """A database without a single table."""
    return await databases.recreate(postgres_server_url, f"app_{worker_id}_bare_test")


@pytest_asyncio.fixture(loop_scope="session")
async def behind_database_url(postgres_server_url: str, worker_id: str) -> str:
    """A database whose migrations stopped before the revision that the code needs."""
    name = f"app_{worker_id}_behind_test"
    url = await databases.recreate(postgres_server_url, name, template=databases.TEMPLATE)
    connection = await asyncpg.connect(DatabaseSettings.model_validate({"url": url}).direct_dsn)
    await connection.execute("DELETE FROM schema_history WHERE revision = $1", SCHEMA_REVISION)
    await connection.close()
    return url


@pytest_asyncio.fixture(loop_scope="session")
async def stale_database_url(postgres_server_url: str, worker_id: str) -> str:
    """A database whose server has changed its sort order, with one index that depends on it."""
    name = f"app_{worker_id}_stale_test"
    url = await databases.recreate(postgres_server_url, name, template=databases.TEMPLATE)
    connection = await asyncpg.connect(DatabaseSettings.model_validate({"url": url}).direct_dsn)
    await connection.execute("CREATE INDEX ix_users_email ON users (email)")
    await connection.execute("UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()")
    await connection.close()
    return url


@pytest_asyncio.fixture(loop_scope="session")
async def unconnected(api_settings: ApiSettings) -> AsyncIterator[AsyncClient]:
    """A client of an API that reaches neither Postgres nor Valkey."""
    async with open_client(app_of(without_valkey(without_database(api_settings)))) as client:
        yield client


async def test_live_says_ok(client: AsyncClient) -> None:
    response = await client.get("/probe/live")

    assert response.status_code == 200
    assert response.json() == "ok"


async def test_live_needs_nothing_but_the_process(unconnected: AsyncClient) -> None:
    response = await unconnected.get("/probe/live")

    assert response.json() == "ok"


async def test_live_asks_no_query(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=0):
        await client.get("/probe/live")


async def test_health_asks_the_database(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=1) as queries:
        response = await client.get("/probe/health")

    assert response.status_code == 200
    assert response.json() == "app and database ok"
    assert len(queries) == 1


async def test_health_is_an_outage_without_the_database(unconnected: AsyncClient) -> None:
    response = await unconnected.get("/probe/health")

    assert_problem(response, 503, "database_unavailable")


async def test_ready_when_the_schema_and_valkey_are_there(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=1):
        response = await client.get("/probe/ready")

    assert response.status_code == 200
    assert response.json() == {"status": "ready", "checks": {"database": "ok", "valkey": "ok"}}


async def test_probes_at_once_ask_once(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=1) as queries:
        probes = [client.get(path) for path in ("/probe/ready", "/probe/health") for _ in range(10)]
        responses = await asyncio.gather(*probes)

    assert {response.status_code for response in responses} == {200}
    assert len(queries) == 1


async def test_ready_is_asked_anew_after_a_while(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=2) as queries:
        async with asyncio.timeout(45):
            while len(queries) < 2:
                await client.get("/probe/ready")

    assert len(queries) == 2


async def test_a_process_that_is_to_stop_wants_no_more_requests(api_settings: ApiSettings) -> None:
    stopping = Event()
    async with open_client(app_of(api_settings, stopping=stopping)) as client:
        before = await client.get("/probe/ready")
        stopping.set()

        response = await client.get("/probe/ready")

    assert "Connection" not in before.headers
    assert assert_problem(response, 503, "unready")["checks"] == {"process": "stopping"}
    assert response.headers["Connection"] == "close"


async def test_a_valkey_that_only_reads_is_degraded(api_settings: ApiSettings) -> None:
    """A demoted Valkey answers a PING (Valkey, "Replication"), but takes no hit of a throttle and no delivery."""
    with ValkeyServer.temporary() as server:
        redis = {"url": server.url, "timeout": 5}
        settings = ApiSettings.model_validate(api_settings.model_dump() | {"redis": redis})
        async with open_client(app_of(settings)) as client, Redis.from_url(server.url) as operator:
            demoted: Any = operator  # Any: it has no types for this
            await demoted.execute_command("REPLICAOF", "127.0.0.1", "1")

            response = await client.get("/probe/ready")

    assert response.json() == {"status": "degraded", "checks": {"database": "ok", "valkey": "failed"}}


async def test_degraded_without_valkey(api_settings: ApiSettings) -> None:
    async with open_client(app_of(without_valkey(api_settings))) as client:
        response = await client.get("/probe/ready")

    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "checks": {"database": "ok", "valkey": "failed"}}


async def test_unready_without_the_database(api_settings: ApiSettings) -> None:
    async with open_client(app_of(without_database(api_settings))) as client:
        response = await client.get("/probe/ready")

    assert assert_problem(response, 503, "unready")["checks"] == {"database": "failed", "valkey": "ok"}


async def test_unready_while_the_schema_is_behind(api_settings: ApiSettings, behind_database_url: str) -> None:
    async with open_client(app_of(with_database(api_settings, behind_database_url))) as client:
        response = await client.get("/probe/ready")

    assert assert_problem(response, 503, "unready")["checks"] == {"database": "behind", "valkey": "ok"}


async def test_unready_before_the_first_migration(api_settings: ApiSettings, bare_database_url: str) -> None:
    async with open_client(app_of(with_database(api_settings, bare_database_url))) as client:
        response = await client.get("/probe/ready")

    assert assert_problem(response, 503, "unready")["checks"] == {"database": "failed", "valkey": "ok"}


async def test_indexes_that_may_miss_rows_are_named(api_settings: ApiSettings, stale_database_url: str) -> None:
    """PostgreSQL 18, 23.2.2.3: a new version of a collation corrupts indexes that depend on it."""
    async with open_client(app_of(with_database(api_settings, stale_database_url))) as client:
        with capture_logs() as logs:
            response = await client.get("/probe/ready")

    assert response.status_code == 200
    assert response.json() == {
        "status": "degraded",
        "checks": {"database": "ok", "valkey": "ok", "indexes": "stale"},
    }
    assert [line["indexes"] for line in logs if line["event"] == "collation_changed"] == [["ix_users_email"]]


async def test_production_serves_nothing_with_a_role_that_may_do_anything(
    api_settings: ApiSettings, signed_in: SignedIn
) -> None:
    in_production = api_settings.model_copy(update={"env": Environment.PRODUCTION})
    async with open_client(app_of(in_production)) as client:
        with capture_logs() as logs:
            ready, health = await client.get("/probe/ready"), await client.get("/probe/health")

        served = await client.get("/auth/me", headers=signed_in.headers)

    assert assert_problem(ready, 503, "unready")["checks"] == {"database": "refused", "valkey": "ok"}
    assert_problem(health, 503, "database_unavailable")
    assert_problem(served, 500, "internal_error")
    assert "is a superuser" in next(entry["reason"] for entry in logs if entry["event"] == "database_role_refused")


async def test_a_role_that_lacks_what_a_pooler_loses_makes_the_api_unready(
    api_settings: ApiSettings, signed_in: SignedIn
) -> None:
    database = api_settings.database.model_copy(
        update={"pooler": Pooler.TRANSACTION, "direct_url": api_settings.database.url}
    )
    async with open_client(app_of(api_settings.model_copy(update={"database": database}))) as client:
        with capture_logs() as logs:
            ready = await client.get("/probe/ready")

        served = await client.get("/auth/me", headers=signed_in.headers)

    assert assert_problem(ready, 503, "unready")["checks"] == {"database": "refused", "valkey": "ok"}
    assert_problem(served, 503, "database_unavailable")
    reason = next(entry["reason"] for entry in logs if entry["event"] == "database_pooling_refused")
    assert "database roles --pooler transaction" in reason


@pytest.mark.parametrize("path", ["/probe/live", "/probe/health", "/probe/ready"])
async def test_probes_ask_for_no_token(client: AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200
