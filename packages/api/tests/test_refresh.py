"""POST /auth/refresh-token: rotation, the grace, the end of a family."""

import asyncio
from datetime import timedelta

import pytest
from httpx2 import AsyncClient, Response

from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_db import Database
from app_db.testing.queries import assert_queries
from packages.api.tests.conftest import app_of


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post("/auth/refresh-token", json={"refresh_token": token})


async def me_status(client: AsyncClient, access_token: str) -> int:
    return (await client.get("/auth/me", headers={"Authorization": f"Bearer {access_token}"})).status_code


@pytest.fixture
def without_grace(api_settings: ApiSettings) -> ApiSettings:
    """Settings without a grace, so that a refresh token works once; one connection must be enough."""
    auth = api_settings.auth.model_copy(update={"refresh_grace": timedelta(0)})
    database = api_settings.database.model_copy(update={"pool_size": 1})
    return api_settings.model_copy(update={"auth": auth, "database": database})


async def test_a_refresh_answers_with_the_successor(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await refresh(client, signed_in.tokens.refresh_token)

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    tokens = response.json()
    assert set(tokens) == {"token_type", "access_token", "expires_at", "refresh_token", "refresh_token_expires_at"}
    assert tokens["refresh_token"] != signed_in.tokens.refresh_token
    assert await me_status(client, tokens["access_token"]) == 200


async def test_a_refresh_costs_one_query(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=1):
        await refresh(client, signed_in.tokens.refresh_token)


async def test_twenty_parallel_refreshes_get_one_successor(client: AsyncClient, signed_in: SignedIn) -> None:
    token = signed_in.tokens.refresh_token

    responses = await asyncio.gather(*(refresh(client, token) for _ in range(20)))

    assert [response.status_code for response in responses] == [200] * 20
    assert len({response.json()["refresh_token"] for response in responses}) == 1
    assert {await me_status(client, response.json()["access_token"]) for response in responses} == {200}


async def test_reuse_over_http_ends_the_family(
    database: Database, without_grace: ApiSettings, signed_in: SignedIn
) -> None:
    async with open_client(app_of(without_grace)) as client:
        successor = (await refresh(client, signed_in.tokens.refresh_token)).json()

        reused = await refresh(client, signed_in.tokens.refresh_token)

        problem = assert_problem(reused, 400, "invalid_grant")
        assert problem["detail"] == "Refresh token already used"
        assert problem["error"] == "invalid_grant"
        # The error's aftermath was written although the transaction of the request was rolled back.
        newest = await refresh(client, successor["refresh_token"])
        assert assert_problem(newest, 400, "invalid_grant")["detail"] == "Refresh token not found"
        assert await me_status(client, successor["access_token"]) == 401


async def test_an_expired_refresh_token_is_refused(
    client: AsyncClient, api_settings: ApiSettings, signed_in: SignedIn
) -> None:
    auth = api_settings.auth.model_copy(update={"refresh_idle": timedelta(microseconds=1)})
    async with open_client(app_of(api_settings.model_copy(update={"auth": auth}))) as other:
        short = (await refresh(other, signed_in.tokens.refresh_token)).json()

    response = await refresh(client, short["refresh_token"])

    assert assert_problem(response, 400, "invalid_grant")["detail"] == "Refresh token expired"
    me = await client.get("/auth/me", headers={"Authorization": f"Bearer {short['access_token']}"})
    assert assert_problem(me, 401, "invalid_token")["detail"] == "Session ended"


async def test_a_token_that_is_not_a_refresh_token_is_not_found(client: AsyncClient, signed_in: SignedIn) -> None:
    good = signed_in.tokens.refresh_token
    flipped = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]

    for token in ("", "x", flipped, good[:-1], good[:250] + good[:250], "rt_..", f"rt_{'0' * 32}.0.x"):
        response = await refresh(client, token)

        assert assert_problem(response, 400, "invalid_grant")["detail"] == "Refresh token not found"
    assert (await refresh(client, good)).status_code == 200


async def test_a_forged_refresh_token_costs_no_query(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=0):
        await refresh(client, f"rt_{'0' * 32}.0.x")


async def test_an_access_token_is_no_refresh_token(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await refresh(client, signed_in.tokens.access_token)

    assert_problem(response, 400, "invalid_grant")


async def test_a_refresh_token_of_unusual_length_is_refused(client: AsyncClient) -> None:
    response = await refresh(client, "x" * 513)

    assert_problem(response, 400, "invalid_grant")
