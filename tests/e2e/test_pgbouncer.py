"""All of it through a real PgBouncer in transaction pooling; skipped where none is on PATH that is 1.21 or later."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db.pooler import IN_THE_WAY, UNDECLARED
from app_db.testing.databases import open_app_role
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import ValkeyServer
from tests.docs.checkout import ROOT
from tests.migrations.trees import copy_tree, write_revision

from .conftest import Environment, api_environment, environment_of_workers
from .http_site import NO_LIMITS
from .pgbouncer import PooledDatabase, drop_worker, pgbouncer, require_pgbouncer, text_of, with_worker
from .processes import Api, MailSink, Worker, connected, eventually, until

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

IN_PRODUCTION = {
    "APP_ENV": "production",
    "APP_AUTH__BCRYPT_ROUNDS": "12",
    "APP_PUBLIC_BASE_URL": "https://groundwork.test/",
    "APP_HTTP__ALLOWED_HOSTS": '["groundwork.test"]',
    "APP_MAIL__URL": "smtps://user:of-the-test@mail.groundwork.test",
    "APP_MAIL__FROM": "hello@groundwork.test",
}
IGNORED = (
    "jit, search_path, default_transaction_isolation, default_transaction_read_only, statement_timeout, lock_timeout, "
    "idle_in_transaction_session_timeout, transaction_timeout, tcp_keepalives_idle, tcp_keepalives_interval, "
    "tcp_keepalives_count, idle_session_timeout, synchronous_commit"
)

_TYPE = 'op.execute("ALTER TABLE users ALTER email TYPE {} COLLATE \\"C\\"")'
REVISIONS = (
    [_TYPE.format("varchar(400)")],
    [
        'op.add_column("users", sa.Column("nickname", sa.Text()))',
        "with op.get_context().autocommit_block():",
        '    op.create_index("ix_users_nickname", "users", ["nickname"], postgresql_concurrently=True)',
    ],
    [_TYPE.format("text"), 'op.drop_column("users", "nickname")'],
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pooled_database(
    postgres_server_url: str, worker_id: str, pytestconfig: pytest.Config
) -> AsyncIterator[PooledDatabase]:
    """The database behind the poolers of this module."""
    require_pgbouncer()
    async with open_app_role(postgres_server_url, f"pooler_{worker_id}", root=pytestconfig.rootpath) as role:
        yield await with_worker(role)
        await drop_worker(role)


type StartApi = Callable[[Environment], Api]
type Migrate = Callable[..., Awaitable[None]]
type StartWorker = Callable[[Environment], str]
"""Returns the URL of its health."""


@pytest.fixture
def pooler(pooled_database: PooledDatabase, tmp_path: Path) -> Iterator[int]:
    """The port of a PgBouncer that has four sessions for each role, as it comes."""
    users = pooled_database.app, pooled_database.worker
    with pgbouncer(tmp_path / "pgbouncer", pooled_database.app, *users) as port:
        yield port


TRACKED = "IntervalStyle, default_transaction_read_only, search_path"


@pytest.fixture(params=["", TRACKED], ids=["loses", "tracks"])
def ignoring_pooler(pooled_database: PooledDatabase, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a PgBouncer that was told to ignore what sessions ask for, or to keep what Postgres tells of it."""
    users = pooled_database.app, pooled_database.worker
    options = {"ignore_startup_parameters": IGNORED}
    if request.param:
        options["track_extra_parameters"] = request.param
    with pgbouncer(tmp_path / "ignoring", pooled_database.app, *users, **options) as port:
        yield port


@pytest.fixture
def start_api(valkey: ValkeyServer, tmp_path: Path) -> Iterator[StartApi]:
    """Start an API with these variables of the database."""
    apis: list[Api] = []

    def start(environment: Environment) -> Api:
        given = {**api_environment("", valkey.url), **NO_LIMITS, "APP_AUTH__VERIFICATION": "off", **environment}
        apis.append(Api(env=given, log=tmp_path / f"api-{len(apis)}.log"))
        return apis[-1]

    yield start
    for api in apis:
        assert api.stop() == 0, api.output


