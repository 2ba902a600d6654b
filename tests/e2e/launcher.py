"""`make dev` in a copy of the checkout, and the commands that are typed beside it."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app_runtime.testing.processes import wait_until
from app_runtime.testing.servers import PostgresServer

ROOT = Path(__file__).parents[2]


class Launcher:
    """A running `scripts/dev.py up`; its output is collected line by line."""

    def __init__(self, checkout: Path, *arguments: str, port: int, **environment: str) -> None:
        self.port = port
        self.lines: list[str] = []
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("APP_")}
        self.process = subprocess.Popen(
            [sys.executable, checkout / "scripts/dev.py", "up", *arguments],
            env={**inherited, "APP_HTTP__PORT": str(port), "APP_AUTH__BCRYPT_ROUNDS": "4", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stdout
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def expect_start(self) -> None:
        self.expect("Groundwork answers")
        self.expect("worker_started")  # either may be the first

    def expect(self, pattern: str, seconds: float = 90) -> None:
        found = wait_until(lambda: bool(re.search(pattern, self.output)), seconds)
        assert found, f"{pattern!r} is not in:\n{self.output}"

    def wait(self) -> int:
        code = self.process.wait(timeout=90)
        self._reader.join(timeout=30)
        return code

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.wait()

    def post(self, path: str, body: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status


@contextmanager
def copied_for_dev(copy: Path) -> Iterator[Path]:
    """Copy what `make dev` needs for the time of the block; the data of its servers goes at the end."""
    for folder in ("scripts", "migrations", "packages"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    yield copy
    PostgresServer(copy / ".data/postgres").erase()


def run_beside(checkout: Path, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of scripts/dev.py, and type something into it."""
    ask = [sys.executable, str(checkout / "scripts/dev.py"), *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("APP_")}
    return subprocess.run(ask, env=environment, input=typed, capture_output=True, text=True, check=False)
