"""Databases to migrate, and ways to migrate them."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from sqlalchemy import make_url

from app_db.testing import databases
from tests.migrations.catalog import CATALOG
from tests.migrations.trees import copy_tree, write_revision

type RunAlembic = Callable[..., subprocess.Popen[str]]
type Catalog = Callable[[], Awaitable[set[str]]]
type AddRevision = Callable[..., str]


@pytest.fixture
def root(pytestconfig: pytest.Config) -> Path:
    """The checkout."""
    return pytestconfig.rootpath


@pytest.fixture
async def empty_url(postgres_server_url: str, worker_id: str) -> str:
    """An empty database."""
    return await databases.recreate(postgres_server_url, f"app_migrations_{worker_id}_test")


@pytest.fixture
async def migrated_url(postgres_server_url: str, empty_url: str) -> str:
    """The same database, at the newest revision."""
    name = str(make_url(empty_url).database)
    return await databases.recreate(postgres_server_url, name, template=databases.TEMPLATE)


@pytest.fixture
def dsn(empty_url: str) -> str:
    """The URL of the database for asyncpg."""
    return make_url(empty_url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def catalog(dsn: str) -> Catalog:
    """Return a function that describes all objects of the schema, one line for each."""

    async def read() -> set[str]:
        connection = await asyncpg.connect(dsn)
        lines = {line for (line,) in await connection.fetch(CATALOG)}
        await connection.close()
        return lines

    return read


@pytest.fixture
def config(root: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Alembic as its command line sees it, with the database in the environment."""
    monkeypatch.setenv("APP_DATABASE__URL", empty_url)
    return Config(toml_file=str(root / "pyproject.toml"))


@pytest.fixture
def run_alembic(root: Path, empty_url: str) -> RunAlembic:
    """Start `alembic …` as a process of its own."""

    def run(*arguments: str, folder: Path = root, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=folder,
            env={**os.environ, "APP_DATABASE__URL": empty_url, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.fixture
def copied_tree(root: Path, tmp_path: Path) -> Path:
    """A checkout to write revisions in."""
    return copy_tree(root, tmp_path)


@pytest.fixture
def add_revision(copied_tree: Path) -> AddRevision:
    """Write a revision after the newest one of the copied tree, with these statements, and return its id."""
    return partial(write_revision, copied_tree)
