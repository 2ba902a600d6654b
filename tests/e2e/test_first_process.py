"""The first process of a container ends on SIGTERM, at any moment.

The kernel drops each signal that this process has no handler for (pid_namespaces(7)), and its imports take a second.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.processes import spawn, wait_until

from .conftest import Environment, api_environment

ROOT = Path(__file__).parents[2]
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_be_first() -> bool:
    if shutil.which(NAMESPACE[0]) is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_be_first(), reason="makes no namespace of processes here")


class First:
    """A command that is process 1 of a namespace of its own."""

    def __init__(self, *command: str, env: dict[str, str], folder: Path) -> None:
        self._log = folder / "log"
        with self._log.open("wb") as output:
            self._unshare = spawn([*NAMESPACE, *command], env=dict(os.environ) | env, cwd=ROOT, output=output)
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        assert wait_until(lambda: bool(children.read_text()), 60)
        self.pid = int(children.read_text())

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        try:
            return self._unshare.wait(60)
        except subprocess.TimeoutExpired:
            self._unshare.kill()
            self._unshare.wait()
            raise AssertionError(f"SIGTERM was lost:\n{self.output}") from None


def handles_sigterm(pid: int) -> bool:
    """Whether a program has a handler by now."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("after", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("application", [("app_api", "serve"), ("app_worker", "run")])
def test_the_first_process_of_a_container_is_stopped_whenever_it_is_told(
    application: tuple[str, ...], after: float, database_settings: DatabaseSettings, valkey_url: str,
    worker_environment: Environment, tmp_path: Path,
) -> None:  # fmt: skip
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url) | {"APP_HTTP__PORT": "0"}
    first = First(
        sys.executable, "-m", *application, folder=tmp_path,
        env=worker_environment if application[0] == "app_worker" else environment,
    )  # fmt: skip
    began = time.monotonic()
    assert wait_until(lambda: handles_sigterm(first.pid), 60)
    assert "started" not in first.output, "the handler is there long before all that is imported"
    assert wait_until(lambda: time.monotonic() - began > after, 5)

    assert first.stop() in {0, 128 + signal.SIGTERM}, first.output


async def test_a_migration_that_waits_is_ended_where_it_is_the_first_process(
    postgres_server_url: str, worker_id: str, tmp_path: Path
) -> None:
    url = await databases.recreate(postgres_server_url, f"app_{worker_id}_first_test")
    other = await asyncpg.connect(url.replace("+asyncpg", ""))
    await other.execute("SELECT pg_advisory_lock($1)", 0x67726F756E64)  # as another migration would
    first = First(sys.executable, "-m", "alembic", "upgrade", "head", env={"APP_DATABASE__URL": url}, folder=tmp_path)
    assert await asyncio.to_thread(wait_until, lambda: handles_sigterm(first.pid), 60)

    assert await asyncio.to_thread(first.stop) == 128 + signal.SIGTERM
    await other.close()


def test_python_itself_has_the_handler_in_an_image_before_any_import(tmp_path: Path) -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    command = re.search(r"RUN mkdir /first && (printf (?:.|\\\n)*?) > /first/sitecustomize\.py", recipe)
    assert command
    written = subprocess.run(["sh", "-c", command[1]], capture_output=True, text=True, check=True).stdout
    (tmp_path / "sitecustomize.py").write_text(written)

    environment = {"PYTHONPATH": str(tmp_path)}
    first = First(sys.executable, "-c", "import time; time.sleep(60)", env=environment, folder=tmp_path)
    assert wait_until(lambda: handles_sigterm(first.pid), 60)

    assert first.stop() == 128 + signal.SIGTERM
    assert recipe.count("cp /first/sitecustomize.py /code") == 2
