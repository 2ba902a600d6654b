"""scripts/fragments.py: a change of a package comes with a line for its users."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tooling.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace on its own branch."""
    workspace = Workspace(tmp_path)
    workspace.fragment("auth")
    workspace.git("switch", "--quiet", "--create", "change")
    return workspace


def fragments(workspace: Workspace, base: str = "main") -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "fragments.py", "--root", workspace.root, base]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_package_whose_sources_changed_without_a_fragment_is_named(workspace: Workspace) -> None:
    workspace.replace(workspace.source("db"), "LIMIT = 5", "LIMIT = 6")

    run = fragments(workspace)

    assert run.returncode == 1
    assert [line.partition(" ")[0] for line in run.stdout.splitlines()] == ["pet-db"]
    assert "packages/db/changelog.d/" in run.stdout


def test_a_package_whose_dependencies_changed_without_a_fragment_is_named(workspace: Workspace) -> None:
    workspace.replace("packages/auth/pyproject.toml", "pet-db>=1.4,<2", "pet-db>=1.4,<3")

    assert fragments(workspace).stdout.startswith("pet-auth ")


def test_a_fragment_speaks_for_a_change(workspace: Workspace) -> None:
    workspace.replace(workspace.source("db"), "LIMIT = 5", "LIMIT = 6")
    workspace.fragment("db", "misc")

    assert fragments(workspace).returncode == 0


def test_a_fragment_of_a_misspelt_kind_is_named(workspace: Workspace) -> None:
    workspace.replace(workspace.source("db"), "LIMIT = 5", "LIMIT = 6")
    workspace.fragment("db", "featrue")

    run = fragments(workspace)

    assert run.returncode == 1
    assert run.stdout.startswith("packages/db/changelog.d/+featrue.featrue.md has no kind")


def test_a_fragment_that_was_there_before_speaks_for_no_later_change(workspace: Workspace) -> None:
    workspace.replace(workspace.source("auth"), "LIMIT = 5", "LIMIT = 6")

    assert fragments(workspace).stdout.startswith("pet-auth ")


def test_taking_a_fragment_away_says_nothing(workspace: Workspace) -> None:
    workspace.replace(workspace.source("auth"), "LIMIT = 5", "LIMIT = 6")
    (workspace.root / "packages/auth/changelog.d/+feature.feature.md").unlink()
    workspace.commit()

    assert fragments(workspace).stdout.startswith("pet-auth ")


def test_a_release_speaks_for_what_it_has_collected(workspace: Workspace) -> None:
    workspace.replace(workspace.source("auth"), "LIMIT = 5", "LIMIT = 6")
    (workspace.root / "packages/auth/changelog.d/+feature.feature.md").unlink()
    workspace.write("packages/auth/CHANGELOG.md", "A pet has a name.\n")
    workspace.commit()

    assert fragments(workspace).returncode == 0


def test_tests_and_pages_need_no_fragment(workspace: Workspace) -> None:
    workspace.write("packages/db/tests/test_pets.py", "")
    workspace.write("packages/db/README.md", "Pets")
    workspace.commit()

    assert fragments(workspace).returncode == 0


def test_what_others_merged_meanwhile_is_not_asked_of_a_branch(workspace: Workspace) -> None:
    workspace.git("switch", "--quiet", "main")
    workspace.replace(workspace.source("db"), "LIMIT = 5", "LIMIT = 6")
    workspace.git("switch", "--quiet", "change")

    assert fragments(workspace).returncode == 0


def test_a_base_that_is_not_there_is_said_by_git(workspace: Workspace) -> None:
    run = fragments(workspace, "nowhere")

    assert run.returncode == 1
    assert "nowhere" in run.stderr
