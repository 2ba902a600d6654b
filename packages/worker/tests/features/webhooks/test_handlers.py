"""Events reach endpoints: signed, again after a failure, and no more where nobody takes them."""

import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import select, text, update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app_auth.features.webhooks.secrets import new_secret, seal, text_of, unseal
from app_auth.one_time import OneTimeTokens
from app_auth.settings import OneTimeSettings
from app_db import Database
from app_db.features.webhooks.factories import MakeEndpoint
from app_db.features.webhooks.models import DeliveryState, DisabledBecause, WebhookDelivery, WebhookEndpoint
from app_db.features.webhooks.outcomes import WebhookOutcomes
from app_db.features.webhooks.payloads import DeliverWebhook, KeepWebhooks, WebhookDisabled
from app_db.features.webhooks.repository import WebhookRepository
from app_db.features.webhooks.settings import WebhookSettings
from app_db.jobs.outbox import enqueue
from app_db.models import AuditEvent, JobError, JobState, User
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.features.webhooks.export import export
from app_worker.features.webhooks.handlers import MOST_ATTEMPTS, WAITS, wait_after
from app_worker.features.webhooks.sender import WebhookSender
from app_worker.handlers import HANDLERS
from app_worker.mail import MemoryMailer, plain_text
from app_worker.registry import Handler
from app_worker.testing import DrainJobs, drain, one_time_settings
from packages.worker.tests.features.webhooks.receiver import Receiver, Resolver, receiving, reply

RING = one_time_settings().token_keys


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiving(tmp_path) as receiver:
        yield receiver


@pytest.fixture
def settings(receiver: Receiver) -> WebhookSettings:
    return WebhookSettings(allowed_networks=(ip_network("127.0.0.0/8"),), authorities=receiver.ca_file)


@pytest.fixture
def deliver_all(database: Database, mailer: MemoryMailer, settings: WebhookSettings) -> DrainJobs:
    sender = WebhookSender(settings, look_up=Resolver(["127.0.0.1"]), seconds=5)
    given = {WebhookSender: sender, WebhookSettings: settings}
    return partial(drain, database, handlers=HANDLERS, mailer=mailer, resources=given, keep_failures=True)


class Subscriber:
    """The owner of an endpoint."""

    def __init__(self, database: Database, user: User, endpoint: WebhookEndpoint, secret: bytes) -> None:
        self.database, self.user, self.id, self.secret = database, user, endpoint.id, secret

    async def send(self, event: str = "webhook.test") -> UUID:
        async with self.database.sessions.begin() as session:
            endpoint = await session.get_one(WebhookEndpoint, self.id)
            return (await WebhookRepository(session).send(endpoint, event, {"a": "ü"})).id

    async def endpoint(self) -> WebhookEndpoint:
        async with self.database.read_sessions() as session:
            return await session.get_one(WebhookEndpoint, self.id)

    async def change(self, **values: Any) -> None:
        async with self.database.sessions.begin() as session:
            await session.execute(update(WebhookEndpoint).where(WebhookEndpoint.id == self.id).values(**values))

    async def delivery(self, delivery_id: UUID) -> WebhookDelivery:
        async with self.database.read_sessions() as session:
            return await session.get_one(WebhookDelivery, delivery_id)


@pytest_asyncio.fixture(loop_scope="session")
async def ada(database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint, receiver: Receiver) -> Subscriber:
    user, secret, endpoint_id = await make_user(email="ada@example.test"), new_secret(), new_id()
    sealed, key_id = seal(RING, [secret], endpoint_id=endpoint_id)
    endpoint = await make_endpoint(owner=user, id=endpoint_id, url=receiver.url, sealed=sealed, key_id=key_id)
    return Subscriber(database, user, endpoint, secret)


def verified(secret: bytes, message: tuple[str, dict[str, str], bytes]) -> Any:
    """Return the content of a message, as a receiver sees it who uses the library of Standard Webhooks."""
    _, headers, body = message
    return Webhook(text_of(secret)).verify(body, headers)


