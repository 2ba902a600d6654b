"""Routes for operators: crons, those in the code of workers and those of the table."""

from typing import Annotated

from fastapi import APIRouter, Path

from app_api.dependencies import AuthDep, ClientDep, OperatorDep, SessionDep
from app_api.features.jobs import cron_service
from app_api.features.jobs.cron_schemas import CronCreate, CronList, CronRead, CronUpdate
from app_api.problems import problem_responses
from app_auth.errors import InvalidToken, ReauthenticationRequired
from app_auth.permissions import OperatorRequired
from app_db.errors import Unauthenticated
from app_db.jobs.crons import CronNotFound, CronNotServed
from app_db.jobs.schedule_values import InvalidSchedule
from app_db.jobs.schedules import CronChanged, CronInCode, CronKindGone, CronNameTaken
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/jobs/crons",
    tags=["jobs: operators"],
    responses=problem_responses(Unauthenticated, InvalidToken, OperatorRequired, DatabaseUnavailable),
)

CronName = Annotated[str, Path(max_length=200)]


@router.get("")
async def list_crons(operator: OperatorDep, session: SessionDep) -> CronList:
    """List the crons with their ticks, those that were removed from the code too."""
    return CronList.model_validate({"items": await cron_service.all_crons(session)}, from_attributes=True)


@router.post("", status_code=201, responses=problem_responses(InvalidSchedule, CronNameTaken))
async def add_cron(body: CronCreate, operator: OperatorDep, session: SessionDep, client: ClientDep) -> CronRead:
    """Add a cron to the table; workers know it within five seconds, and it begins with its next tick."""
    added = await cron_service.add(session, body.name, body.to_values(), principal=operator, client=client)
    return CronRead.model_validate(added)


@router.put("/{name:path}", responses=problem_responses(InvalidSchedule, CronNotFound, CronInCode, CronChanged))
async def change_cron(
    name: CronName, body: CronUpdate, operator: OperatorDep, session: SessionDep, client: ClientDep
) -> CronRead:
    """Replace all values of a cron of the table, if its version is the one that you have read.

    The next tick is that of the new values; what was missed before is not made up. A paused cron stays paused.
    """
    changed = await cron_service.change(
        session, name, body.to_values(), version=body.version, principal=operator, client=client
    )
    return CronRead.model_validate(changed)


@router.post("/{name:path}/pause", status_code=204, responses=problem_responses(CronNotFound, CronInCode))
async def pause_cron(name: CronName, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """Let no more ticks of a cron of the table become jobs; its jobs go on. May be repeated."""
    await cron_service.pause(session, name, principal=operator, client=client)


@router.post("/{name:path}/resume", status_code=204, responses=problem_responses(CronNotFound, CronInCode))
async def resume_cron(name: CronName, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """Go on with the next tick: those that came during the pause are not made up. May be repeated."""
    await cron_service.resume(session, name, principal=operator, client=client)


@router.post(
    "/{name:path}/run", status_code=204, responses=problem_responses(CronNotFound, CronNotServed, CronKindGone)
)
async def run_cron(name: CronName, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """Enqueue a job of the cron besides its ticks, paused or not; of one in code a worker does it within five seconds.

    May be repeated.
    """
    await cron_service.run(session, name, principal=operator, client=client)


@router.delete(
    "/{name:path}", status_code=204, responses=problem_responses(CronNotFound, CronInCode, ReauthenticationRequired)
)
async def delete_cron(
    name: CronName, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Delete a cron of the table, or what is on record of one that is no longer in code. Needs a fresh sign-in.

    Its jobs stay.
    """
    await cron_service.delete(auth, session, name, principal=operator, client=client)
