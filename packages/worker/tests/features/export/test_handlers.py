"""An export collects all data of an account, and keeps it in pieces of a limited size that its owner fetches.

As in the project's own report: with the export as its result, a job failed for good beyond some 2,000 jobs (256 KiB).
"""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app_db import Database, Session
from app_db.features.accounts.payloads import AccountErasure
from app_db.features.export.payloads import AccountExport, PruneExports
from app_db.features.export.repository import ExportRepository
from app_db.jobs.ledger import Delivery
from app_db.models import JobState, User, UserSession
from app_db.paging import Cursor, Slice
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_worker.context import JobContext
from app_worker.features.export.files import PIECE
from app_worker.features.export.handlers import PAGE, ROOM, SHOWN, _Shown, collect
from app_worker.features.export.parts import PARTS
from app_worker.handlers import HANDLERS
from app_worker.registry import Mode, handles
from app_worker.testing import drain
from packages.worker.tests.conftest import Jobs, MakeRunner

MANY = text("""
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, state, finished_at)
    SELECT uuidv7(), :owner, 'test.note', '{}', 1, 'completed', now() FROM generate_series(1, :count)
""")


async def exported(database: Database, job_id: UUID, user_id: UUID) -> Any:
    """Return the document that the owner fetches."""
    content = b""
    async with database.sessions() as session:
        sizes = await ExportRepository(session).sizes_of(job_id, user_id=user_id, kind=AccountExport.kind)
        for number in range(len(sizes)):
            content += await ExportRepository(session).part_of(job_id, number, user_id=user_id) or b""
    assert sizes == [] or sum(sizes) == len(content)
    return json.loads(content) if content else None


async def export(jobs: Jobs, make_runner: MakeRunner, user: User) -> Delivery:
    delivery = await jobs.deliver(AccountExport(user_id=user.id), owner_id=user.id)
    await make_runner(*HANDLERS).run(delivery)
    return delivery


