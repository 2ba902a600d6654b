"""`python -m app_api` as an operator runs it: a process, its environment, its signals and its log."""

import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app_api.main import main
from app_api.settings import ApiSettings
from app_db import Database
from app_db.testing.databases import AppRole
from app_runtime.testing.plugin import MakeFeatures
from app_runtime.testing.processes import free_port, port_is_free, spawn, wait_until
from app_runtime.testing.servers import ValkeyServer

pytestmark = pytest.mark.integration

PATIENCE = 90.0
PASSWORD = "correct horse battery 42"


class Process:
    """A program of this package on a free port; its output is kept."""

    def __init__(self, *arguments: str, env: dict[str, str], folder: Path) -> None:
        self.port = int(env["APP_HTTP__PORT"])
        self._log = folder / f"log-{self.port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
        with self._log.open("wb") as output:
            command = [sys.executable, "-m", *arguments]
            self._popen = spawn(command, env=inherited | env, cwd=folder, output=output)

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, as JSON."""
        return [json.loads(line) for line in self.output.splitlines()]

    def serving(self) -> "Process":
        """Wait until it answers."""
        assert wait_until(lambda: not port_is_free(self.port) or not self.is_running(), PATIENCE), self.output
        assert self.is_running(), self.output
        return self

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def connect(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE))

    def get(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the response and its body."""
        with self.connect() as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response, response.read()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self._popen.wait(PATIENCE)

    def end(self) -> None:
        """Kill the process, also after a failed test."""
        self._popen.kill()
        self._popen.wait()


type Start = Callable[..., Process]


