"""What runs here: health, settings, versions, pools, the standby, and how long rows are kept."""

import platform
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.dependencies import SessionDep
from app_api.health import ProbeDep, ReadinessProbe
from app_api.lifespan import PACKAGES
from app_db import Database, Session
from app_db.jobs.retention import QUEUE, RETENTION, WORKER_SILENCE
from app_db.outage import DatabaseUnavailable
from app_db.pool import pools_of
from app_db.repositories.jobs import JobRepository
from app_db.repositories.replication import Lag, replication_lag
from app_db.repositories.schema import NEEDED_REVISIONS

router = APIRouter()

LINK = Link("System", "/console/system", order=90)
LIBRARIES: Final = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "asyncpg")
SETTINGS: Final[Mapping[str, str]] = {state.value: f"{state} jobs" for state in RETENTION} | {
    "audit": "audit",
    "audit_after_export": "audit only after export",
    "unverified": "unverified accounts",
}
"""How the page calls what crons apply: `APP_RETENTION__…`, which workers read, and the API does not."""
type Applied = Mapping[str, float | bool | None]


@router.get("/system")
async def system(page: PageDep, request: Request, session: SessionDep, *, probe: ProbeDep) -> HTMLResponse:
    """Show what the process that answers is, has and depends on."""
    return page.render(
        "operators/system.html",
        versions={"Python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *LIBRARIES)},
        settings=request.app.state.console_settings,
        **await _shown(session, request.state.database, probe),
    )


async def _shown(session: Session, database: Database, probe: ReadinessProbe) -> dict[str, Any]:  # Any: the template's
    crons = await JobRepository(session).crons()
    pruning = [cron for cron in crons if cron.queue == QUEUE and cron.is_served]
    return {
        "checks": (await probe.known()).checks,
        "replica": await _replica(database),
        "pools": list(pools_of(database.engines)),
        "revisions": NEEDED_REVISIONS,
        "kept": kept(cron.applied for cron in pruning),
        "pruning": pruning,
    }


def kept(applied: Iterable[Applied | None]) -> Applied:
    """Return how long rows are kept, by what a person calls them: as crons have last applied it, else the default."""
    known = {name: value for each in applied for name, value in (each or {}).items()}
    defaults = {
        f"{state} jobs, default": time.total_seconds() for state, time in RETENTION.items() if state not in known
    }
    said = {SETTINGS.get(name, name): value for name, value in known.items()}
    return {**defaults, **said, "workers that fell silent": WORKER_SILENCE.total_seconds()}


async def _replica(database: Database) -> Lag | str:
    """Return what the server of stale reads says of its replication, or why there is no answer."""
    if "replica" not in database.engines:
        return "none is set"
    try:
        return await replication_lag(database)
    except DatabaseUnavailable:
        return "does not answer"


async def read_system(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return what changes of the page, for all that look at this process."""
    process = session.info["process"]
    return dict.fromkeys(watched, await _shown(session, process["database"], process["probe"]))


LIVE = {"system": Fragment("operators/system_live.html", read_system)}