async def test_an_event_arrives_signed_as_standard_webhooks_says(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs
) -> None:
    delivery = await ada.delivery(await ada.send())

    assert await deliver_all() == {"completed": 1}

    [message] = receiver.received
    content = {"type": "webhook.test", "timestamp": delivery.created_at.isoformat(), "data": {"a": "ü"}}
    assert verified(ada.secret, message) == content
    assert message[1]["webhook-id"] == str(delivery.event_id)
    assert message[1]["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        verified(secrets.token_bytes(32), message)
    delivery = await ada.delivery(delivery.id)
    assert (delivery.state, delivery.ended_at is not None) == (DeliveryState.DELIVERED, True)
    [attempt] = delivery.attempts
    assert (attempt["status"], attempt["problem"], attempt["answer"]) == (200, None, "ok")


async def test_both_secrets_sign_while_they_change(ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs) -> None:
    before, ada.secret = ada.secret, new_secret()
    sealed, _ = seal(RING, [ada.secret, before], endpoint_id=ada.id)
    await ada.change(sealed=sealed, rotated_until=utcnow() + timedelta(minutes=1))
    await ada.send()

    await deliver_all()

    for secret in (before, ada.secret):
        assert verified(secret, receiver.received[0])["type"] == "webhook.test"


async def test_after_a_day_only_the_new_secret_signs(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs
) -> None:
    before, ada.secret = ada.secret, new_secret()
    sealed, _ = seal(RING, [ada.secret, before], endpoint_id=ada.id)
    await ada.change(sealed=sealed, rotated_until=utcnow() - timedelta(minutes=1))
    await ada.send()

    await deliver_all()

    assert verified(ada.secret, receiver.received[0])
    with pytest.raises(WebhookVerificationError):
        verified(before, receiver.received[0])


async def test_an_event_that_fails_is_sent_again_with_its_id(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs
) -> None:
    receiver.reply = reply("500 Internal Server Error", b"sorry")
    delivery_id = await ada.send()

    assert await deliver_all() == {"retryable": 1}
    failing = await ada.endpoint()
    assert (await ada.delivery(delivery_id)).state is DeliveryState.PENDING
    receiver.reply = reply("204 No Content")
    assert await deliver_all(with_scheduled=True) == {"completed": 1}

    first, second = (headers["webhook-id"] for _, headers, _ in receiver.received)
    assert first == second
    assert receiver.received[0][2] == receiver.received[1][2]
    delivery = await ada.delivery(delivery_id)
    assert [attempt["status"] for attempt in delivery.attempts] == [500, 204]
    assert delivery.attempts[0]["answer"] == "sorry"
    assert delivery.state is DeliveryState.DELIVERED
    assert failing.failing_since is not None
    assert (await ada.endpoint()).failing_since is None, "a success ends it"


async def test_no_error_of_a_job_names_the_address(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs, database: Database
) -> None:
    """Errors outlive the account; the address may hold a secret of the receiver."""
    receiver.reply = reply("500 No", b"sorry")
    await ada.send()

    await deliver_all()

    async with database.read_sessions() as session:
        [error] = await session.scalars(select(JobError))
    assert error.error.endswith("DeliveryFailed: refused, status 500")
    assert "hooks.example.com" not in f"{error.trace}"


def test_attempts_are_spread_over_two_days() -> None:
    waits = [wait_after(number) for number in range(1, MOST_ATTEMPTS)]

    assert 43 < sum(wait.total_seconds() for wait in waits) / 3600 < 53
    assert all(0.9 <= wait.total_seconds() / seconds <= 1.1 for wait, seconds in zip(waits, WAITS, strict=True))
    assert wait_after(100) >= timedelta(hours=14), "a limit of its own may be longer"


async def give_up(deliver_all: DrainJobs) -> None:
    """Let all attempts be made."""
    for _ in range(MOST_ATTEMPTS):
        await deliver_all(with_scheduled=True)


async def test_an_event_that_nobody_takes_is_given_up_and_the_endpoint_stays(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs, mailer: MemoryMailer
) -> None:
    receiver.reply = reply("500 No")
    delivery_id = await ada.send()

    await give_up(deliver_all)

    delivery, endpoint = await ada.delivery(delivery_id), await ada.endpoint()
    assert (delivery.state, len(delivery.attempts)) == (DeliveryState.FAILED, MOST_ATTEMPTS)
    assert endpoint.disabled_at is None
    assert mailer.sent == []


async def test_an_endpoint_that_fails_for_days_is_disabled_and_an_owner_is_mailed_once(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs, mailer: MemoryMailer, database: Database
) -> None:
    receiver.reply = reply("500 No")
    await ada.change(failing_since=utcnow() - timedelta(days=6))
    for _ in range(2):
        await ada.send()

    await give_up(deliver_all)

    endpoint = await ada.endpoint()
    assert endpoint.disabled_because is DisabledBecause.FAILING
    [mail] = mailer.sent
    assert (mail["To"], mail["Subject"]) == ("ada@example.test", "Your webhook to hooks.example.com is disabled")
    assert "for days" in plain_text(mail)
    async with database.read_sessions() as session:
        [event] = await session.scalars(select(AuditEvent).where(AuditEvent.event == "webhook_disabled"))
    assert event.details == {"webhook": str(ada.id), "because": "failing"}


async def test_an_owner_is_mailed_once(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs, mailer: MemoryMailer
) -> None:
    receiver.reply = reply("410 Gone")
    sent = [await ada.send() for _ in range(3)]

    await deliver_all()

    assert (await ada.endpoint()).disabled_because is DisabledBecause.GONE
    assert {(await ada.delivery(each)).state for each in sent} == {DeliveryState.FAILED}
    [mail] = mailer.sent
    assert "gone (410)" in plain_text(mail)


async def test_of_two_deliveries_that_fail_at_once_one_disables_the_endpoint(
    ada: Subscriber, database: Database
) -> None:
    await ada.change(failing_since=utcnow())
    endpoint_id = (await ada.endpoint()).id
    owners = []
    for _ in range(2):
        async with database.sessions.begin() as session:
            owners.append(await WebhookOutcomes(session).disable(endpoint_id, DisabledBecause.GONE))

    assert owners[0] is not None
    assert owners[1] is None


async def test_nothing_is_sent_to_an_endpoint_that_is_disabled(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs
) -> None:
    delivery_id = await ada.send()
    await ada.change(disabled_at=utcnow(), disabled_because=DisabledBecause.OWNER)

    assert await deliver_all() == {"completed": 1}

    assert receiver.received == []
    delivery = await ada.delivery(delivery_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, [])


async def test_what_has_ended_is_not_sent_again(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs, database: Database
) -> None:
    delivery_id = await ada.send()
    async with database.sessions.begin() as session:
        await session.execute(text("INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at) SELECT "
            "uuidv7(), kind, payload, 1, state, now() FROM jobs"))  # fmt: skip

    assert await deliver_all() == {"completed": 2}

    assert len(receiver.received) == 1
    assert (await ada.delivery(delivery_id)).state is DeliveryState.DELIVERED


async def test_a_delivery_of_an_endpoint_that_is_gone_sends_nothing(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs, database: Database
) -> None:
    await ada.send()
    async with database.sessions.begin() as session:
        await session.execute(text("DELETE FROM users"))

    assert await deliver_all() == {"completed": 1}

    assert receiver.received == []


async def test_a_worker_that_sends_enough_puts_the_rest_off(
    ada: Subscriber, receiver: Receiver, database: Database, settings: WebhookSettings
) -> None:
    delivery_id = await ada.send()
    sender = WebhookSender(settings.model_copy(update={"at_once": 1}), look_up=Resolver(["127.0.0.1"]))

    with sender.place(new_id()):
        states = await drain(database, resources={WebhookSender: sender, WebhookSettings: settings})

    assert states == {JobState.SCHEDULED: 1}
    assert receiver.received == []
    assert (await ada.delivery(delivery_id)).attempts == []


async def test_a_secret_that_nobody_can_open_is_a_failure_that_its_owner_sees(
    ada: Subscriber, receiver: Receiver, deliver_all: DrainJobs
) -> None:
    await ada.change(key_id="retired")
    delivery_id = await ada.send()

    assert await deliver_all() == {"retryable": 1}

    assert receiver.received == []
    assert (await ada.delivery(delivery_id)).attempts[0]["problem"] == "secret_lost"


@pytest.mark.parametrize("how", ["DELETE FROM webhook_endpoints", "UPDATE webhook_endpoints SET disabled_at = NULL"])
async def test_nobody_is_mailed_about_an_endpoint_that_is_gone_or_enabled_again(
    ada: Subscriber, deliver_all: DrainJobs, mailer: MemoryMailer, database: Database, how: str
) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text(how))
        await enqueue(session, WebhookDisabled(endpoint_id=ada.id, because=DisabledBecause.GONE))

    assert await deliver_all() == {"completed": 1}

    assert mailer.sent == []