@pytest.fixture
def start(api_settings: ApiSettings, database: Database, tmp_path: Path) -> Iterator[Start]:
    """Start `python -m <arguments>` on the test's servers; keyword arguments are variables that differ."""
    processes: list[Process] = []
    auth = api_settings.auth
    rings = {
        "KEYS": auth.keys,
        "REFRESH_KEYS": auth.refresh_keys,
        "TOKEN_KEYS": auth.token_keys,
        "PEPPERS": auth.peppers,
    }
    environment = {
        "APP_ENV": "test",
        "APP_DATABASE__URL": api_settings.database.url.get_secret_value(),
        "APP_REDIS__URL": api_settings.redis.url.get_secret_value(),
        "APP_AUTH__BCRYPT_ROUNDS": "4",
    } | {
        f"APP_AUTH__{name}": json.dumps([{"kid": key.kid, "secret": key.secret.get_secret_value()} for key in ring])
        for name, ring in rings.items()
    }

    def start(*arguments: str, **different: str) -> Process:
        env = environment | {"APP_HTTP__PORT": str(free_port())} | different
        processes.append(Process(*(arguments or ("app_api",)), env=env, folder=tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(start: Start, number: signal.Signals) -> None:
    process = start().serving()
    response, _ = process.get("/probe/ready")

    process.signal(number)

    assert process.wait() == 0
    assert response.status == 200
    assert response.headers["Server"] is None
    assert [event["event"] for event in process.events if event["event"].startswith("api_")] == [
        "api_started",
        "api_stopped",
    ]


def test_a_request_that_runs_is_answered_after_the_signal(start: Start) -> None:
    process = start("app_api", "serve").serving()
    body = json.dumps({"email": "ada@example.test", "password": PASSWORD}).encode()
    with process.connect() as connection:
        begin(connection, length=len(body))

        process.signal(signal.SIGTERM)
        assert wait_until(lambda: port_is_free(process.port), PATIENCE)
        connection.send(body)

        response = connection.getresponse()
        assert response.status == 202
        assert json.loads(response.read())
    assert process.wait() == 0


def test_a_process_that_is_to_stop_says_so_before_it_closes_its_door(start: Start) -> None:
    process = start(APP_HTTP__DRAIN_DELAY="PT60S").serving()

    process.signal(signal.SIGTERM)

    assert wait_until(lambda: process.get("/probe/ready")[0].status == 503, PATIENCE)
    response, body = process.get("/probe/live")
    assert body == b'"ok"'
    assert response.headers["Connection"] == "close"
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.measured
def test_the_door_closes_by_itself_after_the_delay(start: Start) -> None:
    process = start(APP_HTTP__DRAIN_DELAY="PT0.3S").serving()

    process.signal(signal.SIGTERM)

    assert process.wait() == 0


def test_a_request_that_never_ends_does_not_keep_it_alive(start: Start) -> None:
    process = start(APP_HTTP__DRAIN="PT0S").serving()
    with process.connect() as connection:
        begin(connection, length=10)

        process.signal(signal.SIGTERM)

        assert connection.getresponse().status == 503
    assert process.wait() == 0


@pytest.mark.measured
def test_a_thread_that_goes_on_does_not_keep_the_api(start: Start, tmp_path: Path) -> None:
    """CPython joins every thread at its end: one that hashed for hours kept the process until SIGKILL."""
    line = "import threading, time; threading.Thread(target=time.sleep, args=(90,), name='busy').start()\n"
    (tmp_path / "busy_api.py").write_text(f"{line}from app_api.main import main\nmain([])\n")
    process = start("busy_api").serving()

    process.signal(signal.SIGTERM)

    assert process.wait() == 0
    assert process.events[-1]["threads"] == ["busy"]


FAILING = """
import asyncio
from collections.abc import AsyncIterator

async def fail():
    await asyncio.sleep(0.5)
    raise ConnectionError("the vet is gone")

async def vets() -> AsyncIterator[int]:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        yield 1
"""


@pytest.mark.measured
def test_an_api_whose_resource_fails_ends_with_an_error(
    start: Start, make_features: MakeFeatures, tmp_path: Path
) -> None:
    """Kludex/uvicorn #2308: a task of the lifespan failed, all was closed, and the server went on serving."""
    router = "from fastapi import APIRouter\nrouter = APIRouter()"
    package = make_features({"pets/__init__.py": "", "pets/router.py": router, "pets/resources.py": FAILING})
    find = f"import app_api.features\napp_api.features.__path__ = [{str(tmp_path / package)!r}]"
    (tmp_path / "failing_api.py").write_text(f"{find}\nfrom app_api.main import main\nmain([])")
    process = start("failing_api").serving()

    assert process.wait() == 1
    assert "the vet is gone" in process.output


@pytest.mark.measured
def test_ctrl_c_ends_a_command_with_one_line(start: Start) -> None:
    """As a shell has it: 128 and the number of SIGINT."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/app"
        process = start("app_api", "operator", "audit", APP_DATABASE__URL=url, APP_DATABASE__CONNECT_TIMEOUT="PT20S")
        silent.settimeout(PATIENCE)
        connection, _ = silent.accept()
        with connection:
            process.signal(signal.SIGINT)

            assert process.wait() == 130

    assert process.output == "error: stopped by Ctrl-C\n"


def test_uvicorn_can_start_it_by_its_factory(start: Start) -> None:
    port = free_port()
    arguments = ("uvicorn", "--factory", "app_api.main:build", "--port", str(port))

    process = start(*arguments, APP_HTTP__PORT=str(port)).serving()

    assert process.get("/probe/live")[1] == b'"ok"'
    process.signal(signal.SIGTERM)
    process.wait()


def test_it_does_not_start_without_its_secrets(start: Start) -> None:
    process = start(APP_AUTH__KEYS='[{"kid": "1", "secret": "short-and-secret"}]')

    assert process.wait() != 0
    assert "APP_AUTH__KEYS" in process.output
    assert "short-and-secret" not in process.output


def test_it_does_not_start_in_production_for_every_host(start: Start) -> None:
    process = start(APP_ENV="production", APP_HTTP__ALLOWED_HOSTS='["*"]')

    assert process.wait() != 0
    assert "APP_HTTP__ALLOWED_HOSTS" in process.output


PRODUCTION = {"APP_ENV": "production", "APP_HTTP__ALLOWED_HOSTS": '["127.0.0.1"]'}


def test_production_refuses_a_role_that_may_do_anything(start: Start) -> None:
    process = start(**PRODUCTION)

    assert process.wait() == 1
    assert process.output.startswith("APP_DATABASE__URL: its role is a superuser\n")


@pytest.mark.measured
def test_uvicorn_starts_no_production_that_may_do_anything(start: Start) -> None:
    process = start("uvicorn", "--factory", "app_api.main:build", "--port", str(free_port()), **PRODUCTION)

    assert process.wait() == 1
    assert "APP_DATABASE__URL: its role is a superuser\n" in process.output
    assert "Traceback" not in process.output


def test_production_serves_with_the_role_of_the_applications(start: Start, modest_role: AppRole) -> None:
    process = start(**PRODUCTION, APP_DATABASE__URL=modest_role.settings.url.get_secret_value()).serving()

    assert process.get("/probe/ready")[0].status == 200


@pytest.mark.measured
def test_production_starts_while_the_database_is_away(start: Start) -> None:
    process = start(**PRODUCTION, APP_DATABASE__URL="postgresql://app@127.0.0.1:1/app").serving()

    status = process.get("/probe/ready")[0].status
    process.signal(signal.SIGTERM)

    assert process.wait() == 0
    assert status == 503
    assert "database_role_not_checked" in [event["event"] for event in process.events]


@pytest.mark.measured
def test_settings_are_checked_from_the_command_line(start: Start) -> None:
    checked = start("app_api", "config", "check")
    refused = start("app_api", "config", "check", APP_HTTP__PROT="1")

    assert checked.wait() == 0
    assert "APP_ENV=test  # variable" in checked.output
    assert refused.wait() == 1
    assert refused.output == "APP_HTTP__PROT: is no setting; the closest one is APP_HTTP__PORT\n"


class ClusterNode(ValkeyServer):
    more = ("cluster-enabled yes",)


@pytest.mark.measured
def test_an_api_at_a_valkey_in_cluster_mode_does_not_start(start: Start) -> None:
    with ClusterNode.temporary() as node:
        served = start(APP_REDIS__URL=node.url)

        assert served.wait() == 1
        assert served.output.startswith("APP_REDIS__URL: the server is in cluster mode")


@pytest.mark.measured
def test_a_check_refuses_a_valkey_in_cluster_mode(start: Start) -> None:
    with ClusterNode.temporary() as node:
        checked = start("app_api", "config", "check", APP_REDIS__URL=node.url)

        assert checked.wait() == 1
        assert "APP_REDIS__URL: the server is in cluster mode" in checked.output


@pytest.mark.measured
def test_the_roles_of_the_database_are_printed_from_the_command_line(start: Start) -> None:
    process = start("app_api", "database", "roles", "--print")

    assert process.wait() == 0
    assert "CREATE ROLE" in process.output


async def test_a_fault_is_logged_with_its_request_and_without_secrets(start: Start, api_settings: ApiSettings) -> None:
    process = start().serving()
    owner = await asyncpg.connect(api_settings.database.direct_dsn)
    await owner.execute("ALTER TABLE users RENAME TO users_elsewhere")
    try:
        with process.connect() as connection:
            body = json.dumps({"email": "ada@example.test", "password": PASSWORD})
            headers = {"Content-Type": "application/json", "X-Request-ID": "asked-for-by-ada"}
            connection.request("POST", "/auth/register", body=body, headers=headers)
            response = connection.getresponse()
    finally:
        await owner.execute("ALTER TABLE users_elsewhere RENAME TO users")
        await owner.close()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0  # a thread writes the log, perhaps after the answer

    fault = next(event for event in process.events if event["event"] == "request_failed")
    assert response.status == 500
    assert fault["request_id"] == "asked-for-by-ada"
    assert fault["path"] == "/auth/register"
    assert "users" in json.dumps(fault["exception"])
    assert PASSWORD not in process.output
    assert "bcrypt-sha384" not in process.output


def test_on_a_terminal_the_log_is_for_people(start: Start) -> None:
    process = start(APP_LOG__FORMAT="console").serving()

    process.signal(signal.SIGTERM)

    process.wait()
    assert "api_started" in process.output
    assert not process.output.startswith("{")


def test_seeding_twice_at_once_makes_every_account_once(start: Start) -> None:
    both = [start("app_api", "seed", APP_ENV="development") for _ in range(2)]

    assert [process.wait() for process in both] == [0, 0]
    printed = "".join(process.output for process in both)
    assert printed.count("with the password") == printed.count("is there already") == 4


@pytest.mark.measured
def test_an_operator_is_made_where_no_api_runs(start: Start) -> None:
    assert start("app_api", "seed", APP_ENV="development").wait() == 0

    made = start("app_api", "operator", "grant", "ada@example.com")
    refused = start("app_api", "operator", "grant", "nobody@example.com")

    assert (made.wait(), made.output) == (0, "ada@example.com is an operator\n")
    assert (refused.wait(), refused.output) == (1, "nobody@example.com: No account has this address.\n")


def test_its_command_line_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "seed" in capsys.readouterr().out


def begin(connection: http.client.HTTPConnection, *, length: int) -> None:
    """Send the head of a request, and wait until the application waits for its body."""
    connection.putrequest("POST", "/auth/register")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(length))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.sock.recv(65536).startswith(b"HTTP/1.1 100 ")
