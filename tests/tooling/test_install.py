"""scripts/install.sh and scripts/uv.sh: the environment is this checkout's, whatever was copied or exported."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.reads import INSTALLED

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **exported: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")} | exported
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def must(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@INSTALLED
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["cp -r", "mv"])
def test_a_checkout_that_was_copied_or_moved_runs_its_own_code(how: str, tmp_path: Path) -> None:
    original, other = tmp_path / "an original", tmp_path / "it's another"
    must("git", "clone", "--quiet", ROOT, original, cwd=tmp_path)
    must("sh", "scripts/uv.sh", "sync", "--quiet", cwd=original)
    (original / ".venv/checkout").write_text(f"{original}\n")  # as install.sh does after compiling all of it
    must(*how.split(), original, other, cwd=tmp_path)
    shutil.copy(ROOT / "scripts/install.sh", other / "scripts")
    fault = other / "packages/db/src/app_db/planted.py"
    fault.write_text("import fastapi\n")

    must("env", "UV_COMPILE_BYTECODE=0", "sh", "scripts/install.sh", cwd=other)

    where = must(other / ".venv/bin/python", "-c", "import app_db; print(app_db.__file__)", cwd=other)
    assert where.startswith(str(other))
    assert must(other / ".venv/bin/alembic", "--version", cwd=other)
    broken = run(".venv/bin/python", ".venv/bin/lint-imports", "--no-cache", cwd=other)
    assert "app_db.planted -> fastapi" in broken.stdout, broken.stdout + broken.stderr


def test_an_environment_that_is_right_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/install.sh", tmp_path / "scripts")
    (tmp_path / "scripts/uv.sh").write_text("mkdir -p .venv\n")
    must("sh", "scripts/install.sh", cwd=tmp_path)
    (tmp_path / ".venv/kept").touch()

    must("sh", "scripts/install.sh", cwd=tmp_path)

    assert (tmp_path / ".venv/kept").exists()


def test_an_environment_that_is_a_mount_is_emptied_and_filled_anew(tmp_path: Path) -> None:
    """A development container mounts a volume at .venv (astral-sh/uv #16218, #14815): it cannot be removed."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/install.sh", tmp_path / "scripts")
    (tmp_path / "scripts/uv.sh").write_text("touch .venv/new\n")
    (tmp_path / ".venv").mkdir()
    alone = ("unshare", "--mount", "--map-root-user", "sh", "-euc")
    if not shutil.which("unshare") or run(*alone, "mount -t tmpfs none .venv", cwd=tmp_path).returncode:
        pytest.skip("nothing can be mounted here")
    lines = ("mount -t tmpfs none .venv", "mkdir -p .venv/bin/.old", "sh scripts/install.sh", "ls -A .venv")

    listed = must(*alone, "; ".join(lines), cwd=tmp_path)

    assert listed.split() == ["checkout", "new"]


def test_a_clone_for_windows_has_the_line_ends_that_shells_take(tmp_path: Path) -> None:
    """rust-lang/rustc_codegen_cranelift PR #1073: git for Windows clones it, and WSL runs it."""
    must("git", "-c", "core.autocrlf=true", "clone", "--quiet", ROOT, "clone", cwd=tmp_path)

    listed = must("git", "ls-files", "--eol", cwd=tmp_path / "clone").splitlines()

    assert [line for line in listed if "w/crlf" in line or "w/mixed" in line] == []


@pytest.mark.parametrize(
    "name", ["UV_PROJECT_ENVIRONMENT", "UV_NO_DEV", "UV_FROZEN", "UV_NO_EDITABLE", "UV_EXCLUDE_NEWER"]
)
def test_a_variable_that_would_decide_what_is_installed_is_named_and_does_not_count(name: str, tmp_path: Path) -> None:
    fake = tmp_path / "uv"
    fake.write_text("#!/bin/sh\nenv\n")
    fake.chmod(0o755)

    done = run("sh", ROOT / "scripts/uv.sh", cwd=tmp_path, **{name: "1", "PATH": f"{tmp_path}:{os.environ['PATH']}"})

    assert f"\n{name}=" not in done.stdout
    assert done.stderr == (
        f"{name} is set in the environment and does not count here: the checkout decides it by itself.\n"
    )


def test_uv_is_told_the_proxy_that_the_tests_do_not_see(tmp_path: Path) -> None:
    fake = tmp_path / "uv"
    fake.write_text("#!/bin/sh\nenv\n")
    fake.chmod(0o755)
    exported = {"UV_SH_HTTPS_PROXY": "http://proxy:1", "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = run("sh", ROOT / "scripts/uv.sh", cwd=tmp_path, **exported)

    assert "\nHTTPS_PROXY=http://proxy:1\n" in done.stdout
