"""Fixtures of the end-to-end tests: `api`, `worker`, `mail_sink`, and the servers below them.

A test that takes `http` and `worker` has Groundwork running as in production, on a database that is empty at first.
A test that needs several workers, or workers with other settings, takes `start_worker` and calls it for each of them.
All processes of a test have been stopped before its database is emptied.
"""

import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from httpx2 import AsyncClient

from app_api.feature_settings import VARIABLES_OF_RINGS
from app_auth.testing import new_key
from app_db import Database
from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import ValkeyServer

from .http_site import NO_LIMITS, HttpSite
from .processes import Api, MailSink, Worker

type Environment = dict[str, str]
type StartWorker = Callable[..., Worker]

LEASE_SECONDS = 2
"""So short that no test waits long for the job of a worker that was killed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no process of pytest has one left when the others are done."""

    def seconds(item: pytest.Item) -> float:
        timeout = item.get_closest_marker("timeout")
        return float(timeout.args[0]) if timeout else 0

    items.sort(key=seconds, reverse=True)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey of this test alone: it may be emptied, killed, and started again at the same address."""
    with ValkeyServer(tmp_path / "valkey", port=free_port(), durable=False) as valkey:
        yield valkey


@pytest.fixture
def mail_sink() -> Iterator[MailSink]:
    """The mail server that the workers of this test talk to."""
    with MailSink() as sink:
        yield sink


@pytest.fixture(scope="session")
def api(
    database_settings: DatabaseSettings, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """`python -m app_api`, answering; one for all tests, because starting it takes the longest of all.

    It has no limits, because all tests ask from one address, and no verification. Its Valkey is not the workers'.
    """
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    port = free_port()
    environment |= {**NO_LIMITS, "APP_AUTH__VERIFICATION": "off", "APP_PUBLIC_BASE_URL": f"http://localhost:{port}"}
    environment |= {"APP_AUTH__MAGIC_LINK": "on"}
    api = Api(env=environment, log=tmp_path_factory.mktemp("api") / "log", port=port)
    yield api
    assert api.stop() in {0, -signal.SIGTERM}, api.output  # uvicorn sends itself the signal again when all is done


@pytest_asyncio.fixture(loop_scope="session")
async def http(api: Api, database: Database) -> AsyncIterator[AsyncClient]:
    """A client of `api`, whose database is emptied after the test."""
    async with AsyncClient(base_url=api.url, timeout=90) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpSite]:
    """An API on its own servers, which tests may break; each test mends it again."""
    async with HttpSite(tmp_path_factory.mktemp("site"), api_environment) as site:
        yield site


@pytest.fixture
def worker_environment(
    database: Database, database_settings: DatabaseSettings, valkey: ValkeyServer, mail_sink: MailSink
) -> Environment:
    """The environment variables of the workers."""
    return environment_of_workers(database_settings.url.get_secret_value(), valkey.url, mail_url=mail_sink.url)


@pytest.fixture
def start_worker(worker_environment: Environment, tmp_path: Path) -> Iterator[StartWorker]:
    """Start one more `python -m app_worker run`; keyword arguments are environment variables that differ."""
    workers: list[Worker] = []

    def start(**different: str) -> Worker:
        workers.append(Worker(env={**worker_environment, **different}, log=tmp_path / f"worker-{len(workers)}.log"))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.is_running():
            assert worker.stop() == 0, worker.output


@pytest.fixture
def worker(start_worker: StartWorker) -> Worker:
    """One worker, running."""
    return start_worker()


def api_environment(database_url: str, valkey_url: str) -> Environment:
    """The environment variables of an API, with fresh keys and the cheapest hash."""
    return {
        "APP_ENV": "test",
        "APP_DATABASE__URL": database_url,
        "APP_REDIS__URL": valkey_url,
        **{name: key_ring() for name in VARIABLES_OF_RINGS.values()},
        "APP_AUTH__TOKEN_KEYS": TOKEN_KEYS,
        "APP_AUTH__BCRYPT_ROUNDS": "4",
    }


def environment_of_workers(database_url: str, valkey_url: str, *, mail_url: str) -> Environment:
    """The environment variables of workers, with a short lease."""
    return {
        "APP_ENV": "test",
        "APP_DATABASE__URL": database_url,
        "APP_REDIS__URL": valkey_url,
        "APP_AUTH__TOKEN_KEYS": TOKEN_KEYS,
        "APP_MAIL__URL": mail_url,
        "APP_MAIL__FROM": "Groundwork <hello@groundwork.test>",
        "APP_PUBLIC_BASE_URL": "https://groundwork.test/",
        "APP_WORKER__LEASE": f"PT{LEASE_SECONDS}S",
        "APP_WORKER__GRACE": "PT1S",
    }


def key_ring() -> str:
    """A ring of one fresh key, as the value of its environment variable."""
    key = new_key()
    return json.dumps([{"kid": key.kid, "secret": key.secret.get_secret_value()}])


TOKEN_KEYS = key_ring()
"""Of both: links that workers mail are used at the API."""
