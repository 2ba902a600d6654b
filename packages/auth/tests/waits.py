"""Waiting until somebody else waits."""

import asyncio
from typing import Any

from sqlalchemy import text

from app_db import Session


async def until_it_waits(task: asyncio.Task[Any], session: Session) -> None:  # Any: its result does not matter
    """Return when the task waits for a lock in this database, or is done."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not task.done() and not await session.scalar(waiting):
        await session.execute(text("SELECT pg_stat_clear_snapshot()"))
        await asyncio.sleep(0.01)
