"""Migrations on an unexpected database: a newer schema, another branch's, another encoding or order of text."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from packages.db.tests.pooling import FakePooler

pytestmark = pytest.mark.integration

type RunAlembic = Callable[..., subprocess.Popen[str]]
type AddRevision = Callable[..., str]
type Connection = asyncpg.Connection[asyncpg.Record]

NEWEST = ScriptDirectory(str(Path(__file__).parents[2] / "migrations")).get_current_head()
"""The newest revision, of the kernel or of a feature that `make feature` has written."""
ADD_COLUMN = 'op.add_column("users", sa.Column("nickname", sa.Text()))'


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    with process:
        output, _ = await asyncio.to_thread(process.communicate)
    return process.returncode, output


@pytest.fixture
async def later(
    migrated_url: str, copied_tree: Path, add_revision: AddRevision, run_alembic: RunAlembic, root: Path
) -> str:
    """The id of a revision that the database has and the checkout at `root` has not."""
    revision = add_revision(ADD_COLUMN)
    status, output = await ended(run_alembic("upgrade", "head", folder=copied_tree))
    assert status == 0, output
    return revision


@pytest.mark.parametrize("target", ["head", "heads", NEWEST])
async def test_the_previous_release_has_nothing_to_do_on_a_newer_schema(
    later: str, run_alembic: RunAlembic, target: str
) -> None:
    status, output = await ended(run_alembic("upgrade", target))

    assert (status, output.count("\n")) == (0, 1), output
    assert f"The database is at {later}, newer than {NEWEST}" in output


@pytest.mark.parametrize("arguments", [("downgrade", "-1"), ("check",), ("revision", "--autogenerate", "-m", "x")])
async def test_what_compares_or_takes_back_refuses_a_schema_that_it_does_not_know(
    later: str, run_alembic: RunAlembic, root: Path, arguments: tuple[str, ...]
) -> None:
    before = sorted((root / "migrations/versions").iterdir())

    status, output = await ended(run_alembic(*arguments))

    assert (status, output.count("\n")) == (1, 1), output
    assert f"The database is at {later}, a revision that is not in migrations/versions" in output
    assert sorted((root / "migrations/versions").iterdir()) == before


async def test_a_branch_that_was_switched_says_what_to_do(
    later: str, copied_tree: Path, add_revision: AddRevision, run_alembic: RunAlembic
) -> None:
    (path,) = (copied_tree / "migrations/versions").glob(f"*{later}.py")
    path.unlink()
    add_revision(ADD_COLUMN)

    status, output = await ended(run_alembic("upgrade", "head", folder=copied_tree))

    assert (status, output.count("\n")) == (1, 1), output
    assert f"`alembic downgrade {NEWEST}` where that revision is" in output
    assert "make dev RESET=1" in output


async def test_a_schema_that_is_not_known_can_be_stamped(later: str, run_alembic: RunAlembic) -> None:
    status, output = await ended(run_alembic("stamp", "--purge", "head"))

    assert status == 0, output


def test_a_migration_is_given_the_time_that_it_may_wait(root: Path) -> None:
    source = (root / "migrations/env.py").read_text()
    waits = re.findall(r'get_alembic_option\("lock_(?:tries|wait)_seconds", "(\d+)"\)', source)
    kubernetes = re.search(r"activeDeadlineSeconds: (\d+)", (root / "deploy/kubernetes/base/migrate.yaml").read_text())
    systemd = re.search(r"TimeoutStartSec=(\d+)min", (root / "deploy/systemd/app-migrate.service").read_text())

    assert len(waits) == 2
    assert kubernetes
    assert systemd
    assert sum(map(int, waits)) < min(int(kubernetes[1]), 60 * int(systemd[1]))


async def test_a_database_of_somebody_else_is_refused(
    empty_url: str, connection: Connection, run_alembic: RunAlembic
) -> None:
    await connection.execute(
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('x')"
    )

    status, output = await ended(run_alembic("upgrade", "head"))

    assert (status, output.count("\n")) == (1, 1), output
    assert "The database is at x" in output


async def test_nothing_is_migrated_through_a_pooler(
    empty_url: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(empty_url)
    async with FakePooler(url.host or "", url.port or 0).open() as pooler:
        monkeypatch.setenv("APP_DATABASE__URL", url.set(port=pooler.port).render_as_string(hide_password=False))

        with pytest.raises(SystemExit, match="a pooler answers where LISTEN, advisory locks and migrations need"):
            await asyncio.to_thread(command.upgrade, config, "head")


async def test_an_encoding_that_cannot_hold_every_text_is_refused(
    postgres_server_url: str, dsn: str, connection: Connection, run_alembic: RunAlembic
) -> None:
    name = f"{make_url(dsn).database}_latin_test"
    await connection.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    )
    try:
        url = make_url(postgres_server_url).set(database=name).render_as_string(hide_password=False)
        status, output = await ended(run_alembic("upgrade", "head", APP_DATABASE__URL=url))
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    assert (status, output.count("\n")) == (1, 1), output
    assert "The encoding of the database is LATIN1, and has to be UTF8" in output


async def outdate_collation(connection: Connection) -> None:
    """Make the database look as after an update of the C library."""
    await connection.execute("UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()")


@pytest.mark.parametrize("run", [partial(command.upgrade, revision="head"), command.check])
async def test_an_index_in_another_order_than_the_servers_is_refused(
    migrated_url: str, config: Config, connection: Connection, run: Callable[[Config], None]
) -> None:
    """PostgreSQL 18, ALTER DATABASE … REFRESH COLLATION VERSION: rebuild what depends on it first."""
    await connection.execute("CREATE INDEX ix_users_email ON users (email)")
    await outdate_collation(connection)

    with pytest.raises(SystemExit, match=r"they may miss rows: ix_users_email\. Type REINDEX DATABASE"):
        run(config)


async def test_indexes_by_code_points_do_not_mind_another_order(
    migrated_url: str, config: Config, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    await outdate_collation(connection)

    command.upgrade(config, "head")

    assert capsys.readouterr().out == ""
