"""Processes of the API end: SIGTERM costs no request, SIGKILL only those that the process was answering."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from httpx2 import AsyncClient, RemoteProtocolError, Response, TransportError

from app_auth.testing import PASSWORD

from .http_site import EMAIL, NO_HANG, ROLE, HttpSite
from .processes import Api, eventually, until
from .proxy import proxied

WAITING = f"SELECT FROM pg_stat_activity WHERE usename = '{ROLE}' AND wait_event_type = 'Lock'"
CLIENTS = 8
DELAY = {"APP_HTTP__DRAIN_DELAY": "3"}
"""The delay of production, in which proxies notice that the process stops; other environments have none."""
LONG_SECONDS = 9.0
"""How long a request still takes after SIGTERM; up to ten are promised."""


@pytest.fixture
def site(http_site: HttpSite) -> HttpSite:
    """A running API with a signed-in user."""
    return http_site


async def test_sign_ins_that_run_when_it_is_told_to_stop_are_answered(site: HttpSite) -> None:
    api, last_part = site.start_api(**DELAY), asyncio.Event()
    async with AsyncClient(base_url=api.url, timeout=LONG_SECONDS + NO_HANG) as client:
        long = asyncio.create_task(slow_login(client, last_part))
        async with site.locked("users"):
            sign_ins = [asyncio.create_task(site.login(client=client)) for _ in range(20)]
            await eventually(lambda: site.ask(WAITING), "sign-ins wait for the table")
            api.signal(signal.SIGTERM)
        await asyncio.sleep(LONG_SECONDS)
        last_part.set()
        answers = await asyncio.gather(long, *sign_ins)
    await until(lambda: not api.is_running(), "it has ended")

    assert {answer.status_code for answer in answers} == {200}
    assert "timeout graceful shutdown exceeded" not in api.output  # no request had to be cut off
    assert api.stop() == 0, api.output


async def test_whoever_comes_new_to_a_process_that_is_stopping_is_sent_away(site: HttpSite) -> None:
    api, last_part = site.start_api(**DELAY), asyncio.Event()
    told = [await probe_of_a_newcomer(api)]
    async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
        running = asyncio.create_task(slow_login(client, last_part))
        await site.login(client=client)  # so that the slow request has arrived, too
        api.signal(signal.SIGTERM)
        while told[-1] is not None:
            told.append(await probe_of_a_newcomer(api))
        last_part.set()
        answer = await running

    assert list(dict.fromkeys(told)) == [200, 503, None]
    assert answer.status_code == 200
    assert api.stop() == 0, api.output


async def slow_login(client: AsyncClient, last_part: asyncio.Event) -> Response:
    """Sign in with a body whose second part is sent once `last_part` is set."""
    body = urlencode({"username": EMAIL, "password": PASSWORD}).encode()

    async def parts() -> AsyncIterator[bytes]:
        yield body[:10]
        await last_part.wait()
        yield body[10:]

    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
    return await client.post("/auth/access-token", content=parts(), headers=headers)


async def probe_of_a_newcomer(api: Api) -> int | None:
    """Return the status of a probe over a new connection; None if that is refused, or closed without an answer."""
    try:
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
            return (await client.get("/probe/ready")).status_code
    except TransportError:
        return None


@asynccontextmanager
async def behind_the_proxy(site: HttpSite, folder: Path) -> AsyncIterator[tuple[Api, Counter[str]]]:
    """Put load on two processes behind the proxy; give the one that the test ends, and the count of answers."""
    api = site.start_api(**DELAY)
    places = [each.url.removeprefix("http://") for each in (api, site.api)]
    answers: Counter[str] = Counter()

    async def count(kind: str, ask: Callable[..., Awaitable[Response]], client: AsyncClient) -> None:
        while not done.is_set():
            try:
                answers[f"{kind} {(await ask(client=client)).status_code}"] += 1
            except RemoteProtocolError as error:
                begun = "complete message body" in str(error)
                answers[f"{kind} {'cut short' if begun else 'not answered'}"] += 1

    done = asyncio.Event()
    with proxied(*places, log=folder / "proxy.log") as port:
        async with (
            AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=NO_HANG) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for kind, ask in (("read", site.me), ("write", site.register)) * CLIENTS:
                tasks.create_task(count(kind, ask, client))
            await until(lambda: answers["read 200"] > 50 and answers["write 201"] > 50, "the load is on")
            yield api, answers
            served = answers["write 201"]
            await until(lambda: answers["write 201"] > served + 50, "the other one serves")
            done.set()


async def test_a_process_that_is_killed_takes_no_more_along_than_what_it_was_writing(
    site: HttpSite, tmp_path: Path
) -> None:
    async with behind_the_proxy(site, tmp_path) as (api, answers):
        api.kill()

    # The proxy repeats a read on the other process, unless the client has got the status of the first answer.
    served = {"read 200", "write 201"}
    assert set(answers) <= served | {"read cut short", "write cut short", "write 502", "write not answered"}
    assert answers.total() - sum(answers[kind] for kind in served) <= 2 * CLIENTS
    await site.nothing_is_left_open()


async def test_a_process_that_is_told_to_stop_behind_the_proxy_costs_no_request(site: HttpSite, tmp_path: Path) -> None:
    async with behind_the_proxy(site, tmp_path) as (api, answers):
        code = await asyncio.to_thread(api.stop)

    assert code == 0
    assert set(answers) == {"read 200", "write 201"}
