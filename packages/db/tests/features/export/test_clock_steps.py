"""Rows of exports that Postgres wrote while its clock was ahead."""

from datetime import timedelta

from sqlalchemy import func, insert, select

from app_db import Session
from app_db.features.export.models import ExportPart
from app_db.jobs.clock_steps import repair_times
from app_db.testing.plugin import MakeUser
from app_db.types import new_id

AHEAD = func.now() + timedelta(days=365)


async def test_what_was_exported_while_the_clock_was_ahead_is_kept_as_long_as_the_rest(
    session: Session, make_user: MakeUser
) -> None:
    user = await make_user()
    part = {
        "job_id": new_id(),
        "number": 0,
        "content": b"",
        "created_at": AHEAD,
        "expires_at": AHEAD + timedelta(days=1),
    }
    await session.execute(insert(ExportPart).values(id=new_id(), user_id=user.id, **part))

    rows = await repair_times(session)

    assert rows["export_parts"] == 1
    assert await session.scalar(select(ExportPart.expires_at - func.now())) == timedelta(days=1)
