"""`make dev` as a developer meets it: real processes in a copy of the checkout, started, interrupted and killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from tests.reads import DEV

from .launcher import ROOT, Launcher, copied_for_dev, run_beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


type Launch = Callable[..., Launcher]
ADA = {"email": "ada@example.test", "password": "correct horse battery staple"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # Quotes and blanks in a path must not matter.
    with copied_for_dev(tmp_path_factory.mktemp("dev") / 'it\'s a "check out"') as copy:
        yield copy


@pytest.fixture
def launch(checkout: Path) -> Iterator[Launch]:
    launched: list[Launcher] = []

    def start(*arguments: str, port: int | None = None, **environment: str) -> Launcher:
        launched.append(Launcher(checkout, *arguments, port=port or free_port(), **environment))
        return launched[-1]

    yield start
    for launcher in launched:
        if launcher.process.poll() is None:
            launcher.stop()
        assert launcher.process.stdout
        launcher.process.stdout.close()


def processes_of(checkout: Path) -> list[str]:
    """The command lines of all processes whose working folder is the checkout's or its database's."""
    homes = (str(checkout), str(PostgresServer(checkout / ".data/postgres").folder))
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(homes):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended, or is another user's
            continue
    return found


def current_revision(checkout: Path) -> subprocess.CompletedProcess[str]:
    return run_beside(checkout, "run", "python", "-m", "alembic", "current")


def test_everything_answers_mails_arrive_and_sigterm_leaves_nothing_behind(checkout: Path, launch: Launch) -> None:
    dev = launch()
    dev.expect_start()

    assert dev.post("/auth/register", ADA) < 300
    dev.expect(rf"mail +\| To {ADA['email']}: ")
    dev.expect(rf"mail +\|   http://localhost:{dev.port}/")
    assert list((checkout / ".data/mail").glob("*.eml"))
    assert (checkout / ".data/dev.env").stat().st_mode & 0o077 == 0
    assert len(processes_of(checkout)) > 5
    assert dev.stop() == 0

    assert processes_of(checkout) == []


@DEV
def test_it_starts_with_the_example_of_settings_as_it_is_and_with_each_empty_line_of_it(
    checkout: Path, launch: Launch
) -> None:
    page = (ROOT / ".env.example").read_text()
    settings = checkout / ".env"
    settings.write_text(page)
    dev = launch()
    dev.expect_start()
    assert dev.stop() == 0
    (checkout / ".env").write_text(re.sub(r"^# (APP_\w+=)$", r"\1", page, flags=re.MULTILINE), encoding="utf-8-sig")

    dev = launch(**dict.fromkeys(("APP_METRICS__HOST", "APP_DATABASE__URL", "APP_MAIL__URL"), ""))

    dev.expect_start()
    settings.unlink()


@DEV
def test_what_the_shell_exports_for_others_decides_nothing(checkout: Path, launch: Launch) -> None:
    """Variables of libpq and asyncpg, of uvicorn (WEB_CONCURRENCY, UVICORN_PORT), and of HTTP clients."""
    exported = {"PGSSLMODE": "require", "PGTARGETSESSIONATTRS": "standby", "PGPORT": "1", "WEB_CONCURRENCY": "3"}
    exported |= {
        "UVICORN_WORKERS": "2",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PYTHONPATH": "/nowhere",
        "PGSERVICE": "prod",
    }

    dev = launch(**exported)

    dev.expect_start()
    ask = [sys.executable, str(checkout / "scripts/dev.py"), "psql"]
    psql = subprocess.run(
        ask, input="SELECT current_database(), inet_server_addr();", env={**os.environ, **exported},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "app" in psql.stdout, psql.stderr
    assert "127.0.0.1" in psql.stdout


def test_while_it_runs_a_second_start_is_refused_and_other_commands_use_its_database(
    checkout: Path, launch: Launch
) -> None:
    dev = launch()
    dev.expect_start()
    second = launch()

    assert second.wait() == 1
    assert second.lines == ["make dev: `make dev` already runs in this checkout: press Ctrl-C in its terminal first"]
    assert "(head)" in current_revision(checkout).stdout
    enqueued = run_beside(checkout, "jobs", "--arguments=enqueue sessions.prune '{}' --run-at 2999-01-01T00:00Z --json")
    assert json.loads(enqueued.stdout)["kind"] == "sessions.prune", enqueued.stderr
    listed = run_beside(checkout, "jobs", "--arguments=list --state scheduled")
    assert json.loads(enqueued.stdout)["id"] in listed.stdout
    assert run_beside(checkout, "api", "--arguments=operator list").returncode == 0
    assert dev.stop(signal.SIGINT) == 0
    assert processes_of(checkout) == []


def test_other_commands_say_so_when_nothing_runs(checkout: Path) -> None:
    refused = current_revision(checkout)

    assert refused.stderr == "make run: nothing runs in this checkout: type `make dev` in another terminal first\n"
    assert refused.returncode == 1
    for door in ("jobs", "api"):
        asked = run_beside(checkout, door, "--arguments=list")
        assert asked.stderr.startswith(f"make {door}: nothing runs in this checkout: type `make dev`")


@DEV
def test_the_death_of_one_part_stops_all(checkout: Path, launch: Launch) -> None:
    dev = launch()
    dev.expect_start()
    _launcher, *parts = json.loads((checkout / ".data/lock").read_text())
    os.kill(parts[-2][0], signal.SIGKILL)

    assert dev.wait() == 1
    assert "api ended with exit code -9" in dev.lines[-1]
    assert processes_of(checkout) == []


@DEV
def test_a_worker_that_is_killed_is_started_again(checkout: Path, launch: Launch) -> None:
    dev = launch()
    dev.expect_start()
    *_, (worker, _since) = json.loads((checkout / ".data/lock").read_text())
    os.kill(worker, signal.SIGKILL)

    dev.expect(r"(?s)worker_started.*The worker was killed.*worker_started")
    assert dev.stop() == 0
    assert processes_of(checkout) == []


@DEV
def test_a_killed_launcher_loses_no_data_and_leaves_nothing_once_it_is_started_again(
    checkout: Path, launch: Launch
) -> None:
    dev = launch()
    dev.expect_start()
    dev.post("/auth/register", ADA)
    dev.stop(signal.SIGKILL)

    again = launch(port=dev.port)
    again.expect_start()
    assert again.post("/auth/register", ADA) == 409  # the account exists
    assert again.stop() == 0

    assert processes_of(checkout) == []


def test_a_taken_port_is_one_line(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        dev = launch(port=port)

        assert dev.wait() == 1
    assert dev.lines == [
        f"make dev: port {port} is taken: stop what listens there, or type `make dev APP_HTTP__PORT={port + 1}`"
    ]


@DEV
def test_data_of_another_postgres_is_one_line_and_reset_starts_over(checkout: Path, launch: Launch) -> None:
    data = PostgresServer(checkout / ".data/postgres").folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "PG_VERSION").write_text("17\n")
    refused = launch()

    assert refused.wait() == 1
    assert len(refused.lines) == 1
    assert "was written by PostgreSQL 17, this is 18" in refused.output
    assert "`make dev RESET=1`" in refused.output
    dev = launch("--reset")
    dev.expect_start()
    assert dev.post("/auth/register", ADA) < 300


@DEV
def test_with_servers_of_your_own_nothing_embedded_is_started(checkout: Path, launch: Launch) -> None:
    with PostgresServer.temporary() as postgres, ValkeyServer.temporary() as valkey:
        dev = launch(APP_DATABASE__URL=postgres.url("postgres"), APP_REDIS__URL=valkey.url)
        dev.expect_start()

        assert not any("postgres" in process or "valkey-server" in process for process in processes_of(checkout))
        assert dev.stop() == 0
