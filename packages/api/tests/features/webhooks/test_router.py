"""Webhooks over HTTP: made and shown once, changed, rotated, tried, sent again, deleted; each only for its owner."""

from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import func, select, update

from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.features.webhooks.secrets import text_of, unseal
from app_auth.features.webhooks.service import PER_ACCOUNT
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from app_db.features.webhooks.payloads import DeliverWebhook
from app_db.models import AuditEvent, Job, UserSession
from app_db.testing.jobs import assert_enqueued
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import app_of, limited

NEW = {"url": "https://hooks.example.com/groundwork", "events": ["job.completed", "account.password_changed"]}


async def make(client: AsyncClient, signed_in: SignedIn, **members: object) -> dict[str, Any]:  # Any: JSON
    response = await client.post("/webhooks", json={**NEW, **members}, headers=signed_in.headers)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def without_secret(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name != "secret"}


async def sign_in_long_ago(database: Database) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow().replace(year=2020)))


async def end_all(database: Database, state: DeliveryState) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(WebhookDelivery).values(state=state))


async def count(database: Database, what: Any) -> int:
    async with database.unit_of_work(read_only=True) as session:
        return int((await session.scalars(select(func.count()).select_from(what))).one())


async def test_a_secret_is_shown_once_and_stored_encrypted(
    client: AsyncClient, signed_in: SignedIn, database: Database, api_settings: ApiSettings
) -> None:
    created = await make(client, signed_in)

    path = f"/webhooks/{created['id']}"
    assert (await client.get(path, headers=signed_in.headers)).json() == without_secret(created)
    listed = (await client.get("/webhooks", headers=signed_in.headers)).json()
    assert listed == {"items": [without_secret(created)], "next": None}
    async with database.unit_of_work(read_only=True) as session:
        (row,) = await session.scalars(select(WebhookEndpoint))
    ring = api_settings.auth.token_keys
    assert [text_of(key) for key in unseal(ring, row.sealed, endpoint_id=row.id, key_id=row.key_id)] == [
        created["secret"]
    ]
    assert created["events"] == sorted(NEW["events"])


async def test_a_repetition_makes_no_second_endpoint(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    headers = {**signed_in.headers, "Idempotency-Key": "0d4a2a5e-first"}

    first = await client.post("/webhooks", json=NEW, headers=headers)
    again = await client.post("/webhooks", json=NEW, headers=headers)

    assert (first.status_code, again.content) == (201, first.content)
    assert await count(database, WebhookEndpoint) == 1


async def test_a_list_has_pages(client: AsyncClient, signed_in: SignedIn) -> None:
    made = [(await make(client, signed_in))["id"] for _ in range(3)]

    first = (await client.get("/webhooks?limit=2", headers=signed_in.headers)).json()
    second = (await client.get(f"/webhooks?limit=2&after={first['next']}", headers=signed_in.headers)).json()

    assert [each["id"] for each in (*first["items"], *second["items"])] == made[::-1]
    assert second["next"] is None


async def test_what_decides_who_gets_events_needs_a_fresh_sign_in(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    path = f"/webhooks/{(await make(client, signed_in))['id']}"
    await sign_in_long_ago(database)

    for response in (
        await client.post("/webhooks", json=NEW, headers=signed_in.headers),
        await client.post(f"{path}/rotate", headers=signed_in.headers),
        await client.patch(path, json={"enabled": False}, headers=signed_in.headers),
    ):
        assert_problem(response, 403, "reauthentication_required")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"url": "http://hooks.example.com/"}, "invalid_endpoint_url"),
        ({"url": "https://127.0.0.1/"}, "invalid_endpoint_url"),
        ({"url": ""}, "validation_failed"),
        ({"events": []}, "validation_failed"),
        ({"events": ["webhook.test"]}, "validation_failed"),
        ({"secret": "mine"}, "validation_failed"),
    ],
)
async def test_an_endpoint_that_cannot_be_is_refused(
    client: AsyncClient, signed_in: SignedIn, members: dict[str, Any], code: str
) -> None:
    response = await client.post("/webhooks", json={**NEW, **members}, headers=signed_in.headers)

    assert_problem(response, 422, code)


async def test_an_account_has_so_many_endpoints_at_most(client: AsyncClient, signed_in: SignedIn) -> None:
    for _ in range(PER_ACCOUNT):
        await make(client, signed_in)

    response = await client.post("/webhooks", json=NEW, headers=signed_in.headers)

    assert assert_problem(response, 409, "too_many_endpoints")["most"] == PER_ACCOUNT


