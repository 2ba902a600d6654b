"""The API with its role in production, which may do all that the API does."""

from httpx2 import AsyncClient

from app_api.settings import ApiSettings
from app_api.testing import open_client
from app_auth.testing import PASSWORD
from app_db import open_database
from app_db.models import Role
from app_db.repositories.users import UserRepository
from app_db.testing.databases import AppRole
from app_db.types import new_id
from packages.api.tests.conftest import app_of

EMAIL = "ada@example.test"
NEW_PASSWORD = "staple battery horse 43"


async def sign_in(client: AsyncClient, password: str) -> dict[str, str]:
    tokens = (await client.post("/auth/access-token", data={"username": EMAIL, "password": password})).json()
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    return {"refresh_token": tokens["refresh_token"]}


async def test_what_the_api_does_its_role_may(api_settings: ApiSettings, modest_role: AppRole) -> None:
    statuses: dict[str, int] = {}

    async def call(method: str, path: str, **body: str) -> None:
        response = await client.request(method, path, json=body or None)
        statuses[f"{method} {path}"] = response.status_code

    async with open_client(app_of(api_settings.model_copy(update={"database": modest_role.settings}))) as client:
        await call("POST", "/auth/register", email=EMAIL, password=PASSWORD)
        await call("POST", "/auth/password/forgot", email=EMAIL)
        tokens = await sign_in(client, PASSWORD)
        await call("POST", "/auth/refresh-token", **tokens)
        await call("POST", "/auth/password/change", current_password=PASSWORD, new_password=NEW_PASSWORD)
        await call("GET", "/auth/sessions")
        await call("POST", "/auth/sessions/revoke-all")
        await sign_in(client, NEW_PASSWORD)
        async with open_database(modest_role.settings, name="test") as database, database.unit_of_work() as session:
            await UserRepository(session).set_role(EMAIL, Role.OPERATOR)
        await call("POST", "/jobs/queues/default/pause")
        await call("POST", "/jobs/queues/default/resume")
        await call("GET", "/jobs/stats")
        await call("POST", f"/jobs/{new_id()}/cancel")
        await call("DELETE", "/auth/me")
        await call("GET", "/probe/ready")

    assert {path: status for path, status in statuses.items() if status >= 400 and "cancel" not in path} == {}
    assert len(statuses) == 12
