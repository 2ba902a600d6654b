"""Keys over HTTP: made and shown once, used, listed, revoked."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select, update

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.models import Job, UserSession
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow

NEW = {"name": " ci ", "scopes": ["jobs:read"], "days": 30}


async def make(client: AsyncClient, signed_in: SignedIn, **members: object) -> dict[str, Any]:  # Any: JSON
    response = await client.post("/auth/keys", json={**NEW, **members}, headers=signed_in.headers)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def bearer(created: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {created['key']}"}


async def test_a_key_is_shown_once_and_listed_without_its_text(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await make(client, signed_in)

    listed = (await client.get("/auth/keys", headers=signed_in.headers)).json()
    assert created["key"].startswith(f"gw_{created['id'].replace('-', '')}_")
    assert created["name"] == "ci"
    assert listed == {"items": [{name: value for name, value in created.items() if name != "key"}]}


async def test_a_key_reads_jobs_and_cannot_change_the_password(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    headers = bearer(await make(client, signed_in))
    change = {"current_password": signed_in.account.password, "new_password": "a new one, long enough 7"}
    async with database.unit_of_work(read_only=True) as session:
        own = (await session.scalars(select(Job.id).where(Job.owner_id == signed_in.account.id).limit(1))).one()

    assert str(own) in (await client.get("/jobs", headers=headers)).text
    assert (await client.get(f"/jobs/{own}", headers=headers)).status_code == 200
    assert_problem(await client.get(f"/jobs/{new_id()}", headers=headers), 404, "not_found")
    assert_problem(await client.post(f"/jobs/{own}/cancel", headers=headers), 403, "insufficient_scope")
    assert_problem(await client.post("/auth/password/change", json=change, headers=headers), 403, "key_not_accepted")
    assert_problem(await client.post("/auth/keys", json=NEW, headers=headers), 403, "key_not_accepted")


async def test_me_names_the_key_that_asks_and_costs_one_query(
    client: AsyncClient, signed_in: SignedIn, state: State
) -> None:
    created = await make(client, signed_in)
    await client.get("/auth/me", headers=bearer(created))  # notes the use

    with assert_queries(state["database"], max=2):  # one, and perhaps the note
        response = await client.get("/auth/me", headers=bearer(created))

    key = {name: created[name] for name in ("id", "name", "scopes", "expires_at")}
    account = {"user_id": str(signed_in.account.id), "email": signed_in.account.email}
    assert response.json() == {**account, "kind": "key", "key": key}


async def test_a_revoked_key_opens_nothing_from_its_next_request_on(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await make(client, signed_in)
    path = f"/auth/keys/{created['id']}"

    assert_problem(await client.delete(path, headers=bearer(created)), 403, "key_not_accepted")
    assert (await client.delete(path, headers=signed_in.headers)).status_code == 204

    assert_problem(await client.get("/auth/me", headers=bearer(created)), 401, "invalid_token")
    assert_problem(await client.delete(path, headers=signed_in.headers), 404, "key_not_found")


async def test_a_key_lives_on_when_its_owner_signs_out(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await make(client, signed_in)

    assert (await client.post("/auth/logout", headers=signed_in.headers)).status_code == 204

    assert (await client.get("/auth/me", headers=bearer(created))).status_code == 200


async def test_what_a_key_may_not_have_is_refused(client: AsyncClient, signed_in: SignedIn, database: Database) -> None:
    await make(client, signed_in)

    async def refused(status: int, code: str, **members: object) -> dict[str, Any]:  # Any: JSON
        response = await client.post("/auth/keys", json={**NEW, **members}, headers=signed_in.headers)
        return assert_problem(response, status, code)

    await refused(409, "key_name_taken")
    unknown = await refused(422, "unknown_scope", scopes=["jobs:read", "everything:write"])
    assert unknown["scopes"] == ["account:export", "jobs:read", "jobs:write"]
    await refused(422, "validation_failed", scopes=[])
    await refused(422, "validation_failed", days=366)
    await refused(422, "validation_failed", name="  ")
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow().replace(year=2020)))
    await refused(403, "reauthentication_required", name="later")


@pytest.mark.parametrize("text", ["gw_", "gw_x_y_z", "GW_00", "gw_" + "0" * 80, "gw_\u00e9"])
async def test_what_is_no_key_is_an_invalid_token(client: AsyncClient, text: str) -> None:
    response = await client.get("/jobs", headers=[(b"Authorization", b"Bearer " + text.encode())])

    assert_problem(response, 401, "invalid_token")
