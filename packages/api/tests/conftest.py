"""The API as a client sees it: the real application, its lifespan run, on the test's own Postgres and Valkey.

`async def test_x(client: AsyncClient, signed_in: SignedIn) -> None` is all that most tests need. A test that needs
other settings opens its own application: `async with open_client(create_app(settings)) as client`.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from threading import Event

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient

from app_api.app import create_app
from app_api.lifespan import State, lifespan_of
from app_api.metrics import Metrics
from app_api.resources import RESOURCES
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, client_of, run_lifespan
from app_auth.limits import ThrottleSettings
from app_auth.settings import AuthSettings
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.models import Role
from app_db.settings import DatabaseSettings
from app_runtime.telemetry.logs import configure_logging


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


@pytest.fixture(scope="session")
def shared_app(api_settings: ApiSettings) -> FastAPI:
    """Return the application of all tests that take no `app`; FastAPI prepares its routes for 0.1 s."""
    return create_app(api_settings)


@pytest.fixture
def app(api_settings: ApiSettings) -> FastAPI:
    """Return the application of one test, which may add routes to it and read its metrics."""
    return create_app(api_settings)


@pytest_asyncio.fixture(loop_scope="session")
async def state(request: pytest.FixtureRequest, api_settings: ApiSettings, database: Database) -> AsyncIterator[State]:
    """The state that the lifespan of this test opened: `assert_queries(state["database"], max=1)` counts on it."""
    if "app" in request.fixturenames:
        lifespan: AbstractAsyncContextManager[State] = run_lifespan(request.getfixturevalue("app"))
    else:  # metrics of its own, because those of an application are registered once
        open_state = lifespan_of(api_settings, Event(), Metrics(), None, resources=RESOURCES)
        lifespan = open_state(request.getfixturevalue("shared_app"))
    async with lifespan as state:
        yield state


@pytest_asyncio.fixture(loop_scope="session")
async def client(request: pytest.FixtureRequest, state: State) -> AsyncIterator[AsyncClient]:
    """A client of the application; what its requests commit is deleted after the test."""
    app = request.getfixturevalue("app" if "app" in request.fixturenames else "shared_app")
    async with client_of(app, state) as client:
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