async def keep(database: Database, drained: DrainJobs) -> None:
    async with database.sessions.begin() as session:
        await enqueue(session, KeepWebhooks())
    await drained()


async def test_old_deliveries_are_deleted_and_those_without_a_job_end(
    ada: Subscriber, deliver_all: DrainJobs, database: Database
) -> None:
    old, new, lost, waits = [await ada.send() for _ in range(4)]
    aged = "UPDATE webhook_deliveries SET created_at = now() - interval '{}' WHERE id = '{}'"
    async with database.sessions.begin() as session:
        await session.execute(
            text("UPDATE webhook_deliveries SET state = 'delivered' WHERE id = ANY (:ids)"), {"ids": [old, new]}
        )
        await session.execute(text("DELETE FROM jobs WHERE payload ->> 'delivery_id' <> :id"), {"id": str(waits)})
        await session.execute(text("UPDATE jobs SET claim_at = now() + interval '1 day', state = 'scheduled'"))
        for age, each in (("31 days", old), ("29 days", new), ("2 hours", lost), ("2 hours", waits)):
            await session.execute(text(aged.format(age, each)))

    await keep(database, deliver_all)

    async with database.read_sessions() as session:
        states = {row.id: row.state for row in await session.scalars(select(WebhookDelivery))}
    assert states == {new: "delivered", lost: "failed", waits: "pending"}


