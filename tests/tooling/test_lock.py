"""scripts/lock.py: what images install is what a fresh resolution gives, and nobody's index is named."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("db", "auth", "api", "worker")
LOCKS = (
    "packages/api/requirements.lock",
    "packages/worker/requirements.lock",
    "deploy/requirements.lock",
    "migrations/requirements.lock",
)


def lock(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str | Path] = [sys.executable, ROOT / "scripts" / "lock.py", "--root", checkout, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the declarations and lock files of this checkout, as a clone has them: without uv.lock."""
    declarations = ["pyproject.toml", ".python-version", *(f"packages/{p}/pyproject.toml" for p in PACKAGES)]
    for path in (ROOT / name for name in [*declarations, *LOCKS]):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_a_lock_file_that_is_not_fresh_is_shown_with_what_to_type(checkout: Path) -> None:
    stale = checkout / LOCKS[0]
    stale.write_text(re.sub(r"^fastapi==\S+", "fastapi==0.1.0", stale.read_text(), flags=re.MULTILINE))

    run = lock(checkout, "--check")

    assert run.returncode == 1
    assert "-fastapi==0.1.0" in run.stdout
    assert "make lock" in run.stdout
    assert LOCKS[1] not in run.stdout


def test_checking_changes_nothing(checkout: Path) -> None:
    (checkout / LOCKS[1]).unlink()

    lock(checkout, "--check")

    assert not (checkout / LOCKS[1]).exists()
    assert not (checkout / "uv.lock").exists()


def test_what_was_locked_is_fresh(checkout: Path) -> None:
    for path in LOCKS:
        (checkout / path).unlink()
    lock(checkout)

    run = lock(checkout, "--check")

    assert run.returncode == 0, run.stdout + run.stderr


def test_what_cannot_be_resolved_is_said_by_uv(checkout: Path) -> None:
    declaration = checkout / "packages" / "db" / "pyproject.toml"
    declaration.write_text(declaration.read_text().replace('"asyncpg>=0.32,<0.33"', '"asyncpg>=99"'))

    run = lock(checkout)

    assert run.returncode == 1
    assert "asyncpg>=99" in run.stderr


def test_moving_the_date_moves_what_is_resolved(checkout: Path) -> None:
    run = lock(checkout, "--until", "2026-11-19")

    assert run.returncode == 0, run.stderr
    assert 'exclude-newer = "2026-11-19T00:00:00Z"\n' in (checkout / "pyproject.toml").read_text()
    assert lock(checkout, "--check").returncode == 0


def test_a_date_that_would_be_written_nowhere_is_refused(checkout: Path) -> None:
    declaration = checkout / "pyproject.toml"
    declaration.write_text(declaration.read_text().replace("exclude-newer", "exclude-nothing"))

    run = lock(checkout, "--until", "2026-11-19")

    assert run.returncode == 1
    assert "0 lines that start with exclude-newer" in run.stderr


@pytest.mark.parametrize("path", LOCKS)
def test_every_requirement_is_pinned_and_hashed(path: str) -> None:
    requirements = re.split(r"^(?=[a-z])", (ROOT / path).read_text(), flags=re.MULTILINE)[1:]

    assert [r for r in requirements if not re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==", r)] == []
    assert [r for r in requirements if "--hash=sha256:" not in r] == []


@pytest.mark.parametrize("path", LOCKS)
def test_no_lock_file_names_an_index_or_a_place_of_this_machine(path: str) -> None:
    lines = [line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#")]

    assert [line for line in lines if "://" in line or "file:" in line or str(ROOT) in line or line[:1] == "-"] == []


@pytest.mark.parametrize("path", LOCKS)
def test_our_own_packages_are_not_taken_from_an_index(path: str) -> None:
    assert re.findall(r"^app-\S+", (ROOT / path).read_text(), re.MULTILINE) == []
