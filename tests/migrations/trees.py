"""Copies of the checkout to write revisions in."""

import shutil
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from app_db.types import new_id

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


def copy_tree(root: Path, folder: Path) -> Path:
    """Copy what Alembic needs of the checkout into a folder, and return that."""
    shutil.copy(root / "pyproject.toml", folder)
    shutil.copytree(root / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / SCHEMA).parent.mkdir(parents=True)
    shutil.copy(root / SCHEMA, folder / SCHEMA)
    return folder


def write_revision(tree: Path, *statements: str) -> str:
    """Write a revision after the newest one of a copied tree, with these statements, and return its id."""
    before = str(ScriptDirectory.from_config(Config(toml_file=str(tree / "pyproject.toml"))).get_current_head())
    revision = new_id().hex[-12:]
    body = "\n".join(f"    {statement}" for statement in statements)
    path = tree / f"migrations/versions/20991231_2359_added_{revision}.py"
    path.write_text(REVISION.format(revision=revision, before=before, body=body))
    return revision
