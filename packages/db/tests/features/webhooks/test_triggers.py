"""Events are recorded in the transaction that makes them true, whichever statement does it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app_db import Database, Session
from app_db.base import Base
from app_db.features.webhooks.event_names import OF_AUDIT, EventName
from app_db.features.webhooks.factories import MakeEndpoint
from app_db.features.webhooks.models import DisabledBecause, WebhookDelivery
from app_db.features.webhooks.payloads import DeliverWebhook
from app_db.features.webhooks.triggers import create_all
from app_db.models import AuditEvent, Job, JobState
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow

END = text("UPDATE jobs SET state = :state, claim_at = NULL, finished_at = now() WHERE id = :id")


async def add_job(session: Session, owner_id: UUID | None) -> UUID:
    job = Job(id=new_id(), owner_id=owner_id, kind="pets.walk", payload={}, payload_version=1, state=JobState.EXECUTING)
    session.add(job)
    await session.flush()
    return job.id


async def deliveries(database: Database) -> list[WebhookDelivery]:
    async with database.read_sessions() as session:
        return list(await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))


async def jobs(database: Database) -> list[Job]:
    async with database.read_sessions() as session:
        return list(await session.scalars(select(Job).where(Job.kind == DeliverWebhook.kind).order_by(Job.id)))


@pytest.mark.parametrize("state", ["completed", "discarded", "cancelled"])
async def test_the_end_of_a_job_is_an_event_for_the_endpoints_of_its_owner(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint, state: str
) -> None:
    ada = await make_user()
    first, second = await make_endpoint(owner=ada), await make_endpoint(owner=ada)
    await make_endpoint(owner=await make_user())
    async with database.sessions.begin() as session:
        job_id = await add_job(session, ada.id)

    async with database.sessions.begin() as session:
        await session.execute(END, {"state": state, "id": job_id})

    sent = await deliveries(database)
    assert {delivery.endpoint_id for delivery in sent} == {first.id, second.id}
    assert {delivery.event for delivery in sent} == {f"job.{state}"}
    assert len({delivery.event_id for delivery in sent}) == 1
    assert sent[0].data == {"job_id": str(job_id), "kind": "pets.walk", "state": state}
    assert {job.id for job in await jobs(database)} == {delivery.job_id for delivery in sent}


async def test_the_job_of_a_delivery_is_one_that_the_handler_can_read(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint
) -> None:
    ada = await make_user()
    await make_endpoint(owner=ada)

    async with database.sessions.begin() as session:
        await session.execute(END, {"state": "completed", "id": await add_job(session, ada.id)})

    [job], [delivery] = await jobs(database), await deliveries(database)
    assert DeliverWebhook.model_validate(job.payload) == DeliverWebhook(delivery_id=delivery.id)
    assert (job.owner_id, job.state, job.payload_version) == (None, JobState.AVAILABLE, DeliverWebhook.version)
    assert job.claim_at is not None
    assert job.claim_at <= utcnow()


async def test_an_event_is_rolled_back_with_what_it_is_about(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint
) -> None:
    ada = await make_user()
    await make_endpoint(owner=ada)

    async with database.sessions() as session:
        await session.execute(END, {"state": "completed", "id": await add_job(session, ada.id)})
        await session.rollback()

    assert (await deliveries(database), await jobs(database)) == ([], [])


@pytest.mark.parametrize(
    "endpoint",
    [
        {"events": [EventName.JOB_DISCARDED]},
        {"disabled_at": utcnow(), "disabled_because": DisabledBecause.OWNER},
    ],
)
async def test_who_does_not_want_it_gets_nothing(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint, endpoint: dict[str, Any]
) -> None:
    ada = await make_user()
    await make_endpoint(owner=ada, **endpoint)

    async with database.sessions.begin() as session:
        await session.execute(END, {"state": "completed", "id": await add_job(session, ada.id)})
        await session.execute(END, {"state": "completed", "id": await add_job(session, None)})
        await session.execute(END, {"state": "completed", "id": await add_job(session, new_id())})

    assert await deliveries(database) == []


@pytest.mark.parametrize("event", OF_AUDIT)
async def test_what_the_audit_records_about_an_account_is_an_event(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint, event: str
) -> None:
    ada = await make_user()
    await make_endpoint(owner=ada)

    async with database.sessions.begin() as session:
        session.add(AuditEvent(event=event, user_id=ada.id))
        session.add(AuditEvent(event=event, user_id=None))
        session.add(AuditEvent(event="signed_in", user_id=ada.id))

    [delivery] = await deliveries(database)
    assert (delivery.event, delivery.data) == (f"account.{event}", {"user_id": str(ada.id)})
    assert delivery.event in [*EventName]


async def test_the_end_of_a_job_waits_for_no_deletion_of_an_endpoint(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint
) -> None:
    """The deletion may wait for the job: both would wait for each other."""
    ada = await make_user()
    await make_endpoint(owner=ada)
    async with database.sessions.begin() as session:
        job_id = await add_job(session, ada.id)

    async with database.sessions() as deletion:
        await deletion.execute(text("DELETE FROM webhook_endpoints"))
        async with asyncio.timeout(10), database.sessions.begin() as session:
            await session.execute(END, {"state": "completed", "id": job_id})
        await deletion.commit()

    assert await deliveries(database) == []


async def test_whoever_deletes_an_account_takes_its_endpoints_and_deliveries_along(
    database: Database, make_user: MakeUser, make_endpoint: MakeEndpoint
) -> None:
    ada = await make_user()
    await make_endpoint(owner=ada)
    async with database.sessions.begin() as session:
        await session.execute(END, {"state": "completed", "id": await add_job(session, ada.id)})

    async with database.sessions.begin() as session:
        await session.execute(text("DELETE FROM users WHERE id = :id"), {"id": ada.id})

    assert await deliveries(database) == []


DEFINED = text("""
    SELECT array_agg(definition ORDER BY definition) FROM (
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'add_webhook_event%'
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'add_webhook_event'
    ) AS all_of_them (definition)
""")


async def test_the_models_make_the_triggers_of_the_revisions(database: Database) -> None:
    async with database.engine.connect() as connection, connection.begin() as transaction:
        before = (await connection.execute(DEFINED)).scalar_one()

        await connection.run_sync(lambda sync: create_all(Base.metadata, sync))

        assert (await connection.execute(DEFINED)).scalar_one() == before
        assert len(before) >= 5
        await transaction.rollback()
