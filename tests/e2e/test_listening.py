"""API, metrics and health check mean the same addresses by one host, such as `::`."""

import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port

from .conftest import StartWorker, api_environment
from .processes import Api

HEALTH = Path(__file__).parents[2] / "deploy/health.py"


def answers(host: str, port: int, path: str) -> bool:
    connection = HTTPConnection(host, port, timeout=90)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


def health_check(variable: str, path: str, environment: dict[str, str]) -> int:
    """Run deploy/health.py as the image does, and return its exit code."""
    command: list[str | Path] = [sys.executable, "-I", HEALTH, variable, path]
    return subprocess.run(
        command, env={"PATH": os.defpath} | environment, stderr=subprocess.DEVNULL, check=False
    ).returncode


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("::", {"127.0.0.1", "::1"}),
        ("::1", {"::1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("127.0.0.1", {"127.0.0.1"}),
        ("", {"127.0.0.1"}),
    ],
)
def test_api_metrics_and_health_check_mean_the_same_by_a_host(
    host: str,
    reached: set[str],
    database_settings: DatabaseSettings,
    valkey_url: str,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    """By default asyncio's servers on `::` take no IPv4, and those of the standard library leave that to the system; an
    empty host means every address to both (docs.python.org: loop.create_server, socket).
    """
    metrics = {"APP_METRICS__ENABLED": "true", "APP_METRICS__HOST": host, "APP_METRICS__PORT": str(free_port())}
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url) | {"APP_HTTP__HOST": host}
    start_worker(**metrics)
    api = Api(env=environment, log=tmp_path / "api.log")
    http = environment | {"APP_HTTP__PORT": api.url.rpartition(":")[2]}
    try:
        for variable, path, given in (
            ("APP_HTTP__PORT", "/probe/live", http),
            ("APP_METRICS__PORT", "/health", metrics),
        ):
            assert {each for each in ("127.0.0.1", "::1") if answers(each, int(given[variable]), path)} == reached
            assert health_check(variable, path, given) == 0
    finally:
        api.stop()
