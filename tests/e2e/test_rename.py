"""A team renames its clone: one commit, nothing of the placeholder left, and the renamed suite is green.

Each change proves that with one test of each kind of name that is read at run time: settings, the revisions of the
schema, and one way through all processes. The whole suite, types and lint are run once a night.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.reads import RENAMED

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
# The variables of a developer's shell, without those that the surrounding run of pytest added.
ENVIRONMENT: Mapping[str, str] = (
    {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APP_", "PYTEST_", "COVERAGE_", "VIRTUAL_ENV", "PYTHONPATH"))
    }
    | {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.test", "GIT_COMMITTER_NAME": "Ada"}
    | {"GIT_COMMITTER_EMAIL": "ada@example.test"}
)


READ_BY_NAME = (
    "tests/migrations/test_drift.py",
    "packages/api/tests/test_config.py",
    "tests/e2e/test_jobs.py::test_registering_sends_a_mail_in_text_and_html",
)


def run(checkout: Path, *command: str) -> str:
    """Run a command in the checkout as a developer would; a failure shows its output."""
    done = subprocess.run(command, cwd=checkout, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def run_tests(checkout: Path, *tests: str) -> None:
    """Run these tests of the checkout, in its own environment."""
    assert " passed" in run(checkout, "sh", "scripts/uv.sh", "run", "--quiet", "pytest", "-q", *tests)


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this checkout's last commit, renamed."""
    checkout = tmp_path_factory.mktemp("rename") / "acme"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    run(checkout, "python3", "scripts/rename.py", "acme")
    return checkout


def test_a_rename_is_one_commit(renamed: Path) -> None:
    assert run(renamed, "git", "log", "--format=%s", "origin/HEAD..HEAD").splitlines() == ["Rename app to acme"]
    assert run(renamed, "git", "status", "--porcelain") == ""


def test_nothing_of_the_placeholder_is_left(renamed: Path) -> None:
    placeholder = r"(^|[^A-Za-z0-9_])(app[-_](db|auth|api|worker)|APP_)"
    found = subprocess.run(
        ["git", "grep", "-nE", placeholder, "--", ".", ":!scripts/rename.py"],
        cwd=renamed,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.stdout == ""
    assert [path for path in run(renamed, "git", "ls-files").splitlines() if "app_" in path] == []


@pytest.mark.slow
def test_the_renamed_checkout_is_formatted_typed_and_linted(renamed: Path) -> None:
    for command in (["ruff", "format", "--check"], ["ruff", "check"], ["mypy"], ["lint-imports", "--no-cache"]):
        run(renamed, "sh", "scripts/uv.sh", "run", "--quiet", *command)


@RENAMED
def test_what_is_read_by_name_is_found_in_the_renamed_checkout(renamed: Path) -> None:
    run_tests(renamed, *READ_BY_NAME)


@pytest.mark.slow
def test_the_renamed_suite_is_green(renamed: Path) -> None:
    run_tests(renamed, "-n2", "packages", "tests/architecture", "tests/migrations")
