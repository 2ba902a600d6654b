"""A Valkey that Sentinels watch: its primary is killed under load, and all that uses Valkey follows the new one."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.settings import DatabaseSettings
from packages.auth.tests.sentinels import SENTINEL_PASSWORD, Member, Watched, ask, watched_servers

from .conftest import Environment, StartWorker, api_environment
from .http_site import NO_LIMITS
from .processes import Api, MailSink, eventually
from .test_jobs import all_jobs_end, scalar

pytestmark = pytest.mark.timeout(240)

FOLLOWED = 10.0
"""Seconds from the promotion until all use the new primary: promised by docs/how-to/operations.md."""


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Servers and Sentinels of this test alone."""
    with watched_servers() as watched:
        yield watched


@pytest.fixture
def at_sentinels(watched: Watched) -> Environment:
    """The variables that name the Sentinels."""
    return {"APP_REDIS__URL": watched.url, "APP_REDIS__SENTINEL_PASSWORD": SENTINEL_PASSWORD}


@pytest.fixture
def watched_api(database_settings: DatabaseSettings, at_sentinels: Environment, tmp_path: Path) -> Iterator[Api]:
    """An API that finds its Valkey by the Sentinels."""
    url = database_settings.url.get_secret_value()
    api = Api(
        env={**api_environment(url, ""), **NO_LIMITS, "APP_AUTH__VERIFICATION": "off", **at_sentinels},
        log=tmp_path / "api.log",
    )
    yield api
    assert api.stop() == 0, api.output


async def test_the_primary_is_killed_under_load_and_nothing_is_lost(
    watched: Watched,
    at_sentinels: Environment,
    watched_api: Api,
    start_worker: StartWorker,
    mail_sink: MailSink,
    database: Database,
) -> None:
    for _ in range(2):  # so that deliveries go through Valkey
        start_worker(**at_sentinels)
    old, new = watched.servers
    async with AsyncClient(base_url=watched_api.url, timeout=30) as client:
        await eventually(lambda: is_well(client), "the API reaches the primary")
        async with Registrations(client) as registrations:
            await asyncio.sleep(2)
            os.kill(old.pid, signal.SIGKILL)
            await watched.moved_from(old)
            promoted = time.monotonic()
            await eventually(lambda: is_well(client), "the API reaches the new primary")
            await eventually(lambda: listens(new), "workers listen at the new primary")
            followed = time.monotonic() - promoted
            await asyncio.sleep(1)

    await all_jobs_end(database)
    accounts = await scalar(database, "SELECT count(*) FROM users")
    assert set(registrations.statuses) == {201}
    assert accounts == len(registrations.statuses)
    assert len({mail["To"] for mail in mail_sink.mails}) == accounts
    assert followed < FOLLOWED


class Registrations:
    """Accounts that are made one after the other, and the status of each answer."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._is_over = False
        self.statuses: list[int] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await self._task

    async def _go_on(self) -> None:
        while not self._is_over:
            body = {"email": f"user{len(self.statuses)}@example.test", "password": PASSWORD}
            self.statuses.append((await self._client.post("/auth/register", json=body)).status_code)
            await asyncio.sleep(0.05)


async def is_well(client: AsyncClient) -> bool:
    return bool((await client.get("/probe/ready")).json()["status"] == "ready")


async def listens(server: Member) -> bool:
    """Whether workers have subscribed to deliveries there."""
    return bool(await ask(server, "PUBSUB", "CHANNELS", "app:queue:*:pushed"))
