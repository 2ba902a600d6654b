"""Fixtures as those of tests/e2e, with a real PgBouncer between the programs and Postgres.

The tests themselves look at Postgres directly.
"""

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_db.testing.databases import open_app_role
from app_runtime.testing.servers import ValkeyServer
from tests.e2e.conftest import Environment, api_environment, environment_of_workers
from tests.e2e.http_site import NO_LIMITS
from tests.e2e.pgbouncer import PooledDatabase, drop_worker, pgbouncer, require_pgbouncer, with_worker
from tests.e2e.processes import Api, MailSink

LONGEST_LOCK = 60
"""Seconds for which a test lets workers wait for a lock."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pooled_database(
    postgres_server_url: str, worker_id: str, pytestconfig: pytest.Config
) -> AsyncIterator[PooledDatabase]:
    """The database behind the pooler."""
    require_pgbouncer()
    async with open_app_role(postgres_server_url, f"pooled_{worker_id}", root=pytestconfig.rootpath) as role:
        yield await with_worker(role, lock_timeout=LONGEST_LOCK)
        await drop_worker(role)


@pytest.fixture(scope="session")
def pooler_port(pooled_database: PooledDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the PgBouncer."""
    users = pooled_database.app, pooled_database.worker
    folder = tmp_path_factory.mktemp("pooled")
    folder.chmod(0o755)  # PgBouncer reads its files as another user
    with pgbouncer(folder / "pgbouncer", pooled_database.app, *users) as port:
        yield port


@pytest.fixture(scope="session")
def database_settings(pooled_database: PooledDatabase) -> DatabaseSettings:
    """The settings of the tests themselves: the administrator's, past the pooler."""
    return DatabaseSettings.model_validate({"url": pooled_database.administrator})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(database_settings, name="test") as database:
        yield database


@pytest.fixture(scope="session")
def api(
    pooled_database: PooledDatabase, pooler_port: int, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """`python -m app_api` behind the pooler."""
    environment = {
        **api_environment("", valkey_url),
        **NO_LIMITS,
        **pooled_database.environment(pooled_database.app, pooler_port),
        "APP_AUTH__VERIFICATION": "off",
    }
    api = Api(env=environment, log=tmp_path_factory.mktemp("api") / "log")
    yield api
    assert api.stop() in {0, -signal.SIGTERM}, api.output


@pytest.fixture
def worker_environment(
    database: Database, pooled_database: PooledDatabase, pooler_port: int, valkey: ValkeyServer, mail_sink: MailSink
) -> Environment:
    """The environment variables of workers behind the pooler."""
    return {
        **environment_of_workers("", valkey.url, mail_url=mail_sink.url),
        **pooled_database.environment(pooled_database.worker, pooler_port),
    }
