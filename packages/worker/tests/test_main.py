"""`python -m app_worker`."""

import asyncio
import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from app_db import Database, open_database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.models import JobState
from app_db.repositories.jobs import JobRepository
from app_db.settings import DatabaseSettings
from app_db.testing.databases import AppRole
from app_db.testing.plugin import MakeUser
from app_db.types import new_id
from app_runtime.discovery import feature_folders
from app_runtime.testing.processes import spawn, wait_until
from app_runtime.testing.servers import ValkeyServer
from app_worker.delivery_queue import Valkey
from app_worker.main import check_role, main

from .conftest import Jobs, eventually, until

pytestmark = [pytest.mark.integration, pytest.mark.measured]


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


def key_ring() -> str:
    return json.dumps([{"kid": "1", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}])


PRODUCTION = {
    "APP_ENV": "production",
    "APP_MAIL__URL": "smtp://127.0.0.1:1",
    "APP_PUBLIC_BASE_URL": "https://app.example.test",
}


@pytest.fixture
def environment(
    database_settings: DatabaseSettings, database: Database, valkey_url: str, valkey: Valkey
) -> dict[str, str]:
    """The variables of a worker of this test; `valkey` empties Valkey of deliveries of earlier tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    own = {
        "APP_ENV": "test",
        "APP_DATABASE__URL": database_settings.url.get_secret_value(),
        "APP_REDIS__URL": valkey_url,
    }
    return {**inherited, **own, "APP_AUTH__TOKEN_KEYS": key_ring()}


@contextmanager
def worker_process(
    environment: dict[str, str], log: Path, *options: str, module: str = "app_worker"
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        command = [sys.executable, "-m", module, "run", *options]
        process = spawn(command, env=environment, cwd=log.parent, output=output)
    try:
        assert wait_until(lambda: "worker_started" in log.read_text(), 90), log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_worker_process_ends_well_after_sigterm(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker_process(environment, log) as process:
        process.send_signal(signal.SIGTERM)

        assert process.wait(90) == 0, log.read_text()

    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["worker_started", "worker_stopping", "worker_stopped"]
    assert all(event["level"] == "info" and event["timestamp"].endswith("Z") for event in events)


def test_a_thread_of_a_handler_does_not_keep_the_worker(environment: dict[str, str], tmp_path: Path) -> None:
    """CPython joins every thread at its end, and asyncio those of `asyncio.to_thread`, for up to five minutes."""
    line = "import threading, time; threading.Thread(target=time.sleep, args=(90,), name='busy').start()\n"
    (tmp_path / "busy_worker.py").write_text(f"{line}from app_worker.main import main\nmain()\n")
    log = tmp_path / "log"
    with worker_process(environment, log, module="busy_worker") as process:
        process.send_signal(signal.SIGTERM)

        assert process.wait(90) == 0, log.read_text()

    assert json.loads(log.read_text().splitlines()[-1])["threads"] == ["busy"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_a_worker_that_waits_for_its_jobs(
    environment: dict[str, str], tmp_path: Path, jobs: Jobs, make_user: MakeUser, number: signal.Signals
) -> None:
    """The system ends the process, not an exception that a handler could catch."""
    user = await make_user()
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mail_url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        with worker_process({**environment, "APP_MAIL__URL": mail_url, "APP_MAIL__TIMEOUT": "PT1H"}, log) as process:
            await jobs.enqueue(WelcomeEmail(user_id=user.id))
            await eventually(lambda: jobs.scalar("SELECT state = 'executing' FROM jobs"))
            process.send_signal(number)
            await until(lambda: "worker_stopping" in log.read_text())

            process.send_signal(number)

            assert await asyncio.to_thread(process.wait, 90) == -number


async def test_a_failed_attempt_is_logged_with_its_trace_but_without_its_values(
    environment: dict[str, str], tmp_path: Path, jobs: Jobs
) -> None:
    job_id = await jobs.enqueue()  # of a kind that a real worker does not have
    log = tmp_path / "log"
    with worker_process(environment, log):
        await until(lambda: "job_ended" in log.read_text())

    failed = json.loads(next(line for line in log.read_text().splitlines() if "job_ended" in line))
    assert (failed["job_id"], failed["kind"], failed["attempt"]) == (str(job_id), "test.note", 1)
    assert failed["exception"][0]["exc_type"] == "NoHandler"
    assert all("locals" not in frame for frame in failed["exception"][0]["frames"])


def test_a_worker_on_a_terminal_is_readable(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker_process({**environment, "APP_LOG__FORMAT": "console"}, log):
        assert not log.read_text().startswith("{")


async def run_command(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; without Valkey, which only `run` needs."""
    environment = {name: value for name, value in environment.items() if name != "APP_REDIS__URL"}
    command = [sys.executable, "-m", "app_worker", *map(str, arguments)]
    run = partial(subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    return await asyncio.to_thread(run)


async def test_a_command_prints_a_table_or_one_json_document(environment: dict[str, str], jobs: Jobs) -> None:
    job_id = await jobs.enqueue()

    table = await run_command(environment, "list")
    document = await run_command(environment, "list", "--json")

    assert (table.returncode, document.returncode) == (0, 0), table.stderr + document.stderr
    assert str(job_id) in table.stdout.splitlines()[1]
    assert [job["id"] for job in json.loads(document.stdout)["items"]] == [str(job_id)]


async def test_what_was_done_on_the_command_line_is_kept(environment: dict[str, str], jobs: Jobs) -> None:
    job_id = await jobs.enqueue(run_at=datetime(2999, 1, 1, tzinfo=UTC))

    retried = await run_command(environment, "retry", job_id)

    assert (retried.returncode, retried.stdout) == (0, "retried: 1 job\n")
    assert (await jobs.get(job_id)).state is JobState.AVAILABLE


async def test_an_error_is_one_line_and_exit_code_1(environment: dict[str, str]) -> None:
    shown = await run_command(environment, "show", new_id())

    assert (shown.returncode, shown.stdout, shown.stderr) == (1, "", "error: There is no job with this id.\n")


async def test_a_database_that_lets_nobody_in_is_one_line_that_says_why(environment: dict[str, str]) -> None:
    url = make_url(environment["APP_DATABASE__URL"]).set(username="nobody", password="none-such")
    refused = {**environment, "APP_DATABASE__URL": url.render_as_string(hide_password=False)}

    for command in ("stats", "drain"):
        run = await run_command(refused, command)
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1].startswith("error: the database refuses: password authentication failed")
        assert "Traceback" not in run.stderr


