"""/auth/me: reading and deleting one's own account."""

from datetime import timedelta

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select, update

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_auth.testing import MakeAccount
from app_db import Database, Session
from app_db.models import User, UserSession
from app_db.testing.queries import assert_queries
from app_db.types import utcnow


async def test_me_tells_who_is_asking(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.get("/auth/me", headers=signed_in.headers)

    assert response.status_code == 200
    account = {"user_id": str(signed_in.account.id), "email": signed_in.account.email}
    assert response.json() == {**account, "kind": "person", "key": None}


async def test_me_costs_one_query(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=1):
        await client.get("/auth/me", headers=signed_in.headers)


@pytest.mark.parametrize("authorization", [None, "", "Basic YTpi", "BASIC x", 'Digest username="a", realm="b"'])
@pytest.mark.parametrize("path", ["/auth/me", "/auth/sessions"], ids=["with keys", "people only"])
async def test_a_request_without_a_bearer_token_is_not_authenticated(
    client: AsyncClient, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    response = await client.get(path, headers=headers)

    assert assert_problem(response, 401, "not_authenticated")["detail"] == "Not authenticated"
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "token", [b"garbage", b"a.b.c", b"\xc3\xa9\xff", b"x" * 15_000, b"eyJhbGciOiJub25lIn0.e30."], ids=range(5)
)
async def test_a_bad_token_is_invalid_and_costs_no_query(client: AsyncClient, state: State, token: bytes) -> None:
    with assert_queries(state["database"], max=0):
        response = await client.get("/auth/me", headers=[(b"Authorization", b"Bearer " + token)])

    assert assert_problem(response, 401, "invalid_token")["detail"] == "Token invalid"
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("authorization", ["garbage", "Bearer", "Bearer ", "bearer \t", "Bearer  x y"])
async def test_what_is_no_credential_at_all_is_an_invalid_token(client: AsyncClient, authorization: str) -> None:
    response = await client.get("/auth/me", headers={"Authorization": authorization})

    assert_problem(response, 401, "invalid_token")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_the_name_of_the_scheme_may_be_spelled_in_any_case(
    client: AsyncClient, signed_in: SignedIn, scheme: str
) -> None:
    headers = {"Authorization": f"{scheme} {signed_in.tokens.access_token}"}

    assert (await client.get("/auth/me", headers=headers)).status_code == 200


@pytest.mark.parametrize("other", ["Basic YTpi", "Bearer x", ""])
async def test_two_credentials_are_none(client: AsyncClient, signed_in: SignedIn, other: str) -> None:
    headers = [("Authorization", signed_in.headers["Authorization"]), ("Authorization", other)]

    response = await client.get("/auth/me", headers=headers)

    assert_problem(response, 401, "invalid_token")


async def test_a_token_in_the_query_is_not_looked_at(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.get("/auth/me", params={"access_token": signed_in.tokens.access_token})

    assert_problem(response, 401, "not_authenticated")


async def test_deleting_the_account_ends_everything_of_it(
    client: AsyncClient, signed_in: SignedIn, session: Session
) -> None:
    response = await client.delete("/auth/me", headers=signed_in.headers)

    assert response.status_code == 204
    assert response.content == b""
    assert (await session.scalars(select(User))).all() == []
    assert (await session.scalars(select(UserSession))).all() == []
    me = await client.get("/auth/me", headers=signed_in.headers)
    assert assert_problem(me, 401, "invalid_token")["detail"] == "User removed"


async def test_the_address_of_a_deleted_account_may_register_anew(
    client: AsyncClient, signed_in: SignedIn, make_account: MakeAccount
) -> None:
    await client.delete("/auth/me", headers=signed_in.headers)

    account = await make_account(email=signed_in.account.email)

    assert account.id != signed_in.account.id


async def test_deleting_the_account_costs_four_queries(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=4):  # among them the audit, and the job that deletes the rest
        await client.delete("/auth/me", headers=signed_in.headers)


async def test_deleting_the_account_needs_a_fresh_sign_in(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow() - timedelta(minutes=6)))

    response = await client.delete("/auth/me", headers=signed_in.headers)

    assert_problem(response, 403, "reauthentication_required")
    assert (await client.get("/auth/me", headers=signed_in.headers)).status_code == 200
