"""scripts/public_api.py: each package lists its public API, and a breaking change needs a removal fragment."""

import subprocess
import sys
from pathlib import Path

import pytest
from members import members_of
from public_api import breakages, text_of

from tests.tooling.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def public_api(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "public_api.py", "--root", checkout, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def listed(workspace: Workspace, source: str) -> list[str]:
    """Return the listing of this source."""
    workspace.write(workspace.source("db"), source)
    return text_of(members_of(workspace.root)["db"]).splitlines()


def broken(workspace: Workspace, old: str, new: str) -> list[str]:
    """Return the breakages of a change of the source."""
    workspace.replace(workspace.source("db"), old, new)
    return breakages(members_of(workspace.root)["db"])


def test_what_has_no_underscore_is_listed_with_its_signature(workspace: Workspace) -> None:
    lines = text_of(members_of(workspace.root)["db"]).splitlines()

    assert lines == ["pet_db.LIMIT", "pet_db.feed(name: str, *, grams: int = 10) -> None"]


def test_what_features_offer_is_not_listed_and_is_not_taken_back_unsaid(workspace: Workspace) -> None:
    path = workspace.source("db").replace("__init__.py", "features/feeding.py")
    workspace.write(path.replace("feeding", "__init__"), "")
    workspace.write(path, "def feed() -> None: ...\n")
    workspace.commit()
    workspace.write("packages/db/RELEASED", f"1.4.2 {workspace.git('rev-parse', 'main')}")

    assert "features" not in text_of(members_of(workspace.root)["db"])
    (workspace.root / path).unlink()
    assert breakages(members_of(workspace.root)["db"]) == ["pet_db.features.feeding: Public object was removed"]


def test_classes_are_listed_with_their_bases_and_fields(workspace: Workspace) -> None:
    lines = listed(
        workspace, "class Pet(Animal):\n    name: str\n    _weight: int\n\n    def feed(self) -> None: ...\n"
    )

    assert lines == ["class pet_db.Pet(Animal)", "pet_db.Pet.feed() -> None", "pet_db.Pet.name: str"]


def test_what_is_imported_is_listed_only_if_it_is_meant_to_be(workspace: Workspace) -> None:
    lines = listed(workspace, 'from uuid import UUID, uuid4\n\n__all__ = ["UUID"]\n')

    assert lines == ["pet_db.UUID is uuid.UUID"]


@pytest.mark.parametrize(
    ("old", "new", "breakage"),
    [
        ("def feed(", "def nourish(", "pet_db.feed: Public object was removed"),
        ("grams: int = 10", "grams: int", "pet_db.feed(grams): Parameter is now required"),
        ("name: str, *,", "name: str, bowl: str, *,", "pet_db.feed(bowl): Parameter was added as required"),
        ("LIMIT = 5\n", "", "pet_db.LIMIT: Public object was removed"),
    ],
)
def test_a_change_that_breaks_is_named(old: str, new: str, breakage: str, workspace: Workspace) -> None:
    assert breakage in broken(workspace, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 5", "LIMIT = 6"),
        ("grams: int = 10", "grams: int = 10, bowl: str | None = None"),
        ("def _weigh(", "def _measure("),
    ],
)
def test_a_change_that_breaks_nobody_is_not_named(old: str, new: str, workspace: Workspace) -> None:
    assert broken(workspace, old, new) == []


def test_a_stale_listing_is_named_with_what_to_type(workspace: Workspace) -> None:
    public_api(workspace.root)
    workspace.replace(workspace.source("auth"), "grams: int = 10", "grams: int = 10, bowl: str | None = None")

    run = public_api(workspace.root, "--check")

    assert run.returncode == 1
    stale = "packages/auth/API.txt is not what the sources offer"
    assert run.stdout == f"{stale}: type `make public-api`, and read the diff\n"


def test_a_listing_that_was_written_is_fresh(workspace: Workspace) -> None:
    public_api(workspace.root)

    run = public_api(workspace.root, "--check")

    assert run.returncode == 0, run.stdout


def test_a_change_that_breaks_needs_a_removal_fragment(workspace: Workspace) -> None:
    workspace.replace(workspace.source("db"), "def feed(", "def nourish(")
    public_api(workspace.root)

    unsaid = public_api(workspace.root, "--check")
    workspace.fragment("db", "removal")
    said = public_api(workspace.root, "--check")

    assert (unsaid.returncode, said.returncode) == (1, 0)
    assert "  pet_db.feed: Public object was removed\n" in unsaid.stdout


def test_a_clone_without_the_last_release_compares_nothing_and_says_so(workspace: Workspace) -> None:
    for folder in ("db", "auth", "api"):
        workspace.write(f"packages/{folder}/RELEASED", f"1.4.2 {'0' * 40}\n")
    public_api(workspace.root)

    run = public_api(workspace.root, "--check")

    assert run.returncode == 0
    assert "pet-db: the clone does not go back to its last release, nothing is compared" in run.stdout


def test_a_package_that_was_never_released_takes_nothing_from_anybody(workspace: Workspace) -> None:
    first = workspace.git("rev-list", "--max-parents=0", "HEAD")
    workspace.write("packages/cats/pyproject.toml", '[project]\nname = "pet-cats"\nversion = "1.4.2"\n')
    workspace.write("packages/cats/RELEASED", f"1.4.2 {first}")
    workspace.write(workspace.source("cats"), '"""Cats."""\n')
    workspace.commit()

    assert breakages(members_of(workspace.root)["cats"]) == []


def test_a_renamed_checkout_is_compared_with_its_release_under_the_new_name(workspace: Workspace) -> None:
    rename(workspace, "pet", "app")
    workspace.write("packages/db/RELEASED", f"1.4.2 {workspace.git('rev-parse', 'HEAD')}")
    rename(workspace, "app", "acme")
    workspace.replace("packages/db/src/acme_db/__init__.py", "def feed(", "def nourish(")

    lines = breakages(members_of(workspace.root)["db"])

    assert lines == ["acme_db.feed: Public object was removed"]


def rename(workspace: Workspace, old: str, new: str) -> None:
    """Give all packages another prefix, and commit."""
    for package in (workspace.root / "packages").iterdir():
        declaration = package / "pyproject.toml"
        declaration.write_text(declaration.read_text().replace(f"{old}-", f"{new}-"))
        (package / "src" / f"{old}_{package.name}").rename(package / "src" / f"{new}_{package.name}")
    workspace.commit()
