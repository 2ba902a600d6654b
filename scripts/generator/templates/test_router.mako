"""${words.many.capitalize()} over HTTP."""

from typing import Any

import pytest
from httpx2 import AsyncClient

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_db.features.${words.plural}.factories import Make${words.model}
from app_db.testing.plugin import MakeUser
from app_db.testing.queries import assert_queries

NEW: dict[str, Any] = {${", ".join(f'"{field.name}": {field.kind.samples[0]}' for field in fields)}}  # Any: JSON
CHANGED: dict[str, Any] = {${", ".join(f'"{field.name}": {field.kind.samples[1]}' for field in fields)}}  # Any: JSON


async def create(client: AsyncClient, signed_in: SignedIn, **members: Any) -> dict[str, Any]:  # Any: JSON
    response = await client.post("/${words.path}", json={**NEW, **members}, headers=signed_in.headers)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def test_a_new_${words.singular}_is_returned_as_it_was_sent(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await create(client, signed_in)

    assert created == {**NEW, **{name: created[name] for name in ("id", "created_at", "updated_at")}}


% if unique:
async def test_a_second_${words.singular}_with_the_same_${unique.name}_is_a_conflict(
    client: AsyncClient, signed_in: SignedIn
) -> None:
    await create(client, signed_in)

    response = await client.post("/${words.path}", json=NEW, headers=signed_in.headers)

    assert_problem(response, 409, "${words.singular}_${unique.name}_taken")


% endif
async def test_the_list_has_ones_own_${words.plural}_and_the_cursor_of_the_rest(
    client: AsyncClient, signed_in: SignedIn, make_user: MakeUser, make_${words.singular}: Make${words.model}
) -> None:
    await make_${words.singular}(owner=await make_user())
% if unique:
    samples = (${", ".join(unique.kind.samples)})
    created = [await create(client, signed_in, ${unique.name}=sample) for sample in samples]
% else:
    created = [await create(client, signed_in) for _ in range(3)]
% endif

    first = (await client.get("/${words.path}?limit=2", headers=signed_in.headers)).json()
    rest = (await client.get(f"/${words.path}?after={first['next']}", headers=signed_in.headers)).json()

    assert first["items"] == [created[2], created[1]]
    assert rest == {"items": [created[0]], "next": None}


async def test_${words.a_one.replace(" ", "_")}_is_shown_to_its_owner(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await create(client, signed_in)

    response = await client.get(f"/${words.path}/{created['id']}", headers=signed_in.headers)

    assert response.status_code == 200
    assert response.json() == created


async def test_all_of_${words.a_one.replace(" ", "_")}_can_be_changed(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await create(client, signed_in)

    response = await client.patch(f"/${words.path}/{created['id']}", json=CHANGED, headers=signed_in.headers)

    assert response.status_code == 200
    assert response.json() == {**created, **CHANGED, "updated_at": response.json()["updated_at"]}
    assert response.json()["updated_at"] > created["updated_at"]


async def test_what_a_change_leaves_out_stays_as_it_is(client: AsyncClient, signed_in: SignedIn) -> None:
    created = await create(client, signed_in)

    response = await client.patch(f"/${words.path}/{created['id']}", json={}, headers=signed_in.headers)

    assert response.json() == created


% if unique:
async def test_${words.a_one.replace(" ", "_")}_cannot_take_the_${unique.name}_of_another(client: AsyncClient, signed_in: SignedIn) -> None:
    await create(client, signed_in)
    other = await create(client, signed_in, ${unique.name}=CHANGED["${unique.name}"])

    response = await client.patch(
        f"/${words.path}/{other['id']}", json={"${unique.name}": NEW["${unique.name}"]}, headers=signed_in.headers
    )

    assert_problem(response, 409, "${words.singular}_${unique.name}_taken")


% endif
async def test_${words.a_one.replace(" ", "_")}_that_was_deleted_is_gone(client: AsyncClient, signed_in: SignedIn) -> None:
    path = f"/${words.path}/{(await create(client, signed_in))['id']}"

    response = await client.delete(path, headers=signed_in.headers)

    assert response.status_code == 204
    assert_problem(await client.delete(path, headers=signed_in.headers), 404, "${words.singular}_not_found")


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", CHANGED), ("DELETE", None)])
async def test_the_${words.singular}_of_another_is_not_found(
    client: AsyncClient,
    signed_in: SignedIn,
    make_user: MakeUser,
    make_${words.singular}: Make${words.model},
    *,
    method: str,
    body: dict[str, Any] | None,  # Any: JSON
) -> None:
    theirs = await make_${words.singular}(owner=await make_user())

    response = await client.request(method, f"/${words.path}/{theirs.id}", json=body, headers=signed_in.headers)

    assert_problem(response, 404, "${words.singular}_not_found")


async def test_the_list_costs_two_queries(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=2):
        await client.get("/${words.path}", headers=signed_in.headers)