async def test_an_endpoint_is_changed_disabled_and_enabled_again(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    created = await make(client, signed_in)
    path = f"/webhooks/{created['id']}"
    async with database.unit_of_work() as session:
        await session.execute(update(WebhookEndpoint).values(failing_since=utcnow()))

    async def change(**members: object) -> dict[str, Any]:  # Any: JSON
        response = await client.patch(path, json=members, headers=signed_in.headers)
        assert response.status_code == 200, response.text
        changed: dict[str, Any] = response.json()
        return changed

    changed = await change(url="https://other.example.com", events=["job.cancelled"])
    assert (changed["url"], changed["events"]) == ("https://other.example.com/", ["job.cancelled"])
    disabled = await change(enabled=False)
    assert (disabled["disabled_because"], disabled["disabled_at"] is not None) == ("owner", True)
    assert (await change(enabled=False))["disabled_at"] == disabled["disabled_at"]
    enabled = await change(enabled=True)
    assert (enabled["disabled_because"], enabled["disabled_at"], enabled["failing_since"]) == (None, None, None)
    assert_problem(await client.patch(path, json={}, headers=signed_in.headers), 422, "validation_failed")


async def test_a_rotation_keeps_the_secret_before_for_a_day(
    client: AsyncClient, signed_in: SignedIn, database: Database, api_settings: ApiSettings
) -> None:
    created = await make(client, signed_in)

    rotated = (await client.post(f"/webhooks/{created['id']}/rotate", headers=signed_in.headers)).json()

    assert rotated["rotated_until"] is not None
    assert await secrets_in(database, api_settings) == [rotated["secret"], created["secret"]]


async def secrets_in(database: Database, settings: ApiSettings) -> list[str]:
    async with database.unit_of_work(read_only=True) as session:
        (row,) = await session.scalars(select(WebhookEndpoint))
    ring = settings.auth.token_keys
    return [text_of(key) for key in unseal(ring, row.sealed, endpoint_id=row.id, key_id=row.key_id)]


async def test_a_second_rotation_ends_the_first_secret(
    client: AsyncClient, signed_in: SignedIn, database: Database, api_settings: ApiSettings
) -> None:
    path = f"/webhooks/{(await make(client, signed_in))['id']}/rotate"

    first, second = [(await client.post(path, headers=signed_in.headers)).json()["secret"] for _ in range(2)]

    assert await secrets_in(database, api_settings) == [second, first]


async def test_a_secret_that_is_lost_is_replaced(
    client: AsyncClient, signed_in: SignedIn, database: Database, api_settings: ApiSettings
) -> None:
    created = await make(client, signed_in)
    async with database.unit_of_work() as session:
        await session.execute(update(WebhookEndpoint).values(key_id="retired"))

    rotated = (await client.post(f"/webhooks/{created['id']}/rotate", headers=signed_in.headers)).json()

    assert await secrets_in(database, api_settings) == [rotated["secret"]]


async def test_a_test_event_is_sent_and_shown_in_the_log(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    created = await make(client, signed_in)
    path = f"/webhooks/{created['id']}"

    sent = await client.post(f"{path}/test", headers=signed_in.headers)

    assert sent.status_code == 202
    delivery = sent.json()
    assert (delivery["event"], delivery["state"], delivery["attempts"]) == ("webhook.test", "pending", [])
    log = (await client.get(f"{path}/deliveries", headers=signed_in.headers)).json()
    assert log == {"items": [delivery], "next": None}
    ended = await client.get(f"{path}/deliveries?state=failed", headers=signed_in.headers)
    assert ended.json() == {"items": [], "next": None}
    await assert_enqueued(database, DeliverWebhook, delivery_id=UUID(delivery["id"]))


async def test_a_delivery_is_sent_again_with_its_event_id(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    path = f"/webhooks/{(await make(client, signed_in))['id']}"
    delivery = (await client.post(f"{path}/test", headers=signed_in.headers)).json()
    await end_all(database, DeliveryState.DELIVERED)

    again = await client.post(f"{path}/deliveries/{delivery['id']}/redeliver", headers=signed_in.headers)

    assert again.status_code == 202, again.text
    assert (again.json()["event_id"], again.json()["state"]) == (delivery["event_id"], "pending")
    async with database.unit_of_work(read_only=True) as session:
        jobs = await session.scalars(select(Job.payload).where(Job.kind == DeliverWebhook.kind))
        assert [payload["delivery_id"] for payload in jobs] == [delivery["id"]] * 2


async def test_a_delivery_on_its_way_is_not_sent_twice(client: AsyncClient, signed_in: SignedIn) -> None:
    path = f"/webhooks/{(await make(client, signed_in))['id']}"
    delivery = (await client.post(f"{path}/test", headers=signed_in.headers)).json()

    again = await client.post(f"{path}/deliveries/{delivery['id']}/redeliver", headers=signed_in.headers)

    assert_problem(again, 409, "delivery_pending")


async def test_nothing_is_asked_of_an_endpoint_that_is_disabled(client: AsyncClient, signed_in: SignedIn) -> None:
    path = f"/webhooks/{(await make(client, signed_in))['id']}"
    await client.patch(path, json={"enabled": False}, headers=signed_in.headers)

    for action in ("test", f"deliveries/{new_id()}/redeliver"):
        response = await client.post(f"{path}/{action}", headers=signed_in.headers)
        assert_problem(response, 409, "endpoint_disabled")


async def test_the_endpoint_of_another_is_not_found(
    client: AsyncClient, signed_in: SignedIn, make_account: MakeAccount, sign_in: SignIn, database: Database
) -> None:
    account = await make_account()
    eve = SignedIn(account, await sign_in(account))
    path = f"/webhooks/{(await make(client, signed_in))['id']}"
    delivery = (await client.post(f"{path}/test", headers=signed_in.headers)).json()
    await end_all(database, DeliveryState.FAILED)
    own = f"/webhooks/{(await make(client, eve))['id']}"

    for method, target, code in (
        ("GET", path, "endpoint_not_found"),
        ("PATCH", path, "endpoint_not_found"),
        ("DELETE", path, "endpoint_not_found"),
        ("POST", f"{path}/rotate", "endpoint_not_found"),
        ("POST", f"{path}/test", "endpoint_not_found"),
        ("GET", f"{path}/deliveries", "endpoint_not_found"),
        ("POST", f"{path}/deliveries/{delivery['id']}/redeliver", "endpoint_not_found"),
        ("POST", f"{own}/deliveries/{delivery['id']}/redeliver", "delivery_not_found"),
    ):
        body = {"enabled": False} if method == "PATCH" else None
        assert_problem(await client.request(method, target, headers=eve.headers, json=body), 404, code)
    assert (await client.get(path, headers=signed_in.headers)).json()["disabled_at"] is None


async def test_a_deleted_endpoint_takes_its_log_along(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    path = f"/webhooks/{(await make(client, signed_in))['id']}"
    await client.post(f"{path}/test", headers=signed_in.headers)

    assert (await client.delete(path, headers=signed_in.headers)).status_code == 204

    assert_problem(await client.get(path, headers=signed_in.headers), 404, "endpoint_not_found")
    assert await count(database, WebhookDelivery) == 0


async def test_endpoints_that_are_made_changed_rotated_and_deleted_are_audited(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    created = await make(client, signed_in)
    path = f"/webhooks/{created['id']}"

    await client.patch(path, json={"enabled": False}, headers=signed_in.headers)
    await client.post(f"{path}/rotate", headers=signed_in.headers)
    await client.delete(path, headers=signed_in.headers)

    async with database.unit_of_work(read_only=True) as session:
        statement = select(AuditEvent).where(AuditEvent.event.like("webhook_%")).order_by(AuditEvent.id)
        events = [*await session.scalars(statement)]
    assert [event.event for event in events] == [
        "webhook_created",
        "webhook_changed",
        "webhook_rotated",
        "webhook_deleted",
    ]
    assert {event.user_id for event in events} == {signed_in.account.id}
    assert all(event.details == {"webhook": created["id"]} for event in events)


async def test_what_makes_us_send_is_throttled(
    api_settings: ApiSettings, signed_in: SignedIn, database: Database
) -> None:
    async with open_client(app_of(limited(api_settings, webhook_account="1/h"))) as client:
        path = f"/webhooks/{(await make(client, signed_in))['id']}"

        for target in ("/webhooks", f"{path}/rotate", f"{path}/test", f"{path}/deliveries/{new_id()}/redeliver"):
            body = NEW if target == "/webhooks" else None
            assert_problem(await client.post(target, headers=signed_in.headers, json=body), 429, "too_many_requests")


async def test_a_change_of_the_password_is_an_event_for_its_account(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    await make(client, signed_in)
    change = {"current_password": signed_in.account.password, "new_password": "a new one, long enough 7"}

    response = await client.post("/auth/password/change", json=change, headers=signed_in.headers)

    assert response.status_code < 300, response.text
    async with database.unit_of_work(read_only=True) as session:
        events = [*await session.scalars(select(WebhookDelivery.event))]
    assert events == ["account.password_changed"]
