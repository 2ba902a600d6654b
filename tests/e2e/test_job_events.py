"""A client follows a job at a running API: live, through a restart of the API, and through an outage of Postgres."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db import Database

from .conftest import StartWorker, api_environment
from .http_site import EMAIL, NO_LIMITS, HttpSite
from .processes import Api, eventually, until


@dataclass
class Followed:
    """What a client has received, as it came: name, data and id of each event."""

    events: list[tuple[str, Any, str]] = field(default_factory=list)  # Any: JSON
    is_over: bool = False

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.events]

    async def receive(self, client: AsyncClient, path: str, headers: dict[str, str]) -> None:
        async with client.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            event: dict[str, str] = {}
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                event[name] = value
                if not line and "event" in event:
                    self.events.append((event["event"], json.loads(event["data"]), event.get("id", "")))
                    event = {}
        self.is_over = True


@asynccontextmanager
async def following(url: str, path: str, **headers: str) -> AsyncIterator[Followed]:
    """Follow a job during the block, in the background."""
    followed = Followed()
    async with AsyncClient(base_url=url, timeout=90) as client:
        receiving = asyncio.create_task(followed.receive(client, path, headers))
        yield followed
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def signed_in(api: Api, email: str) -> dict[str, str]:
    """Register and sign in; return the header of a request."""
    async with AsyncClient(base_url=api.url, timeout=90) as client:
        await client.post("/auth/register", json={"email": email, "password": PASSWORD})
        form = {"username": email, "password": PASSWORD}
        tokens = (await client.post("/auth/access-token", data=form)).json()
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def test_a_job_is_followed_live_and_on_after_a_restart_of_the_api(
    database: Database, valkey_url: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    environment = api_environment(database.settings.url.get_secret_value(), valkey_url)
    environment |= {**NO_LIMITS, "APP_AUTH__VERIFICATION": "off", "APP_HTTP__DRAIN": "PT10S"}
    api = Api(env=environment, log=tmp_path / "first.log")
    header = await signed_in(api, "ada@example.com")
    async with AsyncClient(base_url=api.url, timeout=90) as client:
        job_id = (await client.post("/auth/me/export", headers=header)).json()["job_id"]
    path = f"/jobs/{job_id}/events"

    async with following(api.url, path, **header) as first:
        await until(lambda: first.names == ["state"], "the present state has come")
        api.signal(signal.SIGTERM)
        await until(lambda: first.is_over, "the stream has ended")
    assert (first.names[-1], first.events[-1][1]["code"]) == ("error", "stopping")
    assert api.stop() == 0, api.output

    again = Api(env=environment, log=tmp_path / "again.log", port=api.port)
    async with following(again.url, path, **header, **{"Last-Event-ID": first.events[0][2]}) as second:
        await until(lambda: second.names == ["state"], "the present state has come again")
        assert second.events == first.events[:1]
        start_worker()
        await until(lambda: second.is_over, "the job has ended")
    again.kill()

    assert second.names[-1] == "end"
    assert second.events[-1][1]["state"] == "completed"
    assert second.events[-1][1]["progress"]["step"] == "done"


async def test_streams_outlive_an_outage_of_postgres(http_site: HttpSite) -> None:
    header = {"Authorization": f"Bearer {(await http_site.login(email=EMAIL)).json()['access_token']}"}
    job_id = (await http_site.client.post("/auth/me/export", headers=header)).json()["job_id"]

    async with following(http_site.api.url, f"/jobs/{job_id}/events", **header) as followed:
        await until(lambda: followed.names == ["state"], "the present state has come")
        with http_site.postgres_is_down(signal.SIGQUIT):
            await asyncio.sleep(3)
            assert not followed.is_over
        done = "state = 'completed', finished_at = now(), claim_at = NULL"
        await eventually(lambda: changed(http_site, f"UPDATE jobs SET {done} WHERE id = '{job_id}'"), "it is back")
        await until(lambda: followed.is_over, "the job has ended")

    assert followed.names == ["state", "end"]


async def changed(site: HttpSite, statement: str) -> bool:
    try:
        await site.do(statement)
    except OSError:
        return False
    return True
