"""`python -m app_worker`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app_db import Database
from app_db.jobs.catalog import WelcomeEmail
from app_db.settings import DatabaseSettings
from app_db.testing.plugin import MakeUser
from app_db.testing.processes import spawn, wait_until
from app_worker.main import main

from .conftest import Jobs, eventually, until


def test_the_command_line_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    assert "run jobs until SIGTERM" in capsys.readouterr().out


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.fixture
def environment(database_settings: DatabaseSettings, database: Database, valkey_url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    own = {"APP_DATABASE__URL": database_settings.url.get_secret_value(), "APP_REDIS__URL": valkey_url}
    return {**inherited, **own}


@contextmanager
def worker_process(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = spawn([sys.executable, "-m", "app_worker", "run"], env=environment, cwd=log.parent, output=output)
    try:
        assert wait_until(lambda: "worker_started" in log.read_text(), 30), log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_worker_process_ends_well_after_sigterm(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker_process(environment, log) as process:
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0, log.read_text()

    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["worker_started", "worker_stopping", "worker_stopped"]
    assert all(event["level"] == "info" and event["timestamp"].endswith("Z") for event in events)


async def test_a_second_signal_ends_a_worker_that_waits_for_its_jobs(
    environment: dict[str, str], tmp_path: Path, jobs: Jobs, make_user: MakeUser
) -> None:
    user = await make_user()
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mail_url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        with worker_process({**environment, "APP_MAIL__URL": mail_url, "APP_MAIL__TIMEOUT": "PT1H"}, log) as process:
            await jobs.enqueue(WelcomeEmail(user_id=user.id))
            await eventually(lambda: jobs.scalar("SELECT state = 'executing' FROM jobs"))
            process.send_signal(signal.SIGTERM)
            await until(lambda: "worker_stopping" in log.read_text())

            process.send_signal(signal.SIGTERM)

            assert await asyncio.to_thread(process.wait, 30) == -signal.SIGTERM


async def test_a_failed_attempt_is_logged_with_its_trace_but_without_its_values(
    environment: dict[str, str], tmp_path: Path, jobs: Jobs
) -> None:
    job_id = await jobs.enqueue()  # of a kind that a real worker does not have
    log = tmp_path / "log"
    with worker_process(environment, log):
        await eventually(lambda: jobs.scalar("SELECT count(*) FROM job_errors"))

    failed = json.loads(next(line for line in log.read_text().splitlines() if "job_attempt_failed" in line))
    assert (failed["job_id"], failed["kind"], failed["attempt"]) == (str(job_id), "test.note", 1)
    assert failed["exception"][0]["exc_type"] == "NoHandler"
    assert all("locals" not in frame for frame in failed["exception"][0]["frames"])


def test_a_worker_on_a_terminal_is_readable(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker_process({**environment, "APP_LOG__FORMAT": "console"}, log):
        assert not log.read_text().startswith("{")
