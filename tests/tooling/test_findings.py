"""findings/: each is a script that can be run by itself, and `make findings` runs them all."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with only the Makefile and two findings, one of which no longer reproduces."""
    (tmp_path / "findings").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "findings/one.sh").write_text("echo one says no; exit 1\n")
    (tmp_path / "findings/two.sh").write_text("echo two is so\n")
    return tmp_path


def findings(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "findings"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_all_are_tried_and_those_that_are_so_no_more_are_named(checkout: Path) -> None:
    run = findings(checkout)

    assert run.returncode != 0
    assert "two is so" in run.stdout
    assert run.stdout.splitlines()[-1] == "No longer as described: findings/one.sh"


def test_without_any_there_is_nothing_to_do(checkout: Path) -> None:
    shutil.rmtree(checkout / "findings")

    assert findings(checkout).returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_finding_says_what_it_is_about_and_can_be_run_by_itself(script: Path) -> None:
    head = script.read_text().partition("\n\n")[0]

    assert len([line for line in head.splitlines() if line.startswith("#")]) > 3
    assert "Expected" in head
    assert "Seen:" in head
    subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_finding_needs_nothing_of_this_checkout_and_pins_what_it_installs(script: Path) -> None:
    text = script.read_text()
    from_pip = " ".join(re.findall(r"/pip\" install --quiet (.*)", text)).split()
    from_debian = " ".join(re.findall(r"apt-get download ([^>\n]*)", text)).split()

    assert not re.search(r"\bapp_(api|auth|db|worker)\b|\.\./|dirname|uv\.sh", text)
    assert from_pip or from_debian
    assert all("==" in package for package in from_pip)
    assert all("=" in package for package in from_debian)


def test_no_workflow_runs_them() -> None:
    workflows = "".join(path.read_text() for path in (ROOT / ".github/workflows").iterdir())

    assert "findings" not in workflows + (ROOT / ".ci/run").read_text()
