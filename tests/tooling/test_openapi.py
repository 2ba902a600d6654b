"""scripts/openapi.py: the description of the API is committed, and a check of it gives its reason before the diff."""

import subprocess
import sys
from pathlib import Path

import openapi
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a fresh description and nothing else."""
    (tmp_path / openapi.FILE).parent.mkdir(parents=True)
    assert run(tmp_path).returncode == 0
    return tmp_path


def run(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, ROOT / "scripts/openapi.py", "--root", checkout, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_fresh_description_is_accepted_and_is_the_same_each_time(checkout: Path) -> None:
    check = run(checkout, "--check")

    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_a_change_of_the_api_is_named_in_one_line_before_the_diff(checkout: Path) -> None:
    path = checkout / openapi.FILE
    path.write_text(path.read_text().replace("jobs_cancel", "cancel_a_job"))

    check = run(checkout, "--check")

    reason, blank, *diff = check.stdout.splitlines()
    assert check.returncode == 1
    assert reason == f"{openapi.FILE} is not what the API says of itself: type `make openapi`, and read the diff"
    assert blank == ""
    assert '-        "operationId": "cancel_a_job",' in diff
    assert '+        "operationId": "jobs_cancel",' in diff


def test_a_file_that_is_missing_is_asked_for_in_few_lines(checkout: Path) -> None:
    (checkout / openapi.FILE).unlink()

    check = run(checkout, "--check")

    assert check.returncode == 1
    assert len(check.stdout.splitlines()) == openapi.LONGEST_DIFF + 3
    assert check.stdout.splitlines()[-1].endswith(" more lines")


def test_a_release_changes_nothing_in_it() -> None:
    assert '"version": "0"\n' in (ROOT / openapi.FILE).read_text()
    assert '"version": "0"\n' not in openapi.document()
