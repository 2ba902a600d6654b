"""Routes that list the bearer's login sessions, and end them from the next request on."""

from uuid import UUID

from fastapi import APIRouter

from app_api.dependencies import ClientDep, PrincipalDep, SessionDep
from app_api.features.sessions.schemas import SessionList, SessionRead
from app_api.problems import problem_responses
from app_auth import sessions
from app_auth.errors import InvalidToken
from app_db.errors import NotFound, Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/auth/sessions",
    tags=["sessions"],
    responses=problem_responses(Unauthenticated, InvalidToken, DatabaseUnavailable),
)


@router.get("")
async def list_sessions(principal: PrincipalDep, session: SessionDep) -> SessionList:
    """List the login sessions of the bearer."""
    living = await sessions.list_sessions(session, principal)
    return SessionList(items=[SessionRead.of(user_session, principal) for user_session in living])


@router.post("/revoke-others", status_code=204)
async def revoke_other_sessions(principal: PrincipalDep, session: SessionDep, client: ClientDep) -> None:
    """Sign out everywhere else. May be repeated."""
    await sessions.revoke_others(session, principal, client=client)


@router.post("/revoke-all", status_code=204)
async def revoke_all_sessions(principal: PrincipalDep, session: SessionDep, client: ClientDep) -> None:
    """Sign out everywhere, here as well."""
    await sessions.revoke_all(session, principal, client=client)


@router.delete("/{session_id}", status_code=204, responses=problem_responses(NotFound))
async def revoke_session(session_id: UUID, principal: PrincipalDep, session: SessionDep, client: ClientDep) -> None:
    """Sign out in one place."""
    await sessions.revoke(session, principal, session_id, client=client)
