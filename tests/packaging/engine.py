"""A Docker engine, if there is one, used through its command-line programs."""

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICK = 10.0
"""Seconds within which a running engine answers."""


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command in the checkout and return all that it prints; one that fails, fails the test."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-5000:]}"
    return done.stdout


def docker(*arguments: str | Path) -> str:
    """Run `docker …` and return what it prints."""
    return run("docker", *arguments).strip()


@cache
def why_no_engine() -> str:
    """Return why there is no engine to be used, or nothing."""
    if shutil.which("docker") is None:
        return "there is no `docker` on this machine"
    try:
        asked = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            timeout=QUICK,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    return "" if asked.returncode == 0 else f"no Docker engine answers: {asked.stderr.strip()}"


def require_engine() -> None:
    """Skip the test where no engine answers."""
    if reason := why_no_engine():
        pytest.skip(reason)


@cache
def compose() -> tuple[str, ...]:
    """Return how Compose is called here: v2, or docker-compose 1.29; skips where it is neither."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            return command
    pytest.skip("there is no Compose on this machine")
