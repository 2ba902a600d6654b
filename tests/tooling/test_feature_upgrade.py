"""A team's features lie in folders that upstream never touches: a later version is merged without a conflict."""

import re
from collections.abc import Iterator

import pytest

from tests.tooling.features import Copy, copy_of_checkout

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

KERNEL = "packages/db/src/app_db/models/schema.py"
ROUTER = "packages/api/src/app_api/features/sessions/router.py"
REVISION = """
revision, down_revision, branch_labels, depends_on = "0123456789ab", "{before}", None, None


def upgrade() -> None:
    op.add_column("users", sa.Column("nickname", sa.Text(), nullable=True))
"""


@pytest.fixture(scope="module")
def product() -> Iterator[Copy]:
    """A clone with three features; its remote `origin` is a Groundwork with a later commit."""
    with copy_of_checkout() as groundwork:
        team = Copy(groundwork.root / ".data" / "product")
        groundwork.git("clone", "--quiet", ".", str(team.root))
        team.make("install")
        for name, fields in (("bookmarks", "url:str"), ("notes", "label:str words:text"), ("visits", "place:UUID!")):
            team.write(name, fields)
            team.commit()
        go_on(groundwork)
        yield team


def go_on(groundwork: Copy) -> None:
    """Change every file of Groundwork, its API, and its schema."""
    for path in groundwork.git("ls-files").splitlines():
        if path.endswith((".py", ".md", ".toml", ".txt")):
            text = (groundwork.root / path).read_text()
            (groundwork.root / path).write_text(f"{text}\n")
    router, schema = groundwork.root / ROUTER, groundwork.root / KERNEL
    router.write_text(router.read_text().replace('    """', '    """Now: ', 1))
    (before,) = re.findall(r'^SCHEMA_REVISION = "(\w+)"$', schema.read_text(), re.MULTILINE)
    schema.write_text(schema.read_text().replace(before, "0123456789ab"))
    revision = groundwork.root / "migrations/versions/20991231_2359_add_nicknames_0123456789ab.py"
    revision.write_text(REVISION.format(before=before))
    groundwork.prove("scripts/openapi.py")
    groundwork.commit()


def test_a_team_with_three_features_has_only_added_files(product: Copy) -> None:
    changes = product.git("diff", "--name-status", "origin/main").splitlines()

    assert len([line for line in changes if line.startswith("A")]) == 3 * 14
    assert [line for line in changes if not line.startswith("A")] == ["M\tpackages/api/openapi.json"]


def test_a_later_version_is_merged_without_a_conflict(product: Copy) -> None:
    product.git("fetch", "--quiet", "origin")

    product.git("merge", "--quiet", "--no-edit", "origin/main")

    assert product.changes() == []
    product.prove("scripts/openapi.py", "--check")
    assert len(product.prove("-m", "alembic", "heads").splitlines()) == 2


def test_its_revisions_come_after_those_of_the_team_and_both_are_needed(product: Copy) -> None:
    """As docs/how-to/upgrading.md says: databases of the team have the team's revisions already."""
    (theirs,) = product.root.glob("migrations/versions/*_0123456789ab.py")
    (head,) = [line.split()[0] for line in product.prove("-m", "alembic", "heads").splitlines() if "0123" not in line]
    theirs.write_text(re.sub(r', "\w+", None, None', f', "{head}", None, None', theirs.read_text()))

    assert product.prove("-m", "alembic", "heads").split() == ["0123456789ab", "(head)"]
    needed = product.prove("-c", "from app_db.repositories.schema import NEEDED_REVISIONS as n; print(n[0], len(n))")
    assert needed == "0123456789ab 4\n"
