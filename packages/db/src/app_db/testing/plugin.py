"""pytest fixtures for every package: a real database that is emptied after each test.

Tests use the application's own engines and really commit; there is no session that they share with it (ADR-0010).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from app_db import Database, Session, open_database
from app_db.jobs.encryption import PayloadKeys
from app_db.models import User
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_db.testing.claim import Claim, ServerTaken
from app_db.testing.databases import AppRole
from app_db.types import new_id
from app_runtime.discovery import feature_folders
from app_runtime.testing.servers import PostgresServer


def factory_modules(package: str) -> list[str]:
    """Return the names of the modules in which features have fixtures. pytest imports them later."""
    folders = feature_folders(package)
    return [f"{package}.{folder.name}.factories" for folder in folders if (folder / "factories.py").is_file()]


pytest_plugins = factory_modules("app_db.features")
SERVER_URL = "app_postgres_server_url"
POSTGRES = pytest.StashKey[PostgresServer]()
CLAIM = pytest.StashKey[Claim]()
PREPARED_URL = pytest.StashKey[str]()

type MakeUser = Callable[..., Awaitable[User]]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # Any: xdist's WorkerController
    """Let all processes of pytest-xdist share one server, with one database each."""
    node.workerinput[SERVER_URL] = _server_url(node.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server that this run has started, or release the given server for the next run."""
    if CLAIM in config.stash:
        config.stash[CLAIM].release()
    if POSTGRES in config.stash:
        config.stash[POSTGRES].stop()


def _server_url(config: pytest.Config) -> str:
    """Return the URL of the server, with its migrated template; the first call starts a server unless one is given."""
    if PREPARED_URL not in config.stash:
        if (url := os.environ.get("APP_DATABASE__URL")) is None:
            config.stash[POSTGRES] = PostgresServer.temporary().start()
            url = config.stash[POSTGRES].url("postgres")
        else:
            try:
                config.stash[CLAIM] = Claim(url, who=f"pytest {os.getpid()} {config.rootpath}")
            except ServerTaken as taken:
                pytest.exit(str(taken), returncode=pytest.ExitCode.USAGE_ERROR)
        asyncio.run(databases.create_template(url, root=config.rootpath))
        config.stash[PREPARED_URL] = url  # once: a second call would drop the template that another process clones
    return config.stash[PREPARED_URL]


@pytest.fixture(scope="session")
def postgres_server_url(pytestconfig: pytest.Config) -> str:
    """Return the URL of the server of this test run."""
    worker_input: dict[str, str] | None = getattr(pytestconfig, "workerinput", None)
    return worker_input[SERVER_URL] if worker_input else _server_url(pytestconfig)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database_settings(postgres_server_url: str, worker_id: str) -> DatabaseSettings:
    """Return the settings of a database of this test process alone, cloned from the migrated template."""
    name = f"app_{worker_id}_test"
    url = await databases.recreate(postgres_server_url, name, template=databases.TEMPLATE)
    return DatabaseSettings.model_validate({"url": url})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(database_settings, name="test") as database:
        database.keep_secrets(PayloadKeys({"test": os.urandom(32)}, active="test"))
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def database(_database: Database) -> AsyncIterator[Database]:
    """The application's engines on an empty database; what the test commits is deleted after it.

    Example:
        async def test_a_new_user_has_no_jobs(database: Database, make_user: MakeUser) -> None:
            ada = await make_user()

            async with database.unit_of_work(read_only=True) as session:
                assert await session.scalar(select(Job.id).where(Job.owner_id == ada.id)) is None
    """
    yield _database
    await databases.empty(_database)


@pytest_asyncio.fixture(loop_scope="session")
async def session(database: Database) -> AsyncIterator[Session]:
    """A session of the write engine; the test commits it itself.

    Example:
        async def test_what_is_committed_is_there(session: Session, make_user: MakeUser, database: Database) -> None:
            ada = await make_user()
            await enqueue(session, EndSessions(user_id=ada.id))
            await session.commit()

            await assert_enqueued(database, EndSessions, user_id=ada.id)
    """
    async with database.sessions() as session:
        yield session


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def modest_role(postgres_server_url: str, worker_id: str, pytestconfig: pytest.Config) -> AsyncIterator[AppRole]:
    """The role that the applications have in production, in a database of its own that no test empties."""
    async with databases.open_app_role(postgres_server_url, worker_id, root=pytestconfig.rootpath) as role:
        yield role


@pytest.fixture
def make_user(database: Database) -> MakeUser:
    """Return a factory of committed users; every column has a default.

    Example:
        async def test_two_users_have_two_addresses(make_user: MakeUser) -> None:
            ada, bob = await make_user(email="ada@example.test"), await make_user()

            assert bob.email != ada.email
    """

    async def make(**columns: Any) -> User:  # Any: columns of User
        user_id = new_id()
        email = columns.pop("email", f"user-{user_id.hex}@example.test")
        user = User(**{"id": user_id, "email": email, "email_canonical": email, "password_hash": "-", **columns})
        async with database.sessions.begin() as session:
            session.add(user)
        return user

    return make
