"""GET /auth/me: who is asking."""

from httpx2 import AsyncClient

from app_api.lifespan import State
from app_api.testing import SignedIn
from app_db.testing.queries import assert_queries


async def test_me_tells_who_is_asking(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.get("/auth/me", headers=signed_in.headers)

    assert response.status_code == 200
    assert response.json() == {"user_id": str(signed_in.account.id), "email": signed_in.account.email}


async def test_me_costs_one_query(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=1):
        await client.get("/auth/me", headers=signed_in.headers)
