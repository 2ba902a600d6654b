"""What runs here."""

import platform
from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.health import ProbeDep
from app_api.lifespan import PACKAGES
from app_db.repositories.schema import NEEDED_REVISIONS

router = APIRouter()

LINK = Link("System", "/console/system", order=90)
LIBRARIES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "asyncpg")


@router.get("/system")
async def system(page: PageDep, probe: ProbeDep) -> HTMLResponse:
    """Show the versions of this process, the state of what it depends on, and the schema that it needs."""
    readiness = await probe.known()
    versions = {"Python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *LIBRARIES)}
    return page.render("operators/system.html", checks=readiness.checks, revisions=NEEDED_REVISIONS, versions=versions)
