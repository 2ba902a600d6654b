"""scripts/lock.py: the lock files satisfy the declarations, change only on request, and name no index.

`make check` once failed in a fresh clone, because an index showed a release that it had not shown before. So no test
here compares a committed file with an index.
"""

import difflib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import pytest

from tests.reads import LOCKED

pytestmark = LOCKED

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "db", "auth", "api", "worker")
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


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the index and the cache unreachable for every uv that the test starts."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("UV_NO_CACHE", "1")


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace a pattern that a file has to hold."""
    text, found = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert found
    path.write_text(text)


def without(checkout: Path, path: str, name: str) -> None:
    """Take a package out of a lock file, with its hashes and notes."""
    edit(checkout / path, rf"^{name}==.*\n(?: .*\n)+", "")


@pytest.mark.usefixtures("unreachable")
def test_what_is_committed_is_checked_without_an_index(checkout: Path) -> None:
    """uv's exclude-newer compares times of upload, so the next index may show more than the last one did."""
    run = lock(checkout, "--check")

    assert run.returncode == 0, run.stdout + run.stderr
    assert not (checkout / "uv.lock").exists()


@pytest.mark.parametrize(
    ("path", "pattern", "replacement", "reason"),
    [
        (
            LOCKS[0],
            r"^fastapi==\S+",
            "fastapi==0.1.0",
            f"{LOCKS[0]} pins fastapi==0.1.0: packages/api/pyproject.toml declares fastapi<0.166,>=0.165",
        ),
        (
            "packages/db/pyproject.toml",
            r'"asyncpg>=0.32,<0.33"',
            '"asyncpg>=0.32,<0.33", "wcwidth>=0.2"',
            f"{LOCKS[0]} does not pin wcwidth: packages/db/pyproject.toml declares wcwidth>=0.2",
        ),
        (
            "packages/db/pyproject.toml",
            r'"alembic>=1.20,<2"',
            '"alembic>=99"',
            "migrations/requirements.lock pins alembic==1.20.1: packages/db/pyproject.toml declares alembic>=99",
        ),
        (
            "packages/db/pyproject.toml",
            r'  "cronsim.*\n',
            "",
            f"{LOCKS[0]} pins cronsim: nothing that is declared needs it",
        ),
        (
            LOCKS[1],
            r"^pydantic==\S+",
            "pydantic==2.14.0",
            f"{LOCKS[0]} pins pydantic==2.14.3, and {LOCKS[1]} pins pydantic==2.14.0",
        ),
        (LOCKS[1], r"^idna==(\S+) \\\n.*\n", r"idna==\1 \\\n", f"{LOCKS[0]} and {LOCKS[1]} pin the same idna with "),
        (LOCKS[1], r"^arq==(\S+) \\\n.*\n.*\n", r"arq==\1\n", f"{LOCKS[1]} has no hash for arq"),
        (LOCKS[2], r"^uv==", "<<<<<<< ours\nuv==", f"{LOCKS[2]}, line 3 is not a pinned version: <<<<<<< ours"),
        (
            LOCKS[0],
            r"^uvloop==(\S+) ; sys_platform != 'win32'",
            r"uvloop==\1 ; sys_platform == 'darwin'",
            f"{LOCKS[0]} does not pin uvloop for linux: packages/api/pyproject.toml declares uvloop",
        ),
    ],
)
@pytest.mark.usefixtures("unreachable")
def test_what_is_wrong_with_a_lock_file_is_said_in_one_line(
    path: str, pattern: str, replacement: str, reason: str, checkout: Path
) -> None:
    pinned = re.search(r"^pydantic==(\S+)", (checkout / LOCKS[0]).read_text(), re.MULTILINE)
    assert pinned
    edit(checkout / path, pattern, replacement)

    run = lock(checkout, "--check")

    assert run.returncode == 1
    assert run.stdout.splitlines()[0].startswith(reason.replace("2.14.3", pinned[1])), run.stdout
    assert run.stdout.splitlines()[-1] == "Type `make lock`, and commit what it writes."


