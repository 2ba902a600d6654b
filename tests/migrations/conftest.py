"""Databases to migrate, and ways to migrate them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from app_db.testing import databases
from app_db.types import new_id
from tests.migrations.catalog import CATALOG

type RunAlembic = Callable[..., subprocess.Popen[str]]
type Catalog = Callable[[], Awaitable[set[str]]]
type AddRevision = Callable[..., str]

SCHEMA = Path("packages/db/src/app_db/models/schema.py")
REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{revision}", "{before}", None, None


def upgrade():
{body}


def downgrade():
    pass
"""


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
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copytree(root / "migrations", tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / SCHEMA).parent.mkdir(parents=True)
    shutil.copy(root / SCHEMA, tmp_path / SCHEMA)
    return tmp_path


@pytest.fixture
def add_revision(copied_tree: Path) -> AddRevision:
    """Write a revision after the newest one of the copied tree, with these statements, and return its id."""

    def add(*statements: str) -> str:
        before = str(
            ScriptDirectory.from_config(Config(toml_file=str(copied_tree / "pyproject.toml"))).get_current_head()
        )
        revision = new_id().hex[-12:]
        body = "\n".join(f"    {statement}" for statement in statements)
        path = copied_tree / f"migrations/versions/20991231_2359_added_{revision}.py"
        path.write_text(REVISION.format(revision=revision, before=before, body=body))
        return revision

    return add
