"""Groundwork on several hosts under load loses one after the other; the load counts what fails, and for how long.

Every host is a process on loopback: two of Postgres, two of the API behind HAProxy, three workers, one Valkey. A loss
costs the same as on real hosts, except for the time until an operator notices it and promotes the standby.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db.testing import databases
from app_db.types import new_id
from app_runtime.testing.processes import free_port
from tests.docs.checkout import ROOT
from tests.e2e.chaos.figures import counted, wrong
from tests.e2e.chaos.fire import drain
from tests.e2e.chaos.site import TOKEN_KEYS, Site
from tests.e2e.conftest import api_environment
from tests.e2e.http_site import NO_HANG, NO_LIMITS
from tests.e2e.load import Act, Load
from tests.e2e.processes import Api, MailSink, connected
from tests.e2e.proxy import proxied
from tests.e2e.replication import Primary, Standby, dsn_of

DATABASE = "app_hosts_test"
CALM = 1.0
"""Seconds without a fault before each act."""
FENCED_AFTER = 4.0
"""Seconds from the promotion until the frozen primary is killed: longer than any client waits for it."""

UNKNOWN_ACCOUNTS = "SELECT count(*) FROM unnest($1::text[]) AS email WHERE email NOT IN (SELECT email FROM users)"


class HostsSite(Site):
    """A Site whose primary has a standby, with two APIs behind HAProxy."""

    postgres: Primary

    def __init__(self, folder: Path, *, synchronous: bool = True) -> None:
        super().__init__(folder, workers=3)
        self.synchronous = synchronous
        """Whether a commit is confirmed only when the standby has it."""
        self.postgres = Primary(folder / "postgres", port=free_port())
        self.standby = Standby(folder / "standby", self.postgres, port=free_port())
        self.apis: list[Api] = []
        self.mails = MailSink()
        self.promoted_at = 0.0

    async def _open_database(self) -> str:
        self.postgres.start()
        await databases.migrate(await databases.recreate(self.postgres.url("postgres"), DATABASE), root=ROOT)
        self.standby.start()
        if self.synchronous:
            await self.postgres.wait_for_standby()
        hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in (self.postgres, self.standby))
        return f"postgresql://app:{self.postgres.password}@/{DATABASE}?{hosts}&target_session_attrs=read-write"

    def _environment(self, url: str) -> dict[str, str]:
        mail = {"APP_MAIL__URL": self.mails.url, "APP_MAIL__FROM": "hello@example.test"}
        return {**super()._environment(url), **mail, "APP_PUBLIC_BASE_URL": "https://example.test/"}

    async def __aenter__(self) -> Self:
        self.mails.__enter__()
        await super().__aenter__()
        self._keys = api_environment(self.environment["APP_DATABASE__URL"], self.valkey.url)
        self._keys |= {"APP_AUTH__TOKEN_KEYS": TOKEN_KEYS, "APP_AUTH__VERIFICATION": "off", **NO_LIMITS}
        for _ in range(2):
            self.start_api()
        return self

    async def __aexit__(self, *_: object) -> None:
        for api in self.apis:
            api.kill()
        await super().__aexit__()
        self.standby.stop()
        self.standby.erase()
        self.mails.__exit__()

    def start_api(self) -> Api:
        """Start one more host of the API, and return when it answers."""
        self.apis.append(Api(env=self._keys, log=self.folder / f"api-{len(self.apis)}.log"))
        return self.apis[-1]

    async def promote(self) -> None:
        """Promote the standby after one second, the least time in which an operator could notice."""
        await asyncio.sleep(1)
        await asyncio.to_thread(self.standby.promote)
        self.promoted_at = time.monotonic()

    async def token(self) -> str:
        """Register and sign in a user; return the access token."""
        async with AsyncClient(base_url=self.apis[0].url, timeout=NO_HANG) as client:
            await client.post("/auth/register", json={"email": "ada@example.test", "password": PASSWORD})
            form = {"username": "ada@example.test", "password": PASSWORD}
            signed_in = await client.post("/auth/access-token", data=form)
        token: str = signed_in.json()["access_token"]
        return token


@dataclass(frozen=True, slots=True)
class Play:
    """All acts, and the figures at the end."""

    acts: Mapping[str, Act]
    unknown_accounts: int
    """Confirmed registrations whose account is lost."""
    wrong: Mapping[str, int]
    """Figures of the jobs that have to be zero and are not."""
    counts: Mapping[str, int]
    promotion: float
    """Seconds from the loss of the primary until the standby took writes."""
    unmailed: int
    """Confirmed registrations whose mail was never sent."""
    accounts: int
    came_back: bool
    """Whether an API that started after the old primary had come back, stale, could register a user."""


type Loss = Callable[[HostsSite], Awaitable[None]]


async def lose_a_worker(site: HostsSite) -> None:
    """kill -9."""
    site.workers.pop().kill()


async def lose_valkey(site: HostsSite) -> None:
    """kill -9; an empty one takes its address after a second."""
    os.kill(site.valkey.pid, signal.SIGKILL)
    site.valkey.stop()
    await asyncio.sleep(1)
    site.valkey.start()


async def lose_the_primary(site: HostsSite) -> None:
    """kill -9 all processes of the primary, and promote its standby."""
    site.postgres.lose()
    await site.promote()


async def lose_an_api(site: HostsSite) -> None:
    """kill -9 to the one of two that HAProxy asks first."""
    site.apis[0].kill()


async def freeze_the_primary(site: HostsSite) -> None:
    """Freeze the primary as if its network were cut, promote the standby, then kill the primary for good."""
    site.postgres.freeze()
    await site.promote()
    await asyncio.sleep(FENCED_AFTER)
    site.postgres.lose()


LOSSES: dict[str, Loss] = {
    "a worker": lose_a_worker,
    "Valkey": lose_valkey,
    "the primary": lose_the_primary,
    "an API": lose_an_api,
}


async def play(
    folder: Path, *, aftermath: float, losses: Mapping[str, Loss] = LOSSES, synchronous: bool = True
) -> Play:
    """Lose one host after the other, each `aftermath` seconds after the one before was replaced, then count.

    Raises:
        AssertionError: when a process ended that no loss had killed.
    """
    async with HostsSite(folder, synchronous=synchronous) as site, loaded(site) as load:
        await asyncio.sleep(CALM)
        came_back = False
        for name, lose in losses.items():
            load.begin(name)
            await lose(site)
            await asyncio.sleep(aftermath)
            load.begin("calm")
            if name == "the primary":
                came_back = await _registers_beside_a_stale_server(site)
            await asyncio.sleep(CALM)
        return await ended(site, load, came_back=came_back)


async def ended(site: HostsSite, load: Load, *, came_back: bool = False) -> Play:
    """Stop the load, wait until no job is open, and count.

    Raises:
        AssertionError: when a process ended that no loss had killed.
    """
    await load.__aexit__()
    await site.stop_accepting()
    await drain(site)
    site.check_that_all_live()
    counts = await counted(site.dsn, said_to_be_committed=site.said("committed"))
    unknown = (await site.ask(UNKNOWN_ACCOUNTS, load.accounts))[0]["count"]
    mailed = {mail["To"] for mail in site.mails.mails}
    acts = {act.name: act for act in load.acts}
    promotion = site.promoted_at - acts["the primary"].began
    unmailed = len(set(load.accounts) - mailed)
    return Play(acts, unknown, wrong(counts), counts, promotion, unmailed, len(load.accounts), came_back)


@asynccontextmanager
async def loaded(site: HostsSite) -> AsyncIterator[Load]:
    """Clients that use the API through the proxy during the block."""
    upstreams = [api.url.removeprefix("http://") for api in site.apis]
    with proxied(*upstreams, log=site.folder / "haproxy.log") as port:
        async with Load(f"http://127.0.0.1:{port}", token=await site.token()) as load:
            yield load


async def _registers_beside_a_stale_server(site: HostsSite) -> bool:
    """Start an API while the server that its URL names first answers, but read-only; whether it can register."""
    site.postgres.come_back_stale()
    async with connected(dsn_of(site.postgres, DATABASE)) as connection:
        assert await connection.fetchval("SELECT pg_is_in_recovery()")
    api = await asyncio.to_thread(site.start_api)
    body = {"email": f"{new_id().hex}@example.test", "password": PASSWORD}
    async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
        return (await client.post("/auth/register", json=body)).status_code == 201
