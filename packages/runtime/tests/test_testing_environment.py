"""Tests and `make dev` take no variable from the shell that was exported for another program."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app_runtime.testing.environment import for_tests, let_through

pytestmark = pytest.mark.integration

# PostgreSQL 18, 32.15: libpq obeys these; asyncpg 0.32 most of them (connect_utils.py). Then curl, requests and httpx
# (proxies), uvicorn, pytest, rich and click (colours), git (a hook exports GIT_DIR), GNU make, OpenTelemetry, glibc.
FOREIGN = {
    "PGSERVICE": "prod", "PGSSLMODE": "require", "PGPORT": "1", "PGHOST": "prod", "PGOPTIONS": "-c x=1",
    "PGTARGETSESSIONATTRS": "standby", "HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "WEB_CONCURRENCY": "4",
    "FORWARDED_ALLOW_IPS": "*", "GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere", "MAKEFLAGS": "n",
    "TZ": "Asia/Tokyo",    "OTEL_SDK_DISABLED": "true", "PYTHONPATH": "/nowhere", "RUFF_OUTPUT_FORMAT": "json",
    "LC_ALL": "de_DE.UTF-8", "APP_ENV": "production", "COLUMNS": "20",
}  # fmt: skip
TEST = """
import os

def test_what_is_seen():
    assert [name for name in %r if name in os.environ] == []
    assert os.environ["OURS_ALONE"] == "1"
    assert os.environ["LANG"] == "C.UTF-8"
"""


CTRL_C = """
import signal

def test_it_is_heard():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@pytest.mark.timeout(400)  # a run of tests by itself
def test_what_a_shell_exports_for_others_does_not_reach_the_tests(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "test_it.py").write_text(TEST % (list(FOREIGN),))

    root = pytestconfig.rootpath

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", "-o", "let_through=OURS_ALONE",
         "--rootdir", root, "-c", root / "pyproject.toml", tmp_path],
        env={**os.environ, **FOREIGN, "OURS_ALONE": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(400)  # a run of tests by itself
def test_programs_of_a_test_hear_ctrl_c(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A shell without job control starts background commands with SIGINT ignored (POSIX, 2.11)."""
    (tmp_path / "test_it.py").write_text(CTRL_C)
    root = pytestconfig.rootpath
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
             "--rootdir", root, "-c", root / "pyproject.toml",
             tmp_path],
            cwd=root, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", ["PATH", "HOME", "TMPDIR", "LC_TIME", "UV_CACHE_DIR", "DOCKER_HOST", "SSL_CERT_FILE"])
def test_what_says_where_things_are_on_this_machine_is_let_through(name: str) -> None:
    assert let_through({name: "/somewhere", "OTHER": "1"}) == {name: "/somewhere"}


def test_a_proxy_is_kept_for_uv_which_may_need_it_to_reach_an_index() -> None:
    taken = let_through({"https_proxy": "http://proxy:1", "HTTPS_PROXY": "http://other:1", "NO_PROXY": "intern"})

    assert taken == {"UV_SH_HTTPS_PROXY": "http://proxy:1", "UV_SH_NO_PROXY": "intern"}


def test_tests_see_the_servers_that_they_are_given_and_no_other_setting() -> None:
    given = {"APP_DATABASE__URL": "postgresql://", "APP_PG_BIN": "/pg", "APP_ENV": "production", "LC_ALL": "de_DE"}

    assert for_tests(given) == {"APP_DATABASE__URL": "postgresql://", "APP_PG_BIN": "/pg", "LANG": "C.UTF-8"}
