"""The revisions: one line of them, each reversible, and the command that makes the next."""

import ast
import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from app_db.models import schema
from app_db.repositories.schema import NEEDED_REVISIONS

pytestmark = pytest.mark.integration

type RunAlembic = Callable[..., subprocess.Popen[str]]
type Catalog = Callable[[], Awaitable[set[str]]]

SCHEMA = Path("packages/db/src/app_db/models/schema.py")
NAME = re.compile(r"\d{8}_\d{4}_[a-z0-9_]+_[0-9a-f]{12}\.py")
# The body of a later revision that changes a table with rows.
ADD_NICKNAMES = """
import sqlalchemy as sa
from alembic import op


def upgrade() -> None:
    op.add_column("users", sa.Column("nickname", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "nickname")
"""


INDEX_CONCURRENTLY = """
from alembic import op


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index("ix_users_email", "users", ["email"], postgresql_concurrently=True, if_not_exists=True)
"""


def scripts(root: Path) -> ScriptDirectory:
    return ScriptDirectory.from_config(Config(toml_file=str(root / "pyproject.toml")))


async def on_record(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    is_there = await connection.fetchval("SELECT to_regclass('schema_history') IS NOT NULL")
    rows = await connection.fetch("SELECT revision FROM schema_history") if is_there else []
    await connection.close()
    return {row["revision"] for row in rows}


async def output_of(process: "subprocess.Popen[str]") -> str:
    with process:
        output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output
    return output


@pytest.fixture
async def second_revision(copied_tree: Path, run_alembic: RunAlembic) -> str:
    """A revision after the newest one, that adds a column."""
    before = set(versions(copied_tree))
    await output_of(run_alembic("revision", "-m", "add nicknames", folder=copied_tree))
    (path,) = set(versions(copied_tree)) - before
    path.write_text(path.read_text().partition("def upgrade")[0] + ADD_NICKNAMES)
    return path.stem.rpartition("_")[2]


def versions(tree: Path, *, revision: str = "*") -> list[Path]:
    return sorted((tree / "migrations" / "versions").glob(f"*_{revision}.py"))


def test_there_is_one_newest_revision(root: Path) -> None:
    assert len(scripts(root).get_heads()) == 1, "two revisions follow the same one: `alembic merge` or rebase yours"


DROP_TABLE = re.compile(r"""^op\.execute\('-- squawk-ignore ban-drop-table\\nDROP TABLE "(\w+)"'\)$""")


def steps_of(script: Script) -> list[str]:
    """Return the statements of a revision's upgrade, each as one line."""
    (upgrade,) = (
        node
        for node in ast.parse(Path(script.path).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
    )
    return [ast.unparse(step) for step in upgrade.body if not isinstance(getattr(step, "value", None), ast.Constant)]


def newest_needed(revisions: Iterable[Script]) -> str:
    """Return the newest revision that code can need: none that made or dropped the tables of a removed feature."""
    dropped: set[str] = set()
    for script in revisions:
        steps = steps_of(script)
        drops = [match[1] for step in steps if (match := DROP_TABLE.match(step))]
        if len(drops) == len(steps):
            dropped |= {*drops}
        elif not all(any(f"'{table}'" in step for table in dropped) for step in steps):
            return script.revision
    raise AssertionError("no revision is needed")


def test_the_code_needs_the_newest_revision(root: Path) -> None:
    newest = newest_needed(scripts(root).walk_revisions())

    assert newest in NEEDED_REVISIONS, (
        f'set SCHEMA_REVISION = "{newest}" in {SCHEMA}, or in the models.py of the feature, or replicas will call'
        " themselves ready on a database that lacks what they need"
    )


def test_the_files_of_revisions_are_named_by_their_time(root: Path) -> None:
    assert [path.name for path in versions(root) if not NAME.fullmatch(path.name)] == []


def test_the_names_of_the_files_tell_their_order(root: Path) -> None:
    minutes = [Path(script.path).name[: len("20261129_1044")] for script in scripts(root).walk_revisions()][::-1]

    assert sorted(minutes) == minutes


async def test_each_revision_can_be_taken_back_and_applied_again(
    config: Config, root: Path, dsn: str, catalog: Catalog
) -> None:
    for script in reversed(list(scripts(root).walk_revisions())):
        before = await catalog(), await on_record(dsn)
        command.upgrade(config, script.revision)
        after = await catalog(), await on_record(dsn)

        command.downgrade(config, f"{script.revision}-1")
        assert (await catalog(), await on_record(dsn)) == before, f"{script.path}: the downgrade leaves something"

        command.upgrade(config, script.revision)
        assert (await catalog(), await on_record(dsn)) == after, f"{script.path}: up again is not as it was"


async def test_an_upgrade_is_on_record(
    migrated_url: str, copied_tree: Path, second_revision: str, run_alembic: RunAlembic, dsn: str
) -> None:
    await output_of(run_alembic("upgrade", "head", folder=copied_tree))

    assert await on_record(dsn) == {script.revision for script in scripts(copied_tree).walk_revisions()}


async def test_a_downgrade_is_taken_off_the_record(
    migrated_url: str, root: Path, copied_tree: Path, second_revision: str, run_alembic: RunAlembic, dsn: str
) -> None:
    await output_of(run_alembic("upgrade", "head", folder=copied_tree))

    await output_of(run_alembic("downgrade", "-1", folder=copied_tree))

    assert await on_record(dsn) == {script.revision for script in scripts(root).walk_revisions()}


async def test_a_revision_that_fails_is_not_on_record_and_leaves_nothing(
    migrated_url: str, copied_tree: Path, second_revision: str, run_alembic: RunAlembic, dsn: str, catalog: Catalog
) -> None:
    before = await catalog(), await on_record(dsn)
    (path,) = versions(copied_tree, revision=second_revision)  # not the last: two of one minute sort by their slugs
    path.write_text(path.read_text().replace("def downgrade", '    op.execute("SELECT 1 / 0")\n\n\ndef downgrade', 1))

    with run_alembic("upgrade", "head", folder=copied_tree) as process:
        output, _ = await asyncio.to_thread(process.communicate)

    assert "division by zero" in output
    assert (await catalog(), await on_record(dsn)) == before


async def test_one_command_makes_the_next_revision(copied_tree: Path, root: Path, run_alembic: RunAlembic) -> None:
    await output_of(run_alembic("revision", "-m", "Add pets' names", folder=copied_tree))

    (path,) = {path.name for path in versions(copied_tree)} - {path.name for path in versions(root)}
    assert NAME.fullmatch(path)
    assert "_add_pets_names_" in path
    assert scripts(copied_tree).get_current_head() == path[-15:-3]


async def test_a_revision_can_be_written_from_the_models(copied_tree: Path, run_alembic: RunAlembic) -> None:
    for path in versions(copied_tree):
        path.unlink()

    await output_of(run_alembic("revision", "--autogenerate", "-m", "initial", folder=copied_tree))

    (path,) = versions(copied_tree)
    assert "app_db" not in path.read_text(), "a revision must not change when the models do"
    await output_of(run_alembic("upgrade", "head", folder=copied_tree))
    await output_of(run_alembic("check", folder=copied_tree))  # nothing is left to be written


async def test_the_code_needs_the_revision_that_was_just_written(
    migrated_url: str, copied_tree: Path, run_alembic: RunAlembic
) -> None:
    await output_of(run_alembic("revision", "--autogenerate", "-m", "add pets", folder=copied_tree))

    newest = scripts(copied_tree).get_current_head()
    assert newest != schema.SCHEMA_REVISION
    assert f'SCHEMA_REVISION = "{newest}"\n' in (copied_tree / SCHEMA).read_text()


async def test_looking_for_drift_changes_no_source(
    migrated_url: str, copied_tree: Path, root: Path, run_alembic: RunAlembic
) -> None:
    await output_of(run_alembic("check", folder=copied_tree))

    assert (copied_tree / SCHEMA).read_text() == (root / SCHEMA).read_text()


async def test_a_revision_can_make_an_index_without_blocking_writers(
    migrated_url: str, copied_tree: Path, second_revision: str, run_alembic: RunAlembic, catalog: Catalog
) -> None:
    (path,) = versions(copied_tree, revision=second_revision)  # not the last: two of one minute sort by their slugs
    path.write_text(path.read_text().rpartition("import sqlalchemy")[0] + INDEX_CONCURRENTLY)

    await output_of(run_alembic("upgrade", "head", folder=copied_tree))

    assert any(line.startswith("index ix_users_email: ") and line.endswith(" valid t") for line in await catalog())
