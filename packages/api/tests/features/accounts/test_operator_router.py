"""/accounts and /audit: for operators, found by a filter, acted on after a fresh sign-in where that locks out."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from httpx2 import AsyncClient
from sqlalchemy import text

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_auth.testing import PASSWORD
from app_db import Database
from app_db.testing.queries import assert_queries
from app_db.types import new_id


@pytest.mark.parametrize("path", ["/accounts", "/audit", "/accounts/00000000-0000-7000-8000-000000000001"])
async def test_accounts_and_the_audit_are_for_operators(client: AsyncClient, signed_in: SignedIn, path: str) -> None:
    assert_problem(await client.get(path, headers=signed_in.headers), 403, "operator_required")
    assert_problem(await client.get(path), 401, "not_authenticated")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 2), ({"role": "operator"}, 1), ({"state": "verified", "role": "user"}, 1), ({"state": "disabled"}, 0),
        ({"address": "ACCOUNT-"}, 2), ({"address": "nobody"}, 0), ({"never_signed_in": "true"}, 0),
        ({"signed_in_since": "2026-01-01T00:00:00Z"}, 2), ({"signed_in_before": "0001-01-01T00:00:00Z"}, 0),
    ],
)  # fmt: skip
async def test_accounts_are_listed_by_a_filter(
    client: AsyncClient, operator: SignedIn, signed_in: SignedIn, query: dict[str, str], found: int
) -> None:
    response = await client.get(f"/accounts?{urlencode(query)}", headers=operator.headers)

    assert response.status_code == 200, response.text
    assert (len(response.json()["items"]), response.json()["partial"]) == (found, False)


async def test_a_list_of_accounts_costs_two_queries_and_leads_on(
    client: AsyncClient, operator: SignedIn, signed_in: SignedIn, state: State
) -> None:
    past = {"signed_in_since": "2026-01-01T00:00:00Z", "limit": 1}
    with assert_queries(state["database"], max=2):  # one of them says who asks
        first = await client.get(f"/accounts?{urlencode(past)}", headers=operator.headers)

    second = await client.get(
        f"/accounts?{urlencode(past | {'after': first.json()['next']})}", headers=operator.headers
    )

    ids = [page.json()["items"][0]["id"] for page in (first, second)]
    assert set(ids) == {str(operator.account.id), str(signed_in.account.id)}
    assert second.json()["next"] is None


@pytest.mark.parametrize(
    "query", ["signed_in_since=0001-01-01T00:00:00%2B14:00", "signed_in_since=2026-01-01", "state=misspelt", "after=x"]
)
async def test_a_filter_of_accounts_that_means_nothing_is_refused(
    client: AsyncClient, operator: SignedIn, query: str
) -> None:
    assert (await client.get(f"/accounts?{query}", headers=operator.headers)).status_code == 422


async def test_an_account_is_read_disabled_enabled_and_signed_out(
    client: AsyncClient, operator: SignedIn, signed_in: SignedIn
) -> None:
    path, form = f"/accounts/{signed_in.account.id}", {"username": signed_in.account.email, "password": PASSWORD}

    async def act(name: str) -> int:
        return (await client.post(f"{path}/{name}", headers=operator.headers)).status_code

    assert (await act("end-sessions"), (await client.get("/auth/me", headers=signed_in.headers)).status_code) == (
        204,
        401,
    )
    assert (await act("disable"), (await client.post("/auth/access-token", data=form)).status_code) == (204, 400)
    read = (await client.get(path, headers=operator.headers)).json()
    assert (read["email"], read["disabled_at"] is None, read["signed_in_at"] is None) == (
        signed_in.account.email, False, False,
    )  # fmt: skip
    assert await act("send-reset-link") == 409
    assert (await act("enable"), (await client.post("/auth/access-token", data=form)).status_code) == (204, 200)
    assert await act("send-reset-link") == 204
    audit = await client.get(f"/audit?actor_id={operator.account.id}", headers=operator.headers)
    assert [event["event"] for event in audit.json()["items"]] == [
        "password_reset_requested", "account_enabled", "account_disabled", "sessions_revoked",
    ]  # fmt: skip


async def test_disabling_needs_a_fresh_sign_in_and_another_account(
    client: AsyncClient, operator: SignedIn, signed_in: SignedIn, database: Database
) -> None:
    own = await client.post(f"/accounts/{operator.account.id}/disable", headers=operator.headers)
    gone = await client.post(f"/accounts/{new_id()}/disable", headers=operator.headers)
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    stale = await client.post(f"/accounts/{signed_in.account.id}/disable", headers=operator.headers)

    assert_problem(own, 409, "own_account")
    assert_problem(gone, 404, "unknown_account")
    assert_problem(stale, 403, "reauthentication_required")
    assert_problem(await client.get(f"/accounts/{new_id()}", headers=operator.headers), 404, "unknown_account")


async def test_no_token_gives_a_role(client: AsyncClient, operator: SignedIn, signed_in: SignedIn) -> None:
    path = f"/accounts/{signed_in.account.id}"
    body = {"role": "operator"}

    answers = [
        await client.request(method, address, json=body, headers=operator.headers)
        for address in (path, f"{path}/role", f"{path}/enable")
        for method in ("POST", "PUT", "PATCH")
    ]

    assert {answer.status_code for answer in answers} <= {204, 404, 405, 415, 422}
    assert (await client.get(path, headers=operator.headers)).json()["role"] == "user"


async def test_events_are_listed_by_a_filter(client: AsyncClient, operator: SignedIn, signed_in: SignedIn) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    account = {"user_id": str(signed_in.account.id)}

    async def found(**query: str) -> list[str]:
        response = await client.get(f"/audit?{urlencode(query)}", headers=operator.headers)
        assert response.status_code == 200, response.text
        return [event["event"] for event in response.json()["items"]]

    assert await found(**account) == ["signed_in", "registered"]
    assert await found(**account, event="registered") == ["registered"]
    assert await found(**account, since=soon.isoformat()) == []
    assert len(await found(before=soon.isoformat())) == 4
    assert await found(**account, limit="1") == ["signed_in"]
    assert await found(client_address="192.0.2.77") == []
