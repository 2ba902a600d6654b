"""The audit, for operators."""

from typing import Annotated

from fastapi import APIRouter, Query

from app_api.dependencies import CursorDep, LimitDep, OperatorDep, SessionDep
from app_api.features.accounts.operator_schemas import AuditPage, AuditSelection
from app_api.problems import problem_responses
from app_auth.errors import InvalidToken
from app_auth.permissions import OperatorRequired
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable
from app_db.repositories.audit import AuditRepository

router = APIRouter(
    prefix="/audit",
    tags=["audit: operators"],
    responses=problem_responses(Unauthenticated, InvalidToken, OperatorRequired, DatabaseUnavailable),
)


@router.get("")
async def list_events(
    operator: OperatorDep, session: SessionDep, after: CursorDep, selection: Annotated[AuditSelection, Query()],
    limit: LimitDep = 20,
) -> AuditPage:  # fmt: skip
    """List the events that match, newest first."""
    found = await AuditRepository(session).matching(selection.to_filter(), after=after, limit=limit)
    return AuditPage.model_validate(found)
