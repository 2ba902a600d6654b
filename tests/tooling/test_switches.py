"""`[tool.groundwork]` of pyproject.toml: a check that is turned off asks for nothing, and says that it is off."""

import subprocess
import sys
from pathlib import Path

import pytest
from release import plan
from switches import SWITCHES, SwitchError, is_on

from tests.tooling.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace on a branch with a breaking change that no listing and no fragment mentions."""
    workspace = Workspace(tmp_path)
    workspace.git("switch", "--quiet", "--create", "change")
    workspace.replace(workspace.source("db"), "grams: int = 10", "kilograms: int = 10")
    return workspace


def turn_off(workspace: Workspace, *names: str) -> None:
    """Turn these off, and commit."""
    lines = "".join(f"{name} = false\n" for name in names)
    workspace.write("pyproject.toml", f"[tool.groundwork]\n{lines}")
    workspace.commit()


def run(workspace: Workspace, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / script, "--root", workspace.root, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CHECKS = [("fragments", ["fragments.py", "main"]), ("public_api", ["public_api.py", "--check"])]


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_what_is_turned_off_is_not_looked_for(workspace: Workspace, name: str, check: list[str]) -> None:
    assert run(workspace, *check).returncode == 1

    turn_off(workspace, name)

    answer = run(workspace, *check)
    assert (answer.returncode, answer.stdout) == (
        0,
        f"{name} is off in pyproject.toml, [tool.groundwork]: nothing is looked for.\n",
    )


def test_guards_that_are_turned_off_are_not_tried(workspace: Workspace) -> None:
    workspace.replace(workspace.source("db"), "LIMIT = 5", "LIMIT = 5  # guard: test_that_is_gone")
    assert "test_that_is_gone: 0 tests of this name" in run(workspace, "guards.py").stderr

    turn_off(workspace, "guards")

    answer = run(workspace, "guards.py")
    assert answer.returncode == 0
    assert answer.stdout.startswith("guards is off in pyproject.toml")


def test_without_fragments_a_release_needs_none(workspace: Workspace) -> None:
    turn_off(workspace, "fragments")

    assert str(plan(workspace.root, "db", "patch")).startswith("pet-db 1.4.2 -> 1.4.3")


def test_without_a_public_api_a_release_needs_no_removal(workspace: Workspace) -> None:
    workspace.fragment("db", "bugfix")
    turn_off(workspace, "public_api")

    assert str(plan(workspace.root, "db", "patch")).startswith("pet-db 1.4.2 -> 1.4.3")


def test_without_fragments_nothing_has_to_be_announced_but_listings_are_compared(workspace: Workspace) -> None:
    turn_off(workspace, "fragments")

    answer = run(workspace, "public_api.py", "--check")

    assert answer.returncode == 1
    assert "breaks what its last release offered" not in answer.stdout
    assert "packages/db/API.txt is not what the sources offer" in answer.stdout


@pytest.mark.parametrize("line", ["guard = false", 'guards = "no"', "guards = 0"])
@pytest.mark.parametrize("script", [["fragments.py", "main"], ["public_api.py", "--check"], ["guards.py"]])
def test_a_setting_that_is_none_is_named_with_those_that_are(
    workspace: Workspace, line: str, script: list[str]
) -> None:
    workspace.write("pyproject.toml", f"[tool.groundwork]\n{line}\n")

    answer = run(workspace, *script)

    assert answer.returncode == 1
    (complaint,) = (answer.stdout + answer.stderr).splitlines()
    assert complaint.startswith(
        f"pyproject.toml: [tool.groundwork] {line.split(maxsplit=1)[0]} is none of fragments, public_api,"
    )


def test_what_is_not_mentioned_is_on(tmp_path: Path) -> None:
    assert all(is_on(tmp_path, name) for name in SWITCHES)
    (tmp_path / "pyproject.toml").write_text("[tool.groundwork]\nguards = 1\n")
    with pytest.raises(SwitchError):
        is_on(tmp_path, "fragments")


def test_what_is_lost_is_said_for_each() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()

    assert [name for name in SWITCHES if f"| `{name}` |" not in page] == []
