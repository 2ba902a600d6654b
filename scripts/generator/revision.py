"""Writes a revision with nothing running: Alembic compares the models with a temporary database."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app_runtime.configuration import PREFIX
from app_runtime.testing.servers import PostgresServer
from generator.errors import Refused

_DROPPED_TABLE: Final = re.compile(r'op\.drop_table\("(\w+)"\)')


@dataclass(frozen=True, slots=True)
class MigratedDatabase:
    """A database at the newest revision of the checkout."""

    root: Path
    url: str

    def alembic(self, *arguments: str) -> str:
        """Run Alembic on it and return its output.

        Raises:
            Refused: with the output of Alembic, if it failed.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=self.root,
            env={**inherited, f"{PREFIX}DATABASE__URL": self.url},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(f"alembic {arguments[0]} failed:\n{(done.stdout + done.stderr).strip()}")
        return done.stdout

    def write_revision(self, message: str, *, beside_tables: Sequence[tuple[str, str]] = ()) -> Path:
        """Write the revision that brings the database to the models, and return its file.

        `beside_tables` goes with them: statements that Alembic does not know, each with the one that drops it again.
        """
        folder = self.root / "migrations/versions"
        before = set(folder.glob("*.py"))
        self.alembic("revision", "--autogenerate", f"--message={message}")
        (written,) = set(folder.glob("*.py")) - before
        written.write_text(without(beside_tables, as_by_hand(written.read_text())))
        return written


def as_by_hand(revision: str) -> str:
    """Remove Alembic's comments, drop a table together with its indexes, and let `make check-sql` allow that."""
    lines = revision.splitlines(keepends=True)
    upgrade, downgrade, rest = "".join(line for line in lines if "# ### " not in line).partition("def downgrade")
    tables = _DROPPED_TABLE.findall(upgrade)
    upgrade = _DROPPED_TABLE.sub(r"""op.execute('-- squawk-ignore ban-drop-table\\nDROP TABLE "\1"')""", upgrade)
    for table in tables:
        upgrade = re.sub(rf'    op\.drop_index\((?:[^()]|\([^()]*\))*"{table}"(?:[^()]|\([^()]*\))*\)\n', "", upgrade)
    return f"{upgrade}{downgrade}{rest}"


def without(beside_tables: Sequence[tuple[str, str]], revision: str) -> str:
    """Let a revision drop these first, the last one first, and let its downgrade make them again, at the end."""
    upgrade, begin, body = revision.partition('    """Upgrade."""\n')
    drops = "".join(f"    op.execute({json.dumps(drop)})\n" for _, drop in reversed(beside_tables))
    creations = "".join(f'    op.execute("""{creation}""")\n' for creation, _ in beside_tables)
    return f"{upgrade}{begin}{drops}{body.rstrip()}\n{creations}"


@contextmanager
def migrated_database(root: Path) -> Iterator[MigratedDatabase]:
    """Start a server for the time of the block, with a database at the newest revision, equal to the models.

    Raises:
        Refused: if the models have changed without a revision: the next one would contain the change.
    """
    with PostgresServer.temporary() as server:
        server.create_database("feature_test")
        database = MigratedDatabase(root, server.url("feature_test"))
        database.alembic("upgrade", "head")
        try:
            database.alembic("check")
        except Refused as error:
            raise Refused(f"the models and the revisions differ already; first: make revision m=…\n{error}") from None
        yield database
