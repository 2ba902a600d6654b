"""Databases to migrate and ways to do it."""

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

# One line for each thing that a schema consists of. The order of columns is left out: a revision can only append.
CATALOG = """
WITH ours AS (
    SELECT c.oid, c.relname, c.relkind, c.reloptions, c.relpersistence FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic_version%'
)
SELECT format('relation %s kind %s %s with %s', relname, relkind, relpersistence,
              (SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(reloptions) AS option)) FROM ours
UNION ALL
SELECT format('column %s.%s %s %s default %s identity %s generated %s collation %s comment %s', ours.relname, a.attname,
              format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
              pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attcollation::regcollation,
              col_description(ours.oid, a.attnum))
FROM ours JOIN pg_attribute AS a ON a.attrelid = ours.oid AND a.attnum > 0 AND NOT a.attisdropped AND ours.relkind = 'r'
LEFT JOIN pg_attrdef AS d ON d.adrelid = ours.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('constraint %s on %s: %s', c.conname, ours.relname, pg_get_constraintdef(c.oid))
FROM ours JOIN pg_constraint AS c ON c.conrelid = ours.oid
UNION ALL
SELECT format('index %s: %s valid %s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), i.indisvalid)
FROM ours JOIN pg_index AS i ON i.indrelid = ours.oid
UNION ALL
SELECT format('trigger on %s: %s', ours.relname, pg_get_triggerdef(t.oid))
FROM ours JOIN pg_trigger AS t ON t.tgrelid = ours.oid AND NOT t.tgisinternal
UNION ALL
SELECT format('function %s: %s', p.proname, pg_get_functiondef(p.oid)) FROM pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace
UNION ALL
SELECT format('type %s %s', t.typname, t.typtype) FROM pg_type AS t
WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'r')
UNION ALL
SELECT format('extension %s', extname) FROM pg_extension
"""


@pytest.fixture
def root(pytestconfig: pytest.Config) -> Path:
    """The checkout."""
    return pytestconfig.rootpath


@pytest.fixture
async def empty_url(postgres_server_url: str, worker_id: str) -> str:
    """A database in which there is nothing."""
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
    """Read all that the schema of the database consists of, whenever it is called."""

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
