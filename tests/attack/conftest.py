"""Fixtures of the attack suite: `api` and its twin, `connect` for as many attackers as a test needs, `worker`, mail.

The servers are processes that trust a proxy on this machine, so each client chooses its own address (`Wire.address`),
and the throttles of one test do not affect another. Accounts come from `make_account` of app_auth.testing, whose keys
the servers share; it registers and verifies them without asking the servers.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from app_auth.settings import AuthSettings, Key
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.settings import DatabaseSettings
from tests.attack.wire import Wire, an_address
from tests.e2e.processes import Api, MailSink, Worker

type Environment = dict[str, str]
type StartApi = Callable[..., Api]
type Connect = Callable[..., Wire]

PUBLIC_BASE_URL = "https://groundwork.test/"


@pytest.fixture(scope="session")
def environment(auth_settings: AuthSettings, database_settings: DatabaseSettings, valkey_url: str) -> Environment:
    """The environment variables of every API process of the suite."""
    rings = {name: ring for name, ring in auth_settings if isinstance(ring, tuple)}
    return {
        "APP_ENV": "test",
        "APP_DATABASE__URL": database_settings.url.get_secret_value(),
        "APP_REDIS__URL": valkey_url,
        "APP_REDIS__TIMEOUT": "5",  # both APIs count together on a busy machine, too
        "APP_HTTP__TRUSTED_PROXIES": '["127.0.0.1/32"]',
        "APP_AUTH__VERIFICATION": "on",
        "APP_AUTH__MAGIC_LINK": "on",
        "APP_AUTH__BCRYPT_ROUNDS": "4",
    } | {f"APP_AUTH__{name.upper()}": ring_variable(ring) for name, ring in rings.items()}


@pytest.fixture(scope="session")
def api(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API, one process for all tests, which registers only addresses that are verified."""
    api = Api(env=environment, log=tmp_path_factory.mktemp("api") / "log")
    yield api
    assert api.stop() == 0, api.output


@pytest.fixture(scope="session")
def twin(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A second process of the same service: same database, same Valkey, same keys."""
    twin = Api(env=environment, log=tmp_path_factory.mktemp("twin") / "log")
    yield twin
    assert twin.stop() == 0, twin.output


@pytest.fixture
def start_api(environment: Environment, database: Database, tmp_path: Path) -> Iterator[StartApi]:
    """Start one more API; keyword arguments are environment variables that differ."""
    started: list[Api] = []

    def start(**different: str) -> Api:
        started.append(Api(env={**environment, **different}, log=tmp_path / f"api-{len(started)}.log"))
        return started[-1]

    yield start
    for each in started:
        if each.is_running():
            each.kill()


@pytest.fixture
def connect(api: Api, database: Database) -> Iterator[Connect]:
    """Return one more attacker, at an address of their own; afterwards each of their connections must still answer."""
    wires: list[Wire] = []

    def connect(to: Api = api, *, address: str | None = None) -> Wire:
        wires.append(Wire(to.url, address=address or an_address()))
        return wires[-1]

    yield connect
    broken = [wire.address for wire in wires if not wire.is_idle and not wire.lives()]
    for wire in wires:
        wire.close()
    assert not broken


@pytest.fixture
def wire(connect: Connect) -> Wire:
    """One attacker."""
    return connect()


@pytest_asyncio.fixture(loop_scope="session")
async def ada(make_account: MakeAccount) -> Account:
    """An account with a verified address."""
    return await make_account(email=an_email())


@pytest_asyncio.fixture(loop_scope="session")
async def ben(make_account: MakeAccount) -> Account:
    """A second account with a verified address."""
    return await make_account(email=an_email())


@pytest.fixture
def mail_sink() -> Iterator[MailSink]:
    """The mail server that the worker sends to."""
    with MailSink() as sink:
        yield sink


@pytest.fixture
def worker_environment(environment: Environment, mail_sink: MailSink) -> Environment:
    """The environment variables of the worker."""
    mail = {"APP_MAIL__URL": mail_sink.url, "APP_MAIL__FROM": "Groundwork <hello@groundwork.test>"}
    return {**environment, **mail, "APP_PUBLIC_BASE_URL": PUBLIC_BASE_URL, "APP_WORKER__GRACE": "PT1S"}


@pytest.fixture
def worker(worker_environment: Environment, database: Database, tmp_path: Path) -> Iterator[Worker]:
    """The worker that sends the mails."""
    worker = Worker(env=worker_environment, log=tmp_path / "worker.log")
    yield worker
    assert worker.stop() == 0, worker.output


def ring_variable(ring: tuple[Key, ...]) -> str:
    """A ring of keys, as the value of its environment variable."""
    return json.dumps([{"kid": key.kid, "secret": key.secret.get_secret_value(), "state": key.state} for key in ring])


def an_email() -> str:
    """A new address."""
    return f"{random.randbytes(6).hex()}@example.test"


async def count(database: Database, query: str, *arguments: object) -> int:
    """Return the result of a query that counts, run as the owner of the tables."""
    connection = await asyncpg.connect(database.settings.direct_dsn)
    counted: int = await connection.fetchval(query, *arguments)
    await connection.close()
    return counted