async def test_a_database_that_is_away_is_one_line_too(environment: dict[str, str]) -> None:
    away = {**environment, "APP_DATABASE__URL": "postgresql://app@127.0.0.1:1/app"}

    for command in ("stats", "drain"):
        run = await run_command(away, command)
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1] == "error: The database does not answer right now. Try again in a moment."
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"APP_DATABASE__POOL_SIZE": "0"}, "error: APP_DATABASE__POOL_SIZE: Input should be"),
        ({"APP_WORKER__QUEUES": "mail"}, "error: APP_WORKER__QUEUES: is not JSON"),
        (
            {"APP_WORKER__CONCURENCY": "3"},
            "error: APP_WORKER__CONCURENCY: is no setting; the closest one is APP_WORKER__",
        ),
    ],
    ids=str,
)
async def test_a_setting_that_is_wrong_is_named(
    environment: dict[str, str], variables: dict[str, str], message: str
) -> None:
    stats = await run_command({**environment, **variables}, "stats")

    assert stats.returncode == 1
    assert stats.stderr.startswith(message)
    assert "Traceback" not in stats.stderr


async def test_a_setting_that_is_missing_is_named(environment: dict[str, str]) -> None:
    environment.pop("APP_DATABASE__URL")

    stats = await run_command(environment, "stats")

    error, hint = stats.stderr.splitlines()
    assert error == "error: APP_DATABASE__URL: has to be set"
    assert hint.startswith("hint: beside `make dev`, ")


