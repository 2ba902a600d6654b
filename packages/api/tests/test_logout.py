"""POST /auth/logout."""

from httpx2 import AsyncClient

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_db.testing.queries import assert_queries


async def test_logging_out_ends_both_tokens_at_once(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post("/auth/logout", headers=signed_in.headers)

    assert response.status_code == 204
    me = await client.get("/auth/me", headers=signed_in.headers)
    assert assert_problem(me, 401, "invalid_token")["detail"] == "Session ended"
    refreshed = await client.post("/auth/refresh-token", json={"refresh_token": signed_in.tokens.refresh_token})
    assert_problem(refreshed, 400, "invalid_grant")


async def test_logging_out_twice_is_no_error(client: AsyncClient, signed_in: SignedIn) -> None:
    await client.post("/auth/logout", headers=signed_in.headers)

    response = await client.post("/auth/logout", headers=signed_in.headers)

    assert response.status_code == 204


async def test_logging_out_costs_two_queries(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=2):
        await client.post("/auth/logout", headers=signed_in.headers)


async def test_logging_out_needs_a_token(client: AsyncClient) -> None:
    assert_problem(await client.post("/auth/logout"), 401, "not_authenticated")
