"""/auth/sessions: where a user is signed in, and how they sign out there."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_auth.audit import Event
from app_auth.testing import PASSWORD, MakeAccount, SignIn
from app_db import Session
from app_db.models import AuditEvent
from app_db.testing.queries import assert_queries
from app_db.types import new_id

type SignInOnce = Callable[[], Awaitable[SignedIn]]

AT_ONCE = 20
ENDINGS = [("POST", "/auth/sessions/revoke-others"), ("POST", "/auth/sessions/revoke-all")]


@pytest.fixture
def once_more(signed_in: SignedIn, sign_in: SignIn) -> SignInOnce:
    """Return a function that signs the same user in somewhere else."""

    async def once_more() -> SignedIn:
        return SignedIn(signed_in.account, await sign_in(signed_in.account))

    return once_more


async def me(client: AsyncClient, somewhere: SignedIn) -> int:
    return (await client.get("/auth/me", headers=somewhere.headers)).status_code


async def current_id(client: AsyncClient, somewhere: SignedIn) -> str:
    items = (await client.get("/auth/sessions", headers=somewhere.headers)).json()["items"]
    return next(str(item["id"]) for item in items if item["current"])


async def test_a_user_sees_where_they_are_signed_in(client: AsyncClient, make_account: MakeAccount) -> None:
    account = await make_account()
    form = {"username": account.email, "password": PASSWORD}
    agents = [b"Lynx/2.9", b"curl\x85 8 " + b"x" * 300]
    tokens = [
        (await client.post("/auth/access-token", data=form, headers=[(b"User-Agent", agent)])).json()
        for agent in agents
    ]

    response = await client.get("/auth/sessions", headers={"Authorization": f"Bearer {tokens[0]['access_token']}"})

    assert response.status_code == 200
    newer, older = response.json()["items"]
    assert (older["current"], newer["current"]) == (True, False)
    assert (older["user_agent"], newer["user_agent"]) == ("Lynx/2.9", ("curl 8 " + "x" * 300)[:256])
    assert older["client_address"] == "127.0.0.1"
    assert datetime.fromisoformat(older["created_at"]) == datetime.fromisoformat(older["last_used_at"])
    assert int(datetime.fromisoformat(older["expires_at"]).timestamp()) == tokens[0]["refresh_token_expires_at"]


async def test_the_list_costs_two_queries(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    await client.get("/auth/sessions", headers=signed_in.headers)

    with assert_queries(state["database"], max=2):
        await client.get("/auth/sessions", headers=signed_in.headers)


async def test_a_session_that_was_revoked_is_refused_at_once(
    client: AsyncClient, signed_in: SignedIn, once_more: SignInOnce
) -> None:
    there = await once_more()

    response = await client.delete(f"/auth/sessions/{await current_id(client, there)}", headers=signed_in.headers)

    assert response.status_code == 204
    assert (await me(client, there), await me(client, signed_in)) == (401, 200)
    refreshed = await client.post("/auth/refresh-token", json={"refresh_token": there.tokens.refresh_token})
    assert_problem(refreshed, 400, "invalid_grant")


async def test_a_session_that_is_not_there_or_not_theirs_cannot_be_revoked(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn
) -> None:
    answers = [
        await client.delete(f"/auth/sessions/{session_id}", headers=operator.headers)
        for session_id in (new_id(), await current_id(client, signed_in))
    ]

    details = [assert_problem(answer, 404, "not_found")["detail"] for answer in answers]
    assert details[0] == details[1]
    assert await me(client, signed_in) == 200


async def test_revoking_others_over_http_keeps_the_current_one(
    client: AsyncClient, signed_in: SignedIn, once_more: SignInOnce
) -> None:
    elsewhere = [await once_more() for _ in range(2)]

    response = await client.post("/auth/sessions/revoke-others", headers=signed_in.headers)

    assert response.status_code == 204
    assert [await me(client, one) for one in (signed_in, *elsewhere)] == [200, 401, 401]


async def test_revoking_all_over_http_ends_the_current_one(
    client: AsyncClient, signed_in: SignedIn, once_more: SignInOnce
) -> None:
    there = await once_more()

    response = await client.post("/auth/sessions/revoke-all", headers=signed_in.headers)

    assert response.status_code == 204
    assert [await me(client, one) for one in (signed_in, there)] == [401, 401]


async def test_sessions_that_are_refreshed_while_they_are_revoked_end(
    client: AsyncClient, signed_in: SignedIn, once_more: SignInOnce
) -> None:
    elsewhere = [await once_more() for _ in range(AT_ONCE)]

    revoked, *refreshed = await asyncio.gather(
        client.post("/auth/sessions/revoke-others", headers=signed_in.headers),
        *(client.post("/auth/refresh-token", json={"refresh_token": one.tokens.refresh_token}) for one in elsewhere),
    )

    assert revoked.status_code == 204
    assert {response.status_code for response in refreshed} <= {200, 400}
    assert {await me(client, one) for one in elsewhere} == {401}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/auth/sessions"), ("DELETE", f"/auth/sessions/{UUID(int=0)}"), *ENDINGS]
)
async def test_sessions_are_for_whoever_is_signed_in(client: AsyncClient, method: str, path: str) -> None:
    assert_problem(await client.request(method, path), 401, "not_authenticated")


@pytest.mark.parametrize("username", ["known", "unknown"])
async def test_a_failed_login_is_audited(
    client: AsyncClient, signed_in: SignedIn, session: Session, username: str
) -> None:
    email = signed_in.account.email if username == "known" else "nobody@example.test"

    response = await client.post("/auth/access-token", data={"username": email, "password": "wrong"})

    request_id = assert_problem(response, 400, "invalid_grant")["request_id"]
    [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == Event.SIGN_IN_FAILED))
    assert (row.request_id, row.client_address) == (request_id, "127.0.0.1")
    assert row.user_id == (signed_in.account.id if username == "known" else None)
