"""POST /auth/reset-password: a new password, with the current one as proof."""

from httpx2 import AsyncClient

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_auth.testing import SignIn
from app_db.testing.queries import assert_queries

NEW = "another horse battery 43"


def change(signed_in: SignedIn, *, new: str = NEW, current: str = "") -> dict[str, str]:
    return {"password": new, "current_password": current or signed_in.account.password}


async def test_a_changed_password_replaces_the_old_one(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post("/auth/reset-password", json=change(signed_in), headers=signed_in.headers)

    assert response.status_code == 204
    username = signed_in.account.email
    old = await client.post("/auth/access-token", data={"username": username, "password": signed_in.account.password})
    new = await client.post("/auth/access-token", data={"username": username, "password": NEW})
    assert (old.status_code, new.status_code) == (400, 200)


async def test_a_changed_password_ends_the_other_sessions_only(
    client: AsyncClient, signed_in: SignedIn, sign_in: SignIn
) -> None:
    other = SignedIn(signed_in.account, await sign_in(signed_in.account))

    await client.post("/auth/reset-password", json=change(signed_in), headers=signed_in.headers)

    assert (await client.get("/auth/me", headers=signed_in.headers)).status_code == 200
    assert_problem(await client.get("/auth/me", headers=other.headers), 401, "invalid_token")


async def test_a_wrong_current_password_changes_nothing(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post(
        "/auth/reset-password", json=change(signed_in, current="wrong"), headers=signed_in.headers
    )

    assert assert_problem(response, 400, "invalid_grant")["detail"] == "Incorrect email or password"
    form = {"username": signed_in.account.email, "password": signed_in.account.password}
    assert (await client.post("/auth/access-token", data=form)).status_code == 200


async def test_a_weak_new_password_is_refused(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post("/auth/reset-password", json=change(signed_in, new="x"), headers=signed_in.headers)

    assert_problem(response, 422, "password_too_short")


async def test_changing_a_password_needs_a_token(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post("/auth/reset-password", json=change(signed_in))

    assert_problem(response, 401, "not_authenticated")


async def test_changing_a_password_costs_seven_queries(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=7):
        await client.post("/auth/reset-password", json=change(signed_in), headers=signed_in.headers)