@pytest.mark.parametrize("command", ["stats", "drain"])
async def test_ctrl_c_ends_a_command_with_one_line(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    """As a shell has it: 128 and the number of SIGINT."""
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as silent, log.open("wb") as output:
        url = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/app"
        own = {**environment, "APP_DATABASE__URL": url, "APP_DATABASE__CONNECT_TIMEOUT": "PT20S"}
        process = spawn([sys.executable, "-m", "app_worker", command], env=own, cwd=tmp_path, output=output)
        try:
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                process.send_signal(signal.SIGINT)

                assert await asyncio.to_thread(process.wait, 90) == 130, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert [line for line in log.read_text().splitlines() if not line.startswith("{")] in (
        ["error: stopped by Ctrl-C"],
        ["error: stopped by Ctrl-C; what was running has been given back"],
    )


async def test_what_the_api_reads_may_be_set_too(environment: dict[str, str]) -> None:
    ways_in = {f"APP_{folder.name.upper()}__KEYS": "[]" for folder in feature_folders("app_auth.features")}
    both = {**ways_in, "APP_HTTP__PORT": "1", "APP_THROTTLE__LOGIN_IP": "1/s", "APP_AUTH__KEYS": "[]"}
    both["APP_METRICS__PORT"] = "1"

    stats = await run_command({**environment, **both}, "stats")

    assert (stats.returncode, stats.stderr) == (0, "")


def run_in_production(environment: dict[str, str], **different: str) -> subprocess.CompletedProcess[str]:
    """Try to start a worker that has to refuse."""
    command = [sys.executable, "-m", "app_worker", "run"]
    own = {**environment, **PRODUCTION, **different}
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=30, check=False)


def test_a_worker_in_production_refuses_a_superuser(environment: dict[str, str]) -> None:
    run = run_in_production(environment)

    assert run.returncode == 1
    assert run.stderr.startswith("error: APP_DATABASE__URL: its role is a superuser\n")


class ClusterNode(ValkeyServer):
    more = ("cluster-enabled yes",)


def test_a_worker_at_a_valkey_in_cluster_mode_does_not_start(environment: dict[str, str]) -> None:
    """Its jobs would wait for ever: what takes deliveries has keys of two slots."""
    with ClusterNode.temporary() as node:
        run = run_in_production(environment, APP_ENV="test", APP_REDIS__URL=node.url)

    assert run.returncode == 1
    assert run.stderr.startswith("error: APP_REDIS__URL: the server is in cluster mode")


def test_a_worker_in_production_does_not_print_its_mails(environment: dict[str, str]) -> None:
    run = run_in_production(environment, APP_MAIL__URL="console://")

    assert (run.returncode, run.stderr) == (1, "error: APP_MAIL__URL: would print mails, and the links in them\n")


def test_a_worker_in_production_sends_no_password_of_mail_in_the_clear(environment: dict[str, str]) -> None:
    url = "smtp://user:password@mail.example.com"

    run = run_in_production(environment, APP_MAIL__URL=url, APP_MAIL__TLS="off")

    line = "error: APP_MAIL__TLS: is off, so the password in APP_MAIL__URL would be sent in the clear\n"
    assert (run.returncode, run.stderr) == (1, line)


