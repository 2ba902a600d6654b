"""An API that tests may break: its own Postgres and Valkey, one process that serves HTTP, and a signed-in user."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

from httpx2 import AsyncClient, Response

from app_auth.limits import ThrottleSettings
from app_auth.testing import PASSWORD
from app_db.testing import databases
from app_db.types import new_id
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from tests.docs.checkout import ROOT
from tests.e2e.processes import Api, connected, eventually

NO_HANG = 10.0
"""Seconds after which a client gives up, which fails its test: nothing may hang, whatever is broken."""

EMAIL = "ada@example.test"
READER = "grace@example.test"
"""The signed-in user. Sign-ins of EMAIL cannot push this session out: each user has fifty at most."""
DATABASE = "app_http_test"
ROLE = "api"  # no superuser: those are exempt from the limits that are tested
CREATE_ROLE = f"""
    CREATE ROLE {ROLE} LOGIN PASSWORD '{{password}}';
    GRANT pg_read_all_data, pg_write_all_data TO {ROLE};
"""
NO_LIMITS = {f"APP_THROTTLE__{name.upper()}": "10000/s" for name in ThrottleSettings.model_fields}
"""For a client that asks more often than a person."""
END_SESSIONS = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{ROLE}'"
LEFT_OPEN = f"SELECT FROM pg_stat_activity WHERE usename = '{ROLE}' AND (xact_start IS NOT NULL OR state <> 'idle')"


class HttpSite:
    """Used with `async with`. Both servers keep their ports, so that clients find them again after a restart."""

    def __init__(self, folder: Path, environment: Callable[[str, str], dict[str, str]]) -> None:
        self.folder = folder
        # Durable: a confirmed commit must outlive a crash.
        self.postgres = PostgresServer(folder / "postgres", port=free_port(), durable=True)
        self.valkey = ValkeyServer(folder / "valkey", port=free_port(), durable=False)
        self._environment_of = environment
        self._apis: list[Api] = []

    async def __aenter__(self) -> Self:
        self.postgres.start()
        self.valkey.start()
        url = await databases.recreate(self.postgres.url("postgres"), DATABASE)
        await databases.migrate(url, root=ROOT)
        self.dsn = url.replace("+asyncpg", "")
        await self.do(CREATE_ROLE.format(password=self.postgres.password))
        self.role_dsn = self.dsn.replace("://app:", f"://{ROLE}:")
        environment = self._environment_of(self.role_dsn, self.valkey.url)
        self.environment = environment | NO_LIMITS | {"APP_AUTH__VERIFICATION": "off"}
        self.api = self.start_api()
        self.client = AsyncClient(base_url=self.api.url, timeout=NO_HANG)
        await self.register(EMAIL)
        await self.register(READER)
        signed_in = await self.login(email=READER)
        assert signed_in.status_code == 200, f"{signed_in.text}\n{self.api.output}"
        self.tokens: dict[str, str] = signed_in.json()
        """The tokens of a session that lives as long as the site."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        for api in self._apis:
            api.kill()
        self.valkey.stop()
        self.postgres.stop()
        self.postgres.erase()

    def start_api(self, **different: str) -> Api:
        """Start one more process of the API; keyword arguments are environment variables that differ."""
        log = self.folder / f"api-{len(self._apis)}.log"
        self._apis.append(Api(env={**self.environment, **different}, log=log))
        return self._apis[-1]

    async def register(self, email: str = "", *, client: AsyncClient | None = None) -> Response:
        """Make an account, by default with a new address."""
        email = email or f"{new_id().hex}@example.test"
        return await (client or self.client).post("/auth/register", json={"email": email, "password": PASSWORD})

    async def operator_token(self) -> str:
        """Register and sign in an operator; return the access token."""
        await self.register("operator@example.test")
        await self.do("UPDATE users SET role = 'operator' WHERE email = 'operator@example.test'")
        token: str = (await self.login(email="operator@example.test")).json()["access_token"]
        return token

    async def login(
        self, *, email: str = EMAIL, password: str = PASSWORD, client: AsyncClient | None = None
    ) -> Response:
        """Sign the user in: a read, a hash, a write."""
        return await (client or self.client).post("/auth/access-token", data={"username": email, "password": password})

    async def me(self, *, client: AsyncClient | None = None) -> Response:
        """Ask who is signed in: one read."""
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return await (client or self.client).get("/auth/me", headers=headers)

    async def refresh(self) -> Response:
        """Exchange the refresh token of a new sign-in: one write."""
        token = (await self.login()).json()["refresh_token"]
        return await self.client.post("/auth/refresh-token", json={"refresh_token": token})

    async def becomes(self, readiness: str) -> None:
        """Wait until /probe/ready says ready, degraded or unready; the API keeps what it found for a second."""

        async def says_so() -> bool:
            answer = await self.client.get("/probe/ready")
            return readiness in answer.json().values()

        await eventually(says_so, f"the API is {readiness}")

    async def forgot(self) -> Response:
        """Ask for the mail with which a password is reset."""
        return await self.client.post("/auth/password/forgot", json={"email": EMAIL})

    async def ask(self, query: str) -> list[Any]:  # Any: asyncpg's records
        """Ask Postgres directly, as a superuser."""
        async with connected(self.dsn) as connection:
            return list(await connection.fetch(query))

    async def do(self, statements: str) -> None:
        """Have Postgres do something, as a superuser."""
        async with connected(self.dsn) as connection:
            await connection.execute(statements)

    @contextmanager
    def postgres_is_down(self, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """Stop Postgres during the block: SIGINT ends its sessions first, SIGQUIT is a crash."""
        os.kill(self.postgres.pid, how)
        self.postgres.stop()
        try:
            yield
        finally:
            self.postgres.start()

    @contextmanager
    def valkey_is_down(self) -> Iterator[None]:
        """kill -9 Valkey for the block; it comes back empty."""
        os.kill(self.valkey.pid, signal.SIGKILL)
        self.valkey.stop()
        try:
            yield
        finally:
            self.valkey.start()

    def postgres_is_frozen(self) -> AbstractContextManager[None]:
        """SIGSTOP to all its processes: connections stay open, and nobody answers."""
        return _frozen(self.postgres.pid)

    def valkey_is_frozen(self) -> AbstractContextManager[None]:
        """The same to Valkey."""
        return _frozen(self.valkey.pid)

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Lock the table, so that nobody else reads or writes it."""
        async with connected(self.dsn) as connection:
            await connection.execute(f"BEGIN; LOCK TABLE {table}")
            yield
            await connection.execute("ROLLBACK")

    async def nothing_is_left_open(self) -> None:
        """Wait until no connection of the API is in a transaction, or at work."""

        async def is_so() -> bool:
            return not await self.ask(LEFT_OPEN)

        await eventually(is_so, "the API has given all its connections back")


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    pids = [pid, *(child for child, parent in pairs if parent == pid)]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)