async def test_an_export_holds_all_that_belongs_to_the_user(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user, other = await make_user(email="ada@example.test"), await make_user()
    living = {"refresh_key_id": "k1", "idle_expires_at": utcnow() + timedelta(days=1), "expires_at": utcnow()}
    sessions = [UserSession(id=new_id(), user_id=one.id, **living) for one in (user, other)]
    async with jobs.database.sessions.begin() as session:
        session.add_all(sessions)
        await session.execute(MANY, {"owner": user.id, "count": PAGE})
        await session.execute(MANY, {"owner": other.id, "count": 1})

    delivery = await export(jobs, make_runner, user)

    document = await exported(jobs.database, delivery.id, user.id)
    assert document["account"] == {
        "user_id": str(user.id),
        "email": "ada@example.test",
        "role": "user",
        "created_at": user.created_at.isoformat(),
    }
    assert [entry["id"] for entry in document["sessions"]] == [str(sessions[0].id)]
    own = await jobs.scalar(f"SELECT array_agg(id ORDER BY id DESC) FROM jobs WHERE owner_id = '{user.id}'")
    assert [entry["id"] for entry in document["jobs"]] == [str(job_id) for job_id in own]
    result = (await jobs.get(delivery)).result
    assert result is not None
    assert result["jobs"] == document["jobs"][:SHOWN]
    assert (result["account"], result["jobs_total"]) == (document["account"], PAGE + 1)
    assert result["download"] == f"/auth/me/exports/{delivery.id}"


async def test_an_export_has_no_size_beyond_which_it_fails(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user = await make_user()
    async with jobs.database.sessions.begin() as session:
        await session.execute(MANY, {"owner": user.id, "count": 5000})

    delivery = await export(jobs, make_runner, user)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED
    assert len((await exported(jobs.database, delivery.id, user.id))["jobs"]) == 5001
    assert await jobs.scalar("SELECT count(*) > 1 AND max(length(content)) < 1000000 FROM export_parts")
    assert PIECE < 1000000


async def test_an_export_that_is_tried_again_begins_anew(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user = await make_user()
    delivery = await jobs.deliver(AccountExport(user_id=user.id), owner_id=user.id)
    async with jobs.database.sessions.begin() as session:
        for number in range(3):
            await ExportRepository(session).add(
                delivery.id, number, user_id=user.id, content=b"of an attempt that died"
            )

    await make_runner(*HANDLERS).run(delivery)

    assert len((await exported(jobs.database, delivery.id, user.id))["jobs"]) == 1


async def test_only_the_newest_export_of_a_user_is_kept(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    user = await make_user()
    first = await export(jobs, make_runner, user)

    second = await export(jobs, make_runner, user)

    assert await exported(jobs.database, first.id, user.id) is None
    assert len((await exported(jobs.database, second.id, user.id))["jobs"]) == 2


async def test_an_export_is_nobody_elses(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user, other = await make_user(), await make_user()

    delivery = await export(jobs, make_runner, user)

    assert await exported(jobs.database, delivery.id, other.id) is None


async def test_an_export_goes_with_its_user(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    await export(jobs, make_runner, user)

    async with jobs.database.sessions.begin() as session:
        await session.execute(text("DELETE FROM users"))

    assert await jobs.scalar("SELECT count(*) FROM export_parts") == 0


async def test_an_export_expires_and_is_pruned(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    delivery = await export(jobs, make_runner, user)
    async with jobs.database.sessions.begin() as session:
        await session.execute(text("UPDATE export_parts SET expires_at = now()"))

    assert await exported(jobs.database, delivery.id, user.id) is None
    await make_runner(*HANDLERS).run(await jobs.deliver(PruneExports()))
    assert await jobs.scalar("SELECT count(*) FROM export_parts") == 0


async def test_an_export_shows_how_far_it_is(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    delivery = await jobs.deliver(AccountExport(user_id=user.id))

    await make_runner(*HANDLERS).run(delivery)

    assert (await jobs.get(delivery)).progress == {"done": len(PARTS) + 1, "of": len(PARTS) + 1, "step": "done"}


async def test_an_export_for_a_user_who_has_left_is_empty(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(AccountExport(user_id=new_id()))

    await make_runner(*HANDLERS).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result) == (JobState.COMPLETED, {})


async def pets(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[dict[str, int]]:
    """Give two pages of a list."""
    return Slice([{"number": 1}], Cursor(user_id)) if after is None else Slice([{"number": 2}], None)


async def no_pets(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[dict[str, int]]:
    """Give an empty page."""
    return Slice([], None)


async def badge(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> dict[str, str]:
    """Give one thing that is not in a list."""
    return {"color": "blue"}


@handles(AccountExport, mode=Mode.LEASE)
async def export_with_pets(job: JobContext, payload: AccountExport) -> dict[str, Any]:
    return await collect(job, payload.user_id, parts={"badge": badge, "cats": no_pets, "pets": pets})


async def test_an_export_has_the_part_of_each_feature(jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser) -> None:
    user = await make_user()
    delivery = await jobs.deliver(AccountExport(user_id=user.id), owner_id=user.id)

    await make_runner(export_with_pets).run(delivery)

    document = await exported(jobs.database, delivery.id, user.id)
    parts = {"badge": {"color": "blue"}, "cats": [], "pets": [{"number": 1}, {"number": 2}]}
    assert document == {"account": document["account"], **parts}
    result = (await jobs.get(delivery)).result
    assert result == {**document, "cats_total": 0, "pets_total": 2, "download": f"/auth/me/exports/{delivery.id}"}


def test_the_result_of_an_export_shows_no_more_than_it_has_room_for() -> None:
    """A result may have 256 KiB; with the rows of many features it would fail for good."""
    shown = _Shown()
    row = {"note": "x" * (ROOM // 4)}

    first, second = shown.take([row, row], most=SHOWN), shown.take([row, row], most=SHOWN)

    assert (first, second) == ([row, row], [row])
    assert shown.take([{"id": 1}, {"id": 2}], most=SHOWN) == []


async def test_the_result_of_an_export_is_gone_with_the_account(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="ada@example.test")
    export = await jobs.enqueue(AccountExport(user_id=user.id), owner_id=user.id)
    await drain(database)
    assert (await jobs.get(export)).result is not None

    await jobs.enqueue(AccountErasure(user_id=user.id))
    await drain(database)

    assert (await jobs.get(export)).result is None
