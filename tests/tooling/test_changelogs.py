"""Every package has a changelog of its own, written for people from its fragments."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "db", "auth", "api", "worker")


def draft(package: Path) -> str:
    """Return the lines that the next release would add to the changelog."""
    towncrier = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    return subprocess.run(towncrier, cwd=package, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the parts of a package that a release note is made from."""
    source: Path = ROOT / "packages" / request.param
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(source / name, tmp_path)
    shutil.copytree(source / "changelog.d", tmp_path / "changelog.d")
    return tmp_path


@pytest.mark.parametrize("package", PACKAGES, indirect=True)
def test_a_fragment_becomes_a_line_of_the_next_release(package: Path) -> None:
    (package / "changelog.d" / "17.bugfix.md").write_text("A pet keeps its name.\n")

    notes = draft(package)

    assert "## 9.9.9 - " in notes
    assert re.search(r"### Bugfixes\s+- A pet keeps its name. \(#17\)", notes)


@pytest.mark.parametrize("package", PACKAGES, indirect=True)
def test_no_fragment_is_left_out_for_its_name(package: Path) -> None:
    paths = (package / "changelog.d").glob("*.md")
    fragments = [path.read_text().strip() for path in paths if ".misc." not in path.name]  # notes have only the number

    notes = " ".join(draft(package).split())

    assert [fragment for fragment in fragments if " ".join(fragment.split()) not in notes] == []


@pytest.mark.parametrize("package", PACKAGES, indirect=True)
def test_a_release_writes_its_notes_below_the_marker(package: Path) -> None:
    (package / "changelog.d" / "+one.feature.md").write_text("A pet has a name.\n")
    towncrier = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "9.9.9"]
    subprocess.run(["git", "init", "--quiet"], cwd=package, check=True)
    subprocess.run(["git", "add", "."], cwd=package, check=True)

    subprocess.run(towncrier, cwd=package, capture_output=True, check=True)

    before, after = (package / "CHANGELOG.md").read_text().split("<!-- towncrier release notes start -->")
    assert before.startswith("# Changelog of app-")
    assert "- A pet has a name." in after
