"""What applications may do at Valkey: the rights of the page suffice, and a prefix keeps two of them apart."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient
from redis.asyncio import Redis

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.settings import DatabaseSettings
from app_runtime.testing.servers import ValkeyServer

from .conftest import StartWorker, api_environment
from .processes import Api, MailSink, eventually
from .test_jobs import all_jobs_end, register, sign_in

ROOT = Path(__file__).parents[2]
RIGHTS = re.compile(r"^ACL SETUSER (\S+) .*?(?=\n```)", re.MULTILINE | re.DOTALL)
ONE_SLOT = {"APP_WORKER__CONCURRENCY": "1"}
PAGE = ROOT / "docs/how-to/operations.md"


def rights_of_page() -> str:
    command = RIGHTS.search(PAGE.read_text())
    assert command is not None, "the page names the rights"
    return command[0]


async def give_rights(operator: Any, prefix: str) -> None:  # Any: redis-py has no types for it
    """Type what the page says, for an application with this prefix."""
    words = rights_of_page().replace("app:", prefix).replace("PASSWORD", "secret").split()
    await operator.execute_command(*words)


def url_of(valkey: ValkeyServer) -> str:
    return valkey.url.replace(f":{valkey.password}@", "app:secret@")


@pytest.fixture
def start_api(database_settings: DatabaseSettings, valkey: ValkeyServer, tmp_path: Path) -> Iterator[Any]:
    """Start an API with the rights of the page; keyword arguments are variables that differ."""
    apis: list[Api] = []
    verification = {
        "APP_AUTH__VERIFICATION": "off",
        "APP_THROTTLE__LOGIN_ACCOUNT": "2/h",
        "APP_THROTTLE__REGISTER_IP": "99/h",
    }

    def start(**different: str) -> Api:
        environment = api_environment(database_settings.url.get_secret_value(), url_of(valkey))
        apis.append(Api(env=environment | verification | different, log=tmp_path / f"api-{len(apis)}.log"))
        return apis[-1]

    yield start
    for api in apis:
        assert api.stop() == 0, api.output


async def test_the_rights_of_the_page_suffice_for_all_that_the_applications_do(
    valkey: ValkeyServer, database: Database, start_api: Any, start_worker: StartWorker, mail_sink: MailSink
) -> None:
    async with Redis.from_url(valkey.url, decode_responses=True) as operator:
        await give_rights(operator, "app:")
        api, *workers = start_api(), *(start_worker(APP_REDIS__URL=url_of(valkey), **ONE_SLOT) for _ in range(2))
        async with AsyncClient(base_url=api.url, timeout=90) as client:
            await eventually(lambda: is_ready(client), "Valkey takes its probe")
            names = [f"ada{number}@example.test" for number in range(20)]  # more than slots: deliveries have to wait
            await asyncio.gather(*(register(client, name) for name in names))
            headers = await sign_in(client, names[0])
            for status in (400, 400, 429):
                wrong = {"username": names[0], "password": f"not {PASSWORD}"}
                assert (await client.post("/auth/access-token", data=wrong)).status_code == status
            await client.post("/auth/me/export", headers=headers)
            await all_jobs_end(database)
        for worker in workers:
            assert worker.stop() == 0, worker.output

        used = {name.removeprefix("cmdstat_") for name in await operator.info("commandstats")}
        assert {mail["To"] for mail in mail_sink.mails} == set(names)
        assert await operator.acl_log() == []
        assert set(re.findall(r"\+(\S+)", rights_of_page())) - used == {"del"}  # after a clock was set back


async def test_two_applications_at_one_valkey_take_nothing_of_each_other(
    valkey: ValkeyServer, database: Database, start_api: Any, start_worker: StartWorker
) -> None:
    async with Redis.from_url(valkey.url, decode_responses=True) as operator:
        await give_rights(operator, "shop:")
        prefix = {"APP_REDIS__PREFIX": "shop:"}
        api = start_api(**prefix)
        start_worker(APP_REDIS__URL=url_of(valkey), **prefix, **ONE_SLOT)
        async with AsyncClient(base_url=api.url, timeout=90) as client:
            await eventually(lambda: is_ready(client), "Valkey takes its probe")
            await register(client, "ada@example.test")
            await all_jobs_end(database)

        names = [*await operator.keys(), *await operator.pubsub_channels()]
        assert len(names) > 3
        assert [name for name in names if not name.startswith("shop:")] == []
        assert await operator.acl_log() == []


async def is_ready(client: AsyncClient) -> bool:
    return bool((await client.get("/probe/ready")).json()["status"] == "ready")
