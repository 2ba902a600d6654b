"""The API as a client sees it: the real application, its lifespan run, on the test's own Postgres and Valkey.

`async def test_x(client: AsyncClient, signed_in: SignedIn) -> None` is all that most tests need. A test that needs
other settings opens its own application: `async with open_client(app_of(settings)) as client`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.routing import _IncludedRouter
from httpx2 import ASGITransport, AsyncClient, Response
from sqlalchemy import delete, func
from starlette.types import ASGIApp, Receive, Scope, Send

from app_api.app import create_app
from app_api.lifespan import State, lifespan_of
from app_api.metrics import Metrics
from app_api.resources import RESOURCES
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, client_of, run_lifespan
from app_auth.limits import ThrottleSettings
from app_auth.settings import AuthSettings
from app_auth.testing import Account, MakeAccount, SignIn, new_key
from app_db import Database, open_database
from app_db.models import FINAL_STATES, Job, JobError, JobState, Role
from app_db.pool import pools_of
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_runtime.telemetry.logs import configure_logging

from .compiled_templates import CompiledTemplates


@pytest.fixture(scope="session")
def api_settings(
    database_settings: DatabaseSettings,
    valkey_url: str,
    auth_settings: AuthSettings,
    throttle_settings: ThrottleSettings,
) -> ApiSettings:
    """Return the settings of an API on the servers of this test process; it logs as in production."""
    settings = ApiSettings.model_validate(
        {
            "env": "test",
            "database": database_settings,
            "redis": {"url": valkey_url},
            "auth": auth_settings,
            "throttle": throttle_settings,
        }
    )
    configure_logging(settings.log)
    return settings


def limited(settings: ApiSettings, **limits: str) -> ApiSettings:
    """Return settings with these limits, and a pepper of their own: what other tests have just done does not count."""
    auth = settings.auth.model_copy(update={"peppers": (new_key(),)})
    throttle = settings.throttle.model_copy(update=limits)
    return settings.model_copy(update={"auth": auth, "throttle": throttle})


_analysed: dict[int, _IncludedRouter] = {}
_compiled = CompiledTemplates()


def app_of(settings: ApiSettings, **options: Any) -> FastAPI:  # Any: those of create_app
    """Build an application; its routes are those of the first one, so FastAPI analyses them once, and not for 0.1 s.

    It also keeps the last 4,096 functions of routes, and with them applications: hundreds, which the collection of
    garbage looked through for seconds. Nothing is kept at routes but `dependency_overrides`, which no test of ours has.
    """
    app = create_app(settings, **options)
    for number, route in enumerate(app.router.routes):
        if isinstance(route, _IncludedRouter):
            first = _analysed.setdefault(id(route.original_router), route)
            ours = replace(route.include_context, dependency_overrides_provider=None)
            assert ours == replace(first.include_context, dependency_overrides_provider=None)
            app.router.routes[number] = first
    if (console := getattr(app.state, "console", None)) is not None:
        console.templates.bytecode_cache = _compiled
    return app


@pytest.fixture(scope="session")
def shared_app(api_settings: ApiSettings) -> FastAPI:
    """Return the application of all tests that take no `app`."""
    return app_of(api_settings)


@pytest.fixture
def app(api_settings: ApiSettings) -> FastAPI:
    """Return the application of one test, which may add routes to it and read its metrics."""
    return app_of(api_settings)


@pytest.fixture
def served_app(request: pytest.FixtureRequest) -> FastAPI:
    """Return the application that answers in this test: one of its own if it takes `app`, else that of all tests."""
    app: FastAPI = request.getfixturevalue("app" if "app" in request.fixturenames else "shared_app")
    return app


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api_database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The engines of the API in all tests that take no `app`: opened anew, they cost a third of such a test.

    It would connect again, and compile each statement again.
    """
    async with open_database(database_settings, name="api") as database:
        yield database


def lending(settings: ApiSettings, lent: Database) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """Return a lifespan on a database that stays open, with metrics of its own: those of an app are registered once."""
    assert settings.database == lent.settings

    @asynccontextmanager
    async def lend(*_: object, **__: object) -> AsyncIterator[Database]:
        yield lent
        async with asyncio.timeout(30):  # what a request keeps, it would keep from all tests that follow
            while any(pool.checkedout() for _, pool in pools_of(lent.engines)):  # noqa: ASYNC110  # there is no event
                await asyncio.sleep(0.001)

    return lifespan_of(settings, Event(), Metrics(), None, resources=RESOURCES, opening=lend)