@pytest.fixture
def start_pooled_worker(valkey: ValkeyServer, mail_sink: MailSink, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker with these variables of the database."""
    workers: list[Worker] = []

    def start(environment: Environment) -> str:
        port = str(free_port())
        probes = {"APP_METRICS__ENABLED": "true", "APP_METRICS__PORT": port}
        given = {**environment_of_workers("", valkey.url, mail_url=mail_sink.url), **probes, **environment}
        workers.append(Worker(env=given, log=tmp_path / f"pooled-worker-{len(workers)}.log"))
        return f"http://127.0.0.1:{port}/health"

    yield start
    for worker in workers:
        assert worker.stop() == 0, worker.output


@pytest.fixture
def migrate(pooled_database: PooledDatabase, tmp_path: Path) -> Migrate:
    """Run one more revision with these statements as `migrate` does: as the owner of the tables, past the pooler."""
    (tree := tmp_path / "tree").mkdir()
    copy_tree(ROOT, tree)

    async def run(*statements: str) -> None:
        write_revision(tree, *statements)
        environment = {**os.environ, **pooled_database.direct(pooled_database.migrator)}
        command = (sys.executable, "-m", "alembic", "upgrade", "head")
        process = await asyncio.create_subprocess_exec(*command, cwd=tree, env=environment)
        assert await process.wait() == 0

    return run


async def test_accounts_mails_and_jobs_outlive_revisions_that_change_a_column(
    pooled_database: PooledDatabase,
    pooler: int,
    start_api: StartApi,
    start_pooled_worker: StartWorker,
    mail_sink: MailSink,
    migrate: Migrate,
) -> None:
    of_workers = pooled_database.environment(pooled_database.worker, pooler)
    healths = [start_pooled_worker(of_workers) for _ in range(2)]
    api = start_api(pooled_database.environment(pooled_database.app, pooler))
    statuses: Counter[int] = Counter()
    over = asyncio.Event()
    async with AsyncClient(base_url=api.url, timeout=30) as client, connected(pooled_database.administrator) as owner:
        people = [asyncio.create_task(live(client, f"user{number}", statuses, over)) for number in range(6)]
        for statements in REVISIONS:
            await migrate(*statements)
            await asyncio.sleep(1)
        over.set()
        addresses = {address for made in await asyncio.gather(*people) for address in made}

        assert set(statuses) == {200, 201, 202}
        assert len(addresses) == await owner.fetchval("SELECT count(*) FROM users")
        await until(lambda: {mail["To"] for mail in mail_sink.mails} == addresses, "everybody has a mail")
        await all_jobs_end(owner)
        assert await owner.fetchval("SELECT max(attempt) FROM jobs WHERE state = 'completed'") == 1
        assert [(await client.get(health)).status_code for health in healths] == [200, 200]
        assert (await client.get("/probe/ready")).json()["status"] == "ready"


async def test_a_pooler_that_ignores_our_settings_is_named(
    pooled_database: PooledDatabase, ignoring_pooler: int, start_api: StartApi, start_pooled_worker: StartWorker
) -> None:
    through = {"APP_DATABASE__URL": text_of(pooled_database.app.set(port=ignoring_pooler))}
    await refuses(start_api(through), start_pooled_worker(through))
    assert UNDECLARED in await checked(through)


async def checked(environment: Environment) -> str:
    """Return what `config check` says in production."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app_api", "config", "check", stdout=PIPE, stderr=STDOUT,
        env={**os.environ, **api_environment("", "redis://127.0.0.1:6379/0"), **environment, **IN_PRODUCTION},
    )  # fmt: skip
    said, _ = await process.communicate()
    return said.decode()


async def test_a_pooler_that_refuses_our_settings_is_named(
    pooled_database: PooledDatabase, pooler: int, start_api: StartApi, start_pooled_worker: StartWorker
) -> None:
    through = {"APP_DATABASE__URL": text_of(pooled_database.app.set(port=pooler))}
    api = start_api(through)
    await refuses(api, start_pooled_worker(through))

    async with AsyncClient(base_url=api.url, timeout=30) as client:
        registered = await client.post("/auth/register", json={"email": "ada@example.test", "password": PASSWORD})
    assert registered.status_code == 503


async def refuses(api: Api, health: str) -> None:
    """Check that neither process is ready, and that both say what to set."""
    async with AsyncClient(base_url=api.url, timeout=30) as client:
        ready = await client.get("/probe/ready")
        await eventually(lambda: complains(client, health, UNDECLARED), "the worker says what to set")

    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "refused")
    assert UNDECLARED in api.output


async def test_a_pooler_that_was_there_before_the_roles_had_their_settings_is_no_hindrance(
    pooled_database: PooledDatabase, pooler: int, start_api: StartApi
) -> None:
    """PgBouncer 1.25.2 gives each new client the time zone of the first session that it opened for this role."""
    app = pooled_database.app
    zone_of_role = f'ALTER ROLE {app.username} IN DATABASE "{app.database}"'
    async with connected(pooled_database.administrator) as owner:
        await owner.execute(f"{zone_of_role} SET timezone = 'Australia/Lord_Howe'")
        async with connected(text_of(app.set(port=pooler))):
            pass
        await owner.execute(f"{zone_of_role} SET timezone = 'UTC'")
        await owner.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{app.username}'")

    api = start_api(pooled_database.environment(app, pooler))
    async with AsyncClient(base_url=api.url, timeout=30) as client:
        assert (await client.get("/probe/ready")).json()["status"] == "ready"


async def test_a_worker_whose_direct_url_leads_through_the_pooler_is_not_well(
    pooled_database: PooledDatabase, ignoring_pooler: int, start_pooled_worker: StartWorker
) -> None:
    given = pooled_database.environment(pooled_database.worker, ignoring_pooler)

    health = start_pooled_worker({**given, "APP_DATABASE__DIRECT_URL": given["APP_DATABASE__URL"]})

    async with AsyncClient(timeout=30) as client:
        await eventually(lambda: complains(client, health, IN_THE_WAY), "the worker says what to set")


async def complains(client: AsyncClient, health: str, why: str) -> bool:
    answer = await client.get(health)
    return answer.status_code == 503 and why in answer.json()["detail"]


async def live(client: AsyncClient, name: str, statuses: Counter[int], over: asyncio.Event) -> list[str]:
    """Register, sign in, read and export until it is over; return the addresses of the accounts."""
    made: list[str] = []
    while not over.is_set():
        email = f"{name}.{len(made)}@example.test"
        registered = await client.post("/auth/register", json={"email": email, "password": PASSWORD})
        made.append(email)
        issued = await client.post("/auth/access-token", data={"username": email, "password": PASSWORD})
        headers = {"Authorization": f"Bearer {issued.json().get('access_token')}"}
        read = await client.get("/auth/me", headers=headers)
        exported = await client.post("/auth/me/export", headers=headers)
        statuses.update(answer.status_code for answer in (registered, issued, read, exported))
    return made


async def all_jobs_end(owner: Any) -> None:  # Any: asyncpg's connection, which has no types
    async def no_job_is_open() -> bool:
        return bool(await owner.fetchval("SELECT NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)"))

    await eventually(no_job_is_open, "all jobs have ended")
