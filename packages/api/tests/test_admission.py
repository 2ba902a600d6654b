"""How many requests run at once, and for how long each."""

import asyncio
from collections.abc import AsyncIterator
from threading import Event

import pytest
from fastapi import FastAPI, Request
from httpx2 import AsyncClient
from sqlalchemy import func, select, text

from app_api.dependencies import SessionDep
from app_api.settings import ApiSettings, ConsoleSettings
from app_api.testing import assert_problem, client_of, open_client, run_lifespan
from packages.api.tests.conftest import app_of

PATIENCE = 45


def with_http(settings: ApiSettings, **changed: object) -> ApiSettings:
    """Return the settings with other values of `APP_HTTP__…`."""
    return ApiSettings.model_validate(settings.model_dump() | {"http": changed})


class BlockingRoute:
    """A route whose requests wait until the test sets `release`."""

    def __init__(self, app: FastAPI) -> None:
        self.release = asyncio.Event()
        self.running = 0
        self.cancelled = 0
        app.add_api_route("/blocking", self.enter)

    async def enter(self) -> str:
        self.running += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "released"

    async def wait_for(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.running < number:  # noqa: ASYNC110  # requests come by themselves
                await asyncio.sleep(0.005)


@pytest.mark.parametrize("path", ["/probe/live", "/probe/health", "/probe/ready"])
async def test_a_full_process_still_answers_probes(api_settings: ApiSettings, path: str) -> None:
    app = app_of(with_http(api_settings, max_requests=1))
    route = BlockingRoute(app)
    async with open_client(app) as client:
        running = asyncio.create_task(client.get("/blocking"))
        await route.wait_for(1)

        response = await client.get(path)

        route.release.set()
        await running
    assert response.status_code == 200


async def test_one_request_too_many_is_told_to_come_back(api_settings: ApiSettings) -> None:
    app = app_of(with_http(api_settings, max_requests=2))
    route = BlockingRoute(app)
    async with open_client(app) as client:
        running = [asyncio.create_task(client.get("/blocking")) for _ in range(2)]
        await route.wait_for(2)

        refused = await client.get("/blocking")

        route.release.set()
        answered = await asyncio.gather(*running)
    assert_problem(refused, 503, "overloaded")
    assert refused.headers["Retry-After"] == "1"
    assert [response.status_code for response in answered] == [200, 200]


async def test_a_place_is_free_again_after_its_request(api_settings: ApiSettings) -> None:
    async with open_client(app_of(with_http(api_settings, max_requests=1))) as client:
        statuses = [(await client.get("/auth/me")).status_code for _ in range(3)]

    assert statuses == [401, 401, 401]


async def test_a_request_whose_body_is_on_its_way_takes_no_place(api_settings: ApiSettings) -> None:
    begun = asyncio.Event()
    forever = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        begun.set()
        await forever.wait()

    async with open_client(app_of(with_http(api_settings, max_requests=1))) as client:
        slow = asyncio.create_task(
            client.post("/auth/logout", content=slowly(), headers={"Content-Type": "application/json"})
        )
        await begun.wait()

        response = await client.get("/auth/me")

        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
    assert response.status_code == 401


async def test_a_request_that_takes_too_long_is_given_up(api_settings: ApiSettings) -> None:
    app = app_of(with_http(api_settings, request_timeout="PT0.1S"))
    route = BlockingRoute(app)
    async with open_client(app) as client:
        response = await client.get("/blocking")

    assert_problem(response, 503, "timeout")
    assert route.cancelled == 1


async def test_a_request_that_begins_late_is_given_up_before_the_end(api_settings: ApiSettings) -> None:
    stopping = Event()
    app = app_of(with_http(api_settings, request_timeout="PT10M", drain="PT1S"), stopping=stopping)
    route = BlockingRoute(app)
    async with open_client(app) as client, asyncio.timeout(PATIENCE) as patience:
        early = asyncio.create_task(client.get("/blocking"))
        await route.wait_for(1)
        stopping.set()

        late = await client.get("/blocking")

        assert not patience.expired()  # else this test cut it off
        route.release.set()
        assert (await early).status_code == 200
    assert_problem(late, 503, "timeout")


async def test_what_the_end_cuts_off_is_told_to_come_back(api_settings: ApiSettings) -> None:
    stopping = Event()
    app = app_of(api_settings, stopping=stopping)
    route = BlockingRoute(app)
    async with open_client(app) as client, asyncio.timeout(PATIENCE):
        request = asyncio.create_task(client.get("/blocking"))
        await route.wait_for(1)
        stopping.set()

        request.cancel()  # as the server does

        assert_problem(await request, 503, "timeout")


async def test_what_is_given_up_holds_no_connection(api_settings: ApiSettings) -> None:
    app = app_of(with_http(api_settings, request_timeout="PT0.5S"))

    @app.post("/slow")
    async def slow(session: SessionDep) -> None:
        await session.execute(text("SELECT pg_sleep(2)"))

    async with run_lifespan(app) as state, client_of(app, state) as client:
        response = await client.post("/slow")

        assert_problem(response, 503, "timeout")
        assert state["database"].engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of every real pool


async def test_two_slow_pieces_of_one_request_share_its_deadline(api_settings: ApiSettings) -> None:
    database = {"url": api_settings.database.url, "request_timeout": "PT1S"}
    app = app_of(ApiSettings.model_validate(api_settings.model_dump() | {"database": database}))

    @app.get("/slow")
    async def slow(request: Request, pieces: int) -> None:
        for _ in range(pieces):
            async with request.state.database.unit_of_work(read_only=True) as session:
                await session.execute(select(func.pg_sleep(0.6)))

    async with open_client(app) as client:
        each_of_two_requests = [await client.get("/slow?pieces=1") for _ in range(2)]
        both_of_one = await client.get("/slow?pieces=2")

    assert [response.status_code for response in each_of_two_requests] == [200, 200]
    assert_problem(both_of_one, 503, "database_unavailable")


async def test_a_time_out_of_the_work_itself_is_a_fault_of_ours(app: FastAPI, client: AsyncClient) -> None:
    @app.get("/impatient")
    async def impatient() -> None:
        raise TimeoutError

    assert_problem(await client.get("/impatient"), 500, "internal_error")


async def test_an_open_page_takes_no_place_of_a_request(api_settings: ApiSettings) -> None:
    settings = with_http(api_settings, max_requests=1, request_timeout=0.2)
    app = app_of(settings.model_copy(update={"console": ConsoleSettings(enabled=False)}))
    route = BlockingRoute(app)
    app.add_api_route("/console/live", route.enter)
    async with open_client(app) as client:
        watching = asyncio.create_task(client.get("/console/live"))
        await route.wait_for(1)
        await asyncio.sleep(0.5)

        assert (await client.get("/auth/me")).status_code == 401

        route.release.set()
        assert (await watching).status_code == 200
