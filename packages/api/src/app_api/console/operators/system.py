"""What runs here: health, settings, versions, pools, the standby, and how long rows are kept."""

import platform
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.dependencies import SessionDep
from app_api.health import ProbeDep
from app_api.lifespan import PACKAGES
from app_db import Database
from app_db.jobs.retention import QUEUE, RETENTION, WORKER_SILENCE
from app_db.outage import DatabaseUnavailable
from app_db.pool import pools_of
from app_db.repositories.jobs import JobRepository
from app_db.repositories.replication import Lag, replication_lag
from app_db.repositories.schema import NEEDED_REVISIONS

router = APIRouter()

LINK = Link("System", "/console/system", order=90)
LIBRARIES: Final = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "asyncpg")
KEPT: Final = {f"jobs that are {state}": kept for state, kept in RETENTION.items()} | {
    "workers that fell silent": WORKER_SILENCE
}


@router.get("/system")
async def system(page: PageDep, request: Request, session: SessionDep, *, probe: ProbeDep) -> HTMLResponse:
    """Show what the process that answers is, has and depends on."""
    database: Database = request.state.database
    crons = await JobRepository(session).crons()
    return page.render(
        "operators/system.html",
        checks=(await probe.known()).checks,
        replica=await _replica(database),
        pools=list(pools_of(database.engines)),
        revisions=NEEDED_REVISIONS,
        versions={"Python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *LIBRARIES)},
        settings=request.app.state.console_settings,
        kept=KEPT,
        pruning=[cron for cron in crons if cron.queue == QUEUE and cron.is_served],
    )


async def _replica(database: Database) -> Lag | str:
    """Return what the server of stale reads says of its replication, or why there is no answer."""
    if "replica" not in database.engines:
        return "none is set"
    try:
        return await replication_lag(database)
    except DatabaseUnavailable:
        return "does not answer"
