"""Keys that have expired are deleted, and an export lists the others."""

from datetime import timedelta

from sqlalchemy import select

from app_db import Session
from app_db.features.api_keys.models import ApiKey
from app_db.features.api_keys.payloads import PruneKeys
from app_db.jobs.outbox import enqueue
from app_db.jobs.retention import QUEUE
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.features.api_keys.export import export
from app_worker.testing import DrainJobs


def key_of(user_id: object, name: str, **columns: object) -> ApiKey:
    values = {"id": new_id(), "user_id": user_id, "name": name, "scopes": ["jobs:read"], "digest": b"", "key_id": "1"}
    return ApiKey(**{"expires_at": utcnow() + timedelta(days=1), **values, **columns})


async def test_an_export_has_the_keys_of_its_user_without_their_secrets(session: Session, make_user: MakeUser) -> None:
    ada, ben = await make_user(), await make_user()
    used = utcnow()
    session.add_all([key_of(ada.id, "ci", last_used_at=used), key_of(ada.id, "cron"), key_of(ben.id, "ci")])
    await session.flush()

    rows = await export(session, ada.id, after=None, limit=10)

    assert [(row["name"], row["last_used_at"]) for row in rows] == [("cron", None), ("ci", used.isoformat())]
    assert "digest" not in rows[0]


async def test_expired_keys_are_pruned(session: Session, drain_jobs: DrainJobs, make_user: MakeUser) -> None:
    ada = await make_user()
    session.add_all([key_of(ada.id, "old", expires_at=utcnow()), key_of(ada.id, "new")])
    await session.flush()
    await enqueue(session, PruneKeys(), queue=QUEUE)
    await session.commit()

    await drain_jobs()

    assert list(await session.scalars(select(ApiKey.name))) == ["new"]
