"""`python -m app_api seed`: sample accounts for development."""

import pytest
from httpx2 import AsyncClient

from app_api.seed import OPERATOR, SAMPLES, seed
from app_api.settings import ApiSettings
from app_runtime.configuration import Environment


@pytest.fixture
def development(api_settings: ApiSettings) -> ApiSettings:
    return api_settings.model_copy(update={"env": Environment.DEVELOPMENT})


async def test_seeded_accounts_can_sign_in_with_what_is_printed(client: AsyncClient, development: ApiSettings) -> None:
    lines = await seed(development)

    statuses = {}
    for line in lines:
        email, password = line.split()[0], line.split()[-1]
        response = await client.post("/auth/access-token", data={"username": email, "password": password})
        statuses[email] = response.status_code
    assert statuses == dict.fromkeys((OPERATOR, *SAMPLES), 200)


async def test_seeding_again_changes_nothing(client: AsyncClient, development: ApiSettings) -> None:
    first = await seed(development)

    second = await seed(development)

    assert second == [f"{line.split()[0]} is there already" for line in first]


@pytest.mark.parametrize("env", [Environment.PRODUCTION, Environment.TEST])
async def test_seeding_is_refused_outside_of_development(api_settings: ApiSettings, env: Environment) -> None:
    with pytest.raises(SystemExit, match="APP_ENV=development"):
        await seed(api_settings.model_copy(update={"env": env}))
