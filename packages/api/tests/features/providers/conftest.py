"""A provider that tests may bend, and a client that asks it."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import httpx2
import pytest
import pytest_asyncio

from app_api.feature_settings import ALL_SETTINGS
from app_api.features.providers.client import OpenId
from app_api.features.providers.names import NamedTransport
from app_api.settings import ApiSettings
from app_api.testing import client_of
from app_auth.features.providers.states import States
from app_auth.settings import AuthSettings
from app_db import Database
from app_db.features.providers.settings import ProviderSettings
from packages.api.tests.conftest import app_of, lending
from packages.api.tests.features.providers.issuer import Issuer, open_issuer


@pytest.fixture(scope="session")
def running_issuer() -> Iterator[Issuer]:
    """The provider of all tests in this process."""
    with open_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(running_issuer: Issuer) -> Issuer:
    """A provider that nobody has bent."""
    vars(running_issuer).update(vars(Issuer(url=running_issuer.url)))
    return running_issuer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """Connections to providers; what was asked is remembered elsewhere."""
    async with httpx2.AsyncClient(transport=NamedTransport(), timeout=10) as http:
        yield http


@pytest.fixture
def provider_settings(issuer: Issuer) -> ProviderSettings:
    """Settings with that provider."""
    return ProviderSettings(
        openid=(issuer.provider,), client_callback="http://localhost/signed-in/{name}", timeout=timedelta(seconds=8)
    )


@pytest.fixture
def openid(provider_settings: ProviderSettings, http: httpx2.AsyncClient) -> OpenId:
    """A client that has asked nothing yet."""
    return OpenId(provider_settings, http)


@pytest.fixture
def states(auth_settings: AuthSettings) -> States:
    """The states of the API under test."""
    return States(auth_settings)


@pytest.fixture
def settings(api_settings: ApiSettings, provider_settings: ProviderSettings, database: Database) -> ApiSettings:
    """The settings of an API that knows the provider; what is committed is deleted after the test."""
    return ALL_SETTINGS.model_validate({**dict(api_settings), "providers": provider_settings})


@pytest_asyncio.fixture(loop_scope="session")
async def api(settings: ApiSettings, api_database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that API."""
    app = app_of(settings)
    async with lending(settings, api_database)(app) as state, client_of(app, state) as client:
        yield client
