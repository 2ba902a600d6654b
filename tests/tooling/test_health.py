"""deploy/health.py asks the address on which the application listens by its settings."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HEALTH = Path(__file__).parents[2] / "deploy/health.py"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Log nothing."""


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def port() -> Iterator[int]:
    """A server on one address of loopback, which is not the usual one."""
    server = Server(("::1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def check(path: str = "/well", **environment: str | Path) -> int:
    command: list[str | Path] = [sys.executable, "-I", HEALTH, "APP_METRICS__PORT", path]
    given = {name: str(value) for name, value in environment.items()}
    return subprocess.run(command, env=given, stderr=subprocess.DEVNULL, check=False).returncode


def test_the_address_is_that_of_the_settings(port: int) -> None:
    assert check(APP_METRICS__HOST="::1", APP_METRICS__PORT=str(port)) == 0
    assert check("/ill", APP_METRICS__HOST="::1", APP_METRICS__PORT=str(port)) == 1


def test_nobody_there_is_no_health(port: int) -> None:
    assert check(APP_METRICS__HOST="", APP_METRICS__PORT=str(port)) == 1
    assert check(APP_METRICS__PORT=str(port)) == 1


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_it_reads_files_as_the_applications_do(port: int, mark: str, tmp_path: Path) -> None:
    host, secrets = tmp_path / "host", tmp_path / "secrets.env"
    host.write_text(f"{mark}::1\n")
    secrets.write_text(f"{mark}export APP_METRICS__PORT='{port}'\n# nothing\nAPP_METRICS__HOST=127.0.0.1\n")

    assert check(APP_METRICS__HOST_FILE=host, APP_METRICS__PORT="", APP_SECRETS_FILE=secrets) == 0
