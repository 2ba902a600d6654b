"""Cases 55 and 70: many clients that are slow on purpose, and mixed requests for a long time."""

import random
import resource
import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from app_auth.testing import Account, MakeAccount
from app_db import Database
from tests.attack.conftest import StartApi, an_email
from tests.attack.test_http import resident_kib
from tests.attack.wire import Wire, an_address
from tests.e2e.processes import Api
from tests.e2e.proxy import proxied

pytestmark = pytest.mark.slow

HEADERS, IDLE, BODIES = 500, 500, 200
CLOSED_WITHIN = {"headers": 10, "idle": 10, "bodies": 30}
SLACK = 3
"""Seconds more that a busy machine may take to close connections."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow as many open sockets as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class SlowClients:
    """Sockets that each send one byte per `go_on`, or nothing, until the server closes them."""

    def __init__(self, port: int, *, said: bytes, drip: bytes, number: int) -> None:
        self.drip = drip
        self.opened = time.monotonic()
        self.closed_after: list[float] = []
        self._selector = selectors.DefaultSelector()
        for _ in range(number):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            client.sendall(said)
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)

    @property
    def open(self) -> int:
        return len(self._selector.get_map())

    def go_on(self) -> None:
        """Find the sockets that the server has closed, and send one more byte on the others."""
        for key, _ in self._selector.select(timeout=0):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            if not self._is_open(client):
                self._hang_up(client)
        for key in list(self._selector.get_map().values()):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            try:
                client.send(self.drip)
            except OSError:
                self._hang_up(client)

    @staticmethod
    def _is_open(client: socket.socket) -> bool:
        try:
            return client.recv(65536) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _hang_up(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        client.close()
        self.closed_after.append(time.monotonic() - self.opened)


# case 55
@pytest.mark.timeout(400)
def test_clients_that_are_slow_on_purpose_are_hung_up_on_and_slow_nobody_down(
    start_api: StartApi, ada: Account, many_files: None, tmp_path: Path
) -> None:
    head = (
        b"POST /auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    )
    api = start_api(APP_HTTP__TRUSTED_PROXIES='["127.0.0.1/32"]')
    with proxied(api.url.removeprefix("http://"), log=tmp_path / "haproxy.log") as port:
        crowds = {
            "headers": SlowClients(port, said=head, drip=b"x", number=HEADERS),
            "idle": SlowClients(port, said=b"", drip=b"", number=IDLE),
            "bodies": SlowClients(port, said=head + b"\r\n", drip=b" ", number=BODIES),
        }
        live: list[float] = []
        wire = Wire(f"http://127.0.0.1:{port}")
        began = time.monotonic()
        signed_in = wire.login(ada.email, ada.password)
        login_took = time.monotonic() - began
        while any(crowd.open for crowd in crowds.values()) and time.monotonic() - began < 60:
            for crowd in crowds.values():
                crowd.go_on()
            live += [milliseconds_of_live(wire) for _ in range(10)]
            time.sleep(0.5)
        wire.close()

    assert signed_in.status == 200
    assert login_took <= 2
    assert {name: crowd.open for name, crowd in crowds.items()} == {"headers": 0, "idle": 0, "bodies": 0}
    for name, crowd in crowds.items():
        assert max(crowd.closed_after) <= CLOSED_WITHIN[name] + SLACK, name
    assert statistics.quantiles(live, n=100)[98] <= 100


def milliseconds_of_live(wire: Wire) -> float:
    began = time.perf_counter()
    assert wire.lives()
    return (time.perf_counter() - began) * 1000


SOAK_SECONDS = 300
RATE = 50
CLIENTS = 10


def visit(api: Api, account: Account, until: float) -> list[int]:
    """Send a mix of good and bad requests, five a second, and return the statuses of all answers."""
    wire = Wire(api.url, address=an_address())
    statuses: list[int] = []
    access, refresh = wire.tokens(account.email, account.password)
    while time.monotonic() < until:
        wire.address = an_address()
        match random.randrange(10):
            case 0:
                reply = wire.login(account.email, account.password)
                access, refresh = reply.json["access_token"], reply.json["refresh_token"]
            case 1:
                reply = wire.refresh(refresh)
                access, refresh = reply.json["access_token"], reply.json["refresh_token"]
            case 2:
                reply = wire.login(an_email(), "a wrong password, surely")
            case 3:
                reply = wire.register(an_email(), "correct horse battery 42")
            case 4:
                reply = wire.post("/auth/register", {"email": "\ud800"})
            case 5:
                reply = wire.get("/nope")
            case _:
                reply = wire.me(access)
        statuses.append(reply.status)
        time.sleep(CLIENTS / RATE)
    wire.close()
    return statuses


# case 70
@pytest.mark.timeout(SOAK_SECONDS + 120)
async def test_five_minutes_of_everything_leave_nothing_behind(
    start_api: StartApi, make_account: MakeAccount, database: Database
) -> None:
    api = start_api()
    accounts = [await make_account(email=an_email()) for _ in range(CLIENTS)]
    until = time.monotonic() + SOAK_SECONDS
    memory: list[int] = []

    with ThreadPoolExecutor(CLIENTS) as threads:
        visits = [threads.submit(visit, api, account, until) for account in accounts]
        while time.monotonic() < until:
            memory.append(resident_kib(api.pid))
            time.sleep(1)  # noqa: ASYNC251  # nothing else is to run here
        statuses = [status for each in visits for status in each.result()]

    assert len(statuses) > SOAK_SECONDS * RATE / 2
    assert set(statuses) == {200, 202, 400, 404, 422}
    fifth = len(memory) // 5
    early, late = statistics.median(memory[fifth : 2 * fifth]), statistics.median(memory[-fifth:])
    assert late - early <= 8 * 1024, f"{early} KiB became {late} KiB"
    connection = await asyncpg.connect(database.settings.direct_dsn)
    busy = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND state <> 'idle'"
    )
    await connection.close()
    assert busy == 0
