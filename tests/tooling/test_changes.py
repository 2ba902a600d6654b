"""A change runs the long tests that are about what it touches; if git cannot tell what that is, it runs all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from changes import changed_paths, concerns

from tests import reads

ROOT = Path(__file__).parents[2]
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.test")
LONG = """
import pytest

@pytest.mark.reads("docs/*.md")
def test_of_pages():
    pass

@pytest.mark.reads("src/**")
def test_of_sources():
    pass

def test_of_everything():
    pass
"""


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the selection of this one, and with a test of its own; its branch is called main."""
    for name in ("conftest.py", "scripts/changes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = scripts\nmarkers =\n    reads: x\n    measured: x\n")
    (tmp_path / "test_long.py").write_text(LONG)
    for name in ("docs/page.md", "src/deep/module.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "All")
    return tmp_path


def chosen(checkout: Path, *options: str) -> set[str]:
    """Return the tests that pytest would run."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    return {line.partition("::")[2] for line in run.stdout.splitlines() if "::" in line}


ALL = {"test_of_pages", "test_of_sources", "test_of_everything"}


def test_without_a_base_everything_runs(checkout: Path) -> None:
    assert chosen(checkout) == ALL


def test_a_long_test_runs_if_what_it_is_about_has_changed(checkout: Path) -> None:
    assert chosen(checkout, "--changed", "main") == {"test_of_everything"}

    (checkout / "src/deep/module.py").write_text("x = 1\n")

    assert chosen(checkout, "--changed", "main") == ALL - {"test_of_pages"}


@pytest.mark.parametrize("path", ["test_long.py", "packages/leaf/pyproject.toml", "tests/e2e/conftest.py"])
def test_a_change_of_the_test_of_fixtures_or_of_versions_runs_all(checkout: Path, path: str) -> None:
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text(LONG if path == "test_long.py" else "")
    with (checkout / path).open("a") as file:
        file.write("\n")

    assert chosen(checkout, "--changed", "main") == ALL


@pytest.mark.parametrize("base", ["gone", "0" * 40])
def test_against_a_base_that_git_does_not_know_everything_runs(checkout: Path, base: str) -> None:
    assert chosen(checkout, "--changed", base) == ALL


def test_where_there_is_no_git_everything_runs(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")

    assert changed_paths(checkout, "main") is None


def test_a_change_is_what_is_committed_edited_removed_and_new_since_the_branch_left(checkout: Path) -> None:
    git(checkout, "switch", "--quiet", "--create", "branch")
    (checkout / "committed.py").write_text("")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "One")
    (checkout / "src/deep/module.py").unlink()
    (checkout / "docs/page.md").write_text("edited\n")
    (checkout / "docs/new ü.md").write_text("")

    assert changed_paths(checkout, "main") == ["committed.py", "docs/new ü.md", "docs/page.md", "src/deep/module.py"]


@pytest.mark.parametrize(
    ("pattern", "path", "does"),
    [
        ("docs/**", "docs/a/b.md", True),
        ("docs/*", "docs/a/b.md", False),
        ("docs/*", "docs/b.md", True),
        ("src/**/main.py", "src/main.py", True),
        ("docs/**", "packages/docs/b.md", False),
    ],
)
def test_a_pattern_concerns_whole_paths(pattern: str, path: str, *, does: bool) -> None:
    assert concerns([pattern], [path]) is does


@pytest.mark.parametrize("name", [name for name in vars(reads) if name.isupper() and not name.startswith("_")])
def test_each_pattern_is_about_a_file_that_is_there(name: str) -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    for pattern in getattr(reads, name).args:
        assert concerns([pattern], files.split("\0")), f"{name}: {pattern}"