@pytest_asyncio.fixture(loop_scope="session")
async def state(
    request: pytest.FixtureRequest,
    served_app: FastAPI,
    api_settings: ApiSettings,
    api_database: Database,
    database: Database,
) -> AsyncIterator[State]:
    """The state that the lifespan of this test opened: `assert_queries(state["database"], max=1)` counts on it."""
    has_its_own = "app" in request.fixturenames
    lifespan = run_lifespan if has_its_own else lending(api_settings, api_database)
    async with lifespan(served_app) as state:
        yield state


@pytest_asyncio.fixture(loop_scope="session")
async def client(served_app: FastAPI, state: State) -> AsyncIterator[AsyncClient]:
    """A client of the application; what its requests commit is deleted after the test."""
    async with client_of(served_app, state) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def signed_in(make_account: MakeAccount, sign_in: SignIn) -> SignedIn:
    """A user who has registered and signed in just now, so their headers are accepted."""
    account = await make_account()
    return SignedIn(account, await sign_in(account))


@pytest_asyncio.fixture(loop_scope="session")
async def operator(make_account: MakeAccount, sign_in: SignIn) -> SignedIn:
    """An operator who has signed in just now."""
    account = await make_account(role=Role.OPERATOR)
    return SignedIn(account, await sign_in(account))


# --- browsers --------------------------------------------------------------------------------------------------------

OUR_FORM = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Browser:
    """A client of the console."""

    client: AsyncClient

    async def get(self, path: str, **headers: str) -> Response:
        """Open a page."""
        return await self.client.get(path, headers={"Sec-Fetch-Site": "none", **headers})

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Response:
        """Send a form of our own page."""
        return await self.client.post(path, data=fields, headers=OUR_FORM if headers is None else headers)

    async def sign_in(self, account: Account) -> Response:
        """Sign in by the form."""
        response = await self.post("/console/sign-in", email=account.email, password=account.password)
        assert response.status_code == 303, response.text
        return response


type MakeJob = Callable[..., Awaitable[UUID]]
type OpenBrowser = Callable[[], Browser]


@asynccontextmanager
async def browser_of(app: ASGIApp, state: State) -> AsyncIterator[Browser]:
    """Open a browser at an application that is running."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    # https, because http.cookiejar knows no loopback over which a Secure cookie may go.
    async with AsyncClient(transport=ASGITransport(with_state), base_url="https://localhost") as client:
        yield Browser(client)


@pytest_asyncio.fixture(loop_scope="session")
async def open_browser(served_app: FastAPI, state: State) -> AsyncIterator[OpenBrowser]:
    """Return a function that opens one more browser, with cookies of its own."""
    async with AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(browser_of(served_app, state)) for _ in range(4)]
        yield browsers.pop


@pytest_asyncio.fixture(loop_scope="session")
async def browser(open_browser: OpenBrowser) -> Browser:
    """A browser in which nobody is signed in."""
    return open_browser()


@pytest_asyncio.fixture(loop_scope="session")
async def ada(make_account: MakeAccount) -> Account:
    """An account."""
    return await make_account()


@pytest_asyncio.fixture(loop_scope="session")
async def signed_in_browser(open_browser: OpenBrowser, ada: Account) -> Browser:
    """A browser in which Ada is signed in."""
    browser = open_browser()
    await browser.sign_in(ada)
    return browser


@pytest_asyncio.fixture(loop_scope="session")
async def operator_browser(open_browser: OpenBrowser, make_account: MakeAccount) -> Browser:
    """A browser in which an operator is signed in."""
    browser = open_browser()
    await browser.sign_in(await make_account(role=Role.OPERATOR))
    return browser


@pytest_asyncio.fixture(loop_scope="session")
async def make_job(database: Database, operator_browser: Browser, ada: Account) -> MakeJob:
    """A factory of committed jobs, with an error each if one is given; the mails to both accounts are gone."""
    async with database.unit_of_work() as session:
        await session.execute(delete(Job))

    # Any: columns of Job
    async def make(state: JobState = JobState.AVAILABLE, *, error: str | None = None, **columns: Any) -> UUID:
        times = {"finished_at": func.now()} if state in FINAL_STATES else {"claim_at": func.now()}
        defaults = {"id": new_id(), "kind": "test.note", "payload": {}, "payload_version": 1, "state": state, **times}
        job = Job(**{**defaults, **columns})
        async with database.unit_of_work() as session:
            session.add(job)
            await session.flush()
            if error is not None:
                session.add(JobError(id=new_id(), job_id=job.id, attempt=1, error=error, trace=f"Traceback: {error}"))
            return job.id

    return make