@pytest.mark.parametrize(
    ("path", "name", "reason"),
    [
        (LOCKS[0], "anyio", f"{LOCKS[0]} pins idna for anyio, which it does not pin"),
        (LOCKS[0], "h11", rf"{LOCKS[0]} does not pin h11: uvicorn==\S+ needs h11"),
        (LOCKS[1], "tzdata", f"{LOCKS[1]} does not pin tzdata: packages/db/pyproject.toml declares tzdata"),
    ],
)
@pytest.mark.usefixtures("unreachable")
def test_a_package_that_a_merge_has_lost_is_named(path: str, name: str, reason: str, checkout: Path) -> None:
    without(checkout, path, name)

    run = lock(checkout, "--check")

    assert run.returncode == 1
    assert re.search(reason, run.stdout), run.stdout


@pytest.mark.usefixtures("unreachable")
def test_the_order_of_hashes_says_nothing(checkout: Path) -> None:
    edit(checkout / LOCKS[1], r"^arq==(\S+) \\\n(.*) \\\n(.*)\n", r"arq==\1 \\\n\3 \\\n\2\n")

    assert lock(checkout, "--check").returncode == 0


@pytest.mark.usefixtures("unreachable")
def test_checking_changes_nothing(checkout: Path) -> None:
    (checkout / LOCKS[1]).unlink()

    run = lock(checkout, "--check")

    assert run.stdout.startswith(f"{LOCKS[1]} is missing\n")
    assert not (checkout / LOCKS[1]).exists()
    assert not (checkout / "uv.lock").exists()


def test_what_is_locked_anew_passes_the_check(checkout: Path) -> None:
    for path in LOCKS:
        (checkout / path).unlink()
    lock(checkout)

    run = lock(checkout, "--check")

    assert run.returncode == 0, run.stdout + run.stderr


def test_one_new_dependency_moves_nothing_else(checkout: Path) -> None:
    """Later versions, another order of hashes and another set of files on the index change nothing."""
    for path in (*LOCKS[:2], LOCKS[3]):
        edit(checkout / path, r"^markupsafe==\S+", "markupsafe==3.0.3")
    for path in LOCKS[:2]:
        edit(checkout / path, r"^certifi==(\S+) \\\n(.*) \\\n(.*)\n", r"certifi==\1 \\\n\3\n")
    before = {path: (checkout / path).read_text().splitlines() for path in LOCKS}
    edit(checkout / "packages/db/pyproject.toml", r'"asyncpg>', '"iniconfig>=2", "asyncpg>')

    run = lock(checkout)

    assert run.returncode == 0, run.stderr
    for path, lines in before.items():
        after = (checkout / path).read_text().splitlines()
        changed = [line for line in difflib.ndiff(lines, after) if line[0] in "+-" and "--hash" not in line]
        assert [re.sub(r"==\S+", "", line) for line in changed] == (
            [] if path.startswith("deploy") else ["+ iniconfig \\", "+     # via app-db"]
        )
        if path in LOCKS[:2]:
            assert hashes_of(after, "certifi") == hashes_of(lines, "certifi")


def hashes_of(lines: list[str], name: str) -> list[str]:
    """Return the hash lines of a package."""
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{name}=="))
    return [line for line in takewhile(lambda line: line[:1] == " ", lines[start + 1 :]) if "--hash" in line]


def test_a_uv_lock_that_is_there_keeps_the_versions_of_the_tools(checkout: Path) -> None:
    lock(checkout)
    uv_lock = checkout / "uv.lock"
    edit(uv_lock, r'^(name = "ruff"\nversion = ).*', r'\1"0.17.0"')

    run = lock(checkout)

    assert run.returncode == 0, run.stderr
    assert 'name = "ruff"\nversion = "0.17.0"' in uv_lock.read_text()


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
