"""The wheels stand alone: each is installed into an empty environment, imported, and finds all that it needs.

Inside the workspace uv ignores the version bounds between the members and finds every module in the checkout; only a
wheel shows what was forgotten.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = ("sh", ROOT / "scripts" / "uv.sh")
PACKAGES = ("runtime", "db", "auth", "api", "worker")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COVERAGE_", "APP_"))}

NEEDS = {"api": ("runtime", "db", "auth"), "worker": ("runtime", "db", "auth")}

ENTRY = {
    "runtime": "import app_runtime.configuration, app_runtime.valkey",
    "db": "from app_db.models import User",
    "auth": "import app_auth.accounts",
    "api": "from app_api.main import build",
    "worker": "import app_worker.main, app_worker.handlers",
}


def uv(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*UV, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def must(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def wheel_of(wheels: Path, package: str) -> Path:
    return next(wheels.glob(f"app_{package}-*.whl"))


def contents_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def exclude_newer() -> str:
    """The date up to which releases are taken, as everywhere in the checkout."""
    found = re.search(r'^exclude-newer = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of all packages, built as a release builds them: without the workspace."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in PACKAGES:
        must(uv("build", "--quiet", "--wheel", "--no-sources", "--out-dir", folder, f"packages/{package}", cwd=ROOT))
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Path]:
    """The Python of an empty environment."""
    must(uv("venv", "--quiet", "--python", sys.executable, "environment", cwd=tmp_path))
    yield tmp_path / "environment" / "bin" / "python"
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_installs_alone_into_an_empty_environment(
    package: str, wheels: Path, python: Path, exclude_newer: str
) -> None:
    options = ("--quiet", "--python", python, "--find-links", wheels, "--exclude-newer", exclude_newer)
    must(uv("pip", "install", *options, wheel_of(wheels, package), cwd=python.parent))

    must(uv("pip", "check", "--python", python, cwd=python.parent))
    run = subprocess.run(
        [python, "-I", "-W", "error", "-c", ENTRY[package]], cwd=python.parent, env=ENVIRONMENT, check=False
    )
    assert run.returncode == 0


@pytest.mark.parametrize("package", ["api", "worker"])
def test_an_image_needs_no_more_than_its_lock_file_and_our_wheels(package: str, wheels: Path, python: Path) -> None:
    lock = ROOT / "packages" / package / "requirements.lock"
    members = [wheel_of(wheels, each) for each in (*NEEDS[package], package)]

    must(uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock, cwd=python.parent))
    must(uv("pip", "install", "--quiet", "--python", python, "--no-deps", *members, cwd=python.parent))

    must(uv("pip", "check", "--python", python, cwd=python.parent))


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_in_the_sources_is_in_the_wheel(package: str, wheels: Path) -> None:
    sources = ROOT / "packages" / package / "src"
    expected = {
        path.relative_to(sources).as_posix()
        for path in sources.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }

    packed = contents_of(wheel_of(wheels, package))

    assert expected <= packed
    assert f"app_{package}/py.typed" in packed


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_but_the_sources_is_in_the_wheel(package: str, wheels: Path) -> None:
    folders = {name.split("/")[0] for name in contents_of(wheel_of(wheels, package))}

    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {f"app_{package}"}


@pytest.mark.parametrize(("package", "member"), [(p, member) for p, members in NEEDS.items() for member in members])
def test_a_member_of_the_next_minor_version_is_refused(
    package: str, member: str, wheels: Path, python: Path, tmp_path: Path, exclude_newer: str
) -> None:
    major, minor, *_ = wheel_of(wheels, member).name.split("-")[1].split(".")
    later = fake_wheel(tmp_path, f"app_{member}", version=f"{major}.{int(minor) + 1}.0")

    options = ("--dry-run", "--python", python, "--find-links", wheels, "--exclude-newer", exclude_newer)
    run = uv("pip", "install", *options, wheel_of(wheels, package), later, cwd=tmp_path)

    refusal = " ".join(run.stderr.split())
    assert run.returncode != 0
    assert "No solution found" in refusal
    assert re.search(rf"app-{package}==\S+ (depends on|requires) app-{member}\b|you require app-{package}", refusal)
    assert f"app-{member}>=" in refusal


def fake_wheel(folder: Path, name: str, *, version: str) -> Path:
    """Write an empty wheel of this name and version."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return wheel