async def test_secrets_are_sealed_by_the_key_that_is_active_now(
    ada: Subscriber, deliver_all: DrainJobs, database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint,
    monkeypatch: pytest.MonkeyPatch, mailer: MemoryMailer, settings: WebhookSettings,
) -> None:  # fmt: skip
    lost = await make_endpoint(owner=await make_user(), key_id="lost", sealed=b"?" * 40)
    old = {**json.loads(RING[0].model_dump_json()), "secret": RING[0].secret.get_secret_value(), "state": "verify"}
    new = {"kid": "new", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
    ring = OneTimeSettings.model_validate({"token_keys": [old, new]})
    monkeypatch.setattr("app_worker.testing.OneTimeTokens", lambda _: OneTimeTokens(ring))

    await keep(database, deliver_all)

    endpoint = await ada.endpoint()
    assert endpoint.key_id == "new"
    assert unseal(ring.token_keys, endpoint.sealed, endpoint_id=ada.id, key_id="new") == [ada.secret]
    async with database.read_sessions() as session:
        assert (await session.get_one(WebhookEndpoint, lost.id)).key_id == "lost"


async def test_an_export_has_endpoints_and_deliveries_and_no_secret(ada: Subscriber, database: Database) -> None:
    sent = [await ada.send() for _ in range(3)]

    async with database.read_sessions() as session:
        first = await export(session, ada.user.id, after=None, limit=2)
        second = await export(session, ada.user.id, after=first.next, limit=2)
        nothing = await export(session, new_id(), after=None, limit=2)

    assert [row.get("url") for row in first.items] == [(await ada.endpoint()).url, None, None]
    assert [row["event"] for row in (*first.items[1:], *second.items)] == ["webhook.test"] * len(sent)
    assert second.next is None
    assert base64.b64encode(ada.secret).decode() not in json.dumps(first.items, default=str)
    assert [*nothing.items] == []


def test_triggers_enqueue_what_the_handler_takes() -> None:
    kinds: Iterable[Handler] = HANDLERS

    assert DeliverWebhook.kind in {handler.payload_class.kind for handler in kinds}
