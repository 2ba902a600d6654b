"""The fault tests on the database: accept jobs, wait for them, count their effects."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from app_db import Database
from tests.e2e.chaos.figures import counted, wrong
from tests.e2e.chaos.jobs import Owed, accept
from tests.e2e.processes import connected, eventually


async def accepted(database: Database, payload: Owed, *, run_at: datetime | None = None) -> UUID:
    """Accept one job and commit; return its id."""
    async with database.sessions.begin() as session:
        return await accept(session, payload, run_at=run_at)


async def seen(database: Database, query: str, *arguments: object) -> Any:  # Any: what the query asks for
    """Ask Postgres directly, past our own repositories, for one value."""
    async with connected(database.settings.direct_dsn) as connection:
        return await connection.fetchval(query, *arguments)


async def has_begun(database: Database, job_id: UUID, *, times: int = 1) -> None:
    """Wait until `times` runs of the job have begun."""

    async def it_has() -> bool:
        starts = await seen(database, "SELECT count(*) FROM chaos_starts WHERE job_id = $1", job_id)
        return bool(starts >= times)

    await eventually(it_has, "the job has begun")


async def none_is_open(database: Database) -> bool:
    """Whether all jobs have ended."""
    return bool(await seen(database, "SELECT NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)"))


async def all_jobs_end(database: Database) -> None:
    """Wait until no job is open."""
    await eventually(partial(none_is_open, database), "all jobs have ended")


async def found_wrong(database: Database) -> dict[str, int]:
    """Return the figures that have to be zero and are not: each row has one effect, and no other effects exist."""
    return wrong(await counted(database.settings.direct_dsn))