@pytest.mark.parametrize(
    "given",
    [
        {"APP_MAIL__URL": "smtp://user:n0tshown/x@mail.example.com:587"},
        {"APP_MAIL__URL": "smtp://user:n0tshown@mail.example.com:port"},
        {"APP_MAIL__URL": "smtp://"},
        {"APP_MAIL__FROM": "a@example.com, b@example.com"},
        {"APP_TRACING__ENDPOINT": "http://user:n0tshown/x@collector:4318/v1/traces"},
        {"APP_PUBLIC_BASE_URL": "https://user:n0tshown/x@app.example.test"},
        {"APP_DATABASE__REPLICA_URL": "postgresql://user:n0tshown@127.0.0.1:99999/app"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_before_the_first_mail(
    environment: dict[str, str], given: dict[str, str]
) -> None:
    run = run_in_production(environment, **given)

    assert run.returncode == 1
    assert [line.split(": ")[1] for line in run.stderr.splitlines()] == list(given)
    assert "n0tshown" not in run.stderr


def test_a_worker_in_production_does_not_mail_links_to_itself(environment: dict[str, str]) -> None:
    run = run_in_production(environment, APP_PUBLIC_BASE_URL="http://localhost:8000")

    assert (run.returncode, run.stderr) == (1, "error: APP_PUBLIC_BASE_URL: must be where people reach the pages\n")


@pytest.mark.parametrize(("url", "is_safe"), [("http://app.example.test", False), ("http://app.localhost:8080", True)])
def test_a_worker_in_production_mails_no_link_in_the_clear(
    environment: dict[str, str], url: str, is_safe: bool
) -> None:
    run = run_in_production(environment, APP_PUBLIC_BASE_URL=url)

    assert ("APP_PUBLIC_BASE_URL: must be https" not in run.stderr) is is_safe


def test_a_worker_in_production_refuses_a_published_password(environment: dict[str, str]) -> None:
    run = run_in_production(environment, APP_DATABASE__URL="postgresql://app:change-me@127.0.0.1:1/app")

    known = "error: APP_DATABASE__URL: has a password that everybody knows\n"
    assert (run.returncode, run.stderr) == (1, known)


async def test_what_a_worker_does_the_role_of_the_applications_may(
    environment: dict[str, str], modest_role: AppRole, tmp_path: Path
) -> None:
    own = {**environment, **PRODUCTION, "APP_DATABASE__URL": modest_role.settings.url.get_secret_value()}
    async with open_database(modest_role.settings, name="test") as database:

        async def is_completed() -> bool:
            async with database.unit_of_work(read_only=True) as session:
                job = await JobRepository(session).get(job_id)
            return job is not None and job.state is JobState.COMPLETED

        with worker_process(own, tmp_path / "log"):
            async with database.unit_of_work() as session:
                job_id = await enqueue(session, PruneSessions())
            await eventually(is_completed)


def test_a_worker_in_production_refuses_weak_keys(environment: dict[str, str]) -> None:
    weak = json.dumps([{"kid": "1", "secret": base64.b64encode(bytes(range(32))).decode()}])

    run = run_in_production(environment, APP_AUTH__TOKEN_KEYS=weak)

    assert (run.returncode, run.stderr) == (1, "error: APP_AUTH__TOKEN_KEYS: the key 1 has been published\n")


def test_a_worker_in_production_starts_while_the_database_is_away(environment: dict[str, str], tmp_path: Path) -> None:
    away = {**environment, **PRODUCTION, "APP_DATABASE__URL": "postgresql://app@127.0.0.1:1/app"}
    log = tmp_path / "log"

    with worker_process(away, log):
        assert "database_role_not_checked" in log.read_text()


async def test_draining_runs_what_is_due_in_the_queues_that_are_named(environment: dict[str, str], jobs: Jobs) -> None:
    for queue in ("mail", "mail", "other"):
        await jobs.enqueue(PruneSessions(), queue=queue)
    await jobs.enqueue(PruneSessions(), queue="mail", run_at=datetime(2999, 1, 1, tzinfo=UTC))

    drained = await run_command(environment, "drain", "--queues", "mail", "--json")

    assert drained.returncode == 0, drained.stderr
    assert json.loads(drained.stdout) == {"states": {"completed": 2}}
    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE state = 'completed'") == 2
    assert await jobs.scalar("SELECT count(*) FROM job_workers") == 0


async def test_draining_says_so_where_nothing_is_due(environment: dict[str, str]) -> None:
    assert (await run_command(environment, "drain")).stdout == "nothing was due\n"


async def test_a_drain_that_is_stopped_gives_its_job_back(
    environment: dict[str, str], tmp_path: Path, jobs: Jobs, make_user: MakeUser
) -> None:
    user = await make_user()
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as silent, log.open("wb") as output:
        mail_url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        own = {**environment, "APP_MAIL__URL": mail_url, "APP_MAIL__TIMEOUT": "PT1H"}
        job_id = await jobs.enqueue(WelcomeEmail(user_id=user.id))
        process = spawn([sys.executable, "-m", "app_worker", "drain"], env=own, cwd=tmp_path, output=output)
        try:
            await eventually(lambda: jobs.scalar("SELECT state = 'executing' FROM jobs"))

            process.send_signal(signal.SIGTERM)

            assert await asyncio.to_thread(process.wait, 90) == 1, log.read_text()
        finally:
            process.kill()
            process.wait()
    job = await jobs.get(job_id)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)
    assert log.read_text().splitlines()[-1] == "error: stopped by a signal; what was running has been given back"


def test_the_command_line_says_which_queues_and_how_many_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker_process(environment, log, "--queues", "mail,default", "--concurrency", "3"):
        started = json.loads(next(line for line in log.read_text().splitlines() if "worker_started" in line))

    assert started["queues"] == ["mail", "default"]


def test_a_role_that_cannot_be_asked_is_let_pass() -> None:
    with capture_logs() as logs:
        check_role(DatabaseSettings.model_validate({"url": "postgresql://app@127.0.0.1:1/app"}))

    assert [event["event"] for event in logs] == ["database_role_not_checked"]
