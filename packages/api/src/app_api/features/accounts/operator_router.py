"""Routes for operators: they find accounts, and disable, enable or sign them out.

None of them gives a role: a stolen token must not make operators. A shell does, and the console after the password.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app_api.dependencies import AuthDep, ClientDep, CursorDep, LimitDep, OperatorDep, SessionDep
from app_api.features.accounts.operator_schemas import AccountPage, AccountRead, AccountSelection
from app_api.problems import problem_responses
from app_auth import operating
from app_auth.errors import (
    AccountDisabled,
    InvalidToken,
    LinksSent,
    OwnAccount,
    ReauthenticationRequired,
    UnknownAccount,
)
from app_auth.permissions import OperatorRequired
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable
from app_db.repositories.users import UserRepository

router = APIRouter(
    prefix="/accounts",
    tags=["accounts: operators"],
    responses=problem_responses(Unauthenticated, InvalidToken, OperatorRequired, DatabaseUnavailable),
)


@router.get("")
async def list_accounts(
    operator: OperatorDep, session: SessionDep, after: CursorDep, selection: Annotated[AccountSelection, Query()],
    limit: LimitDep = 20,
) -> AccountPage:  # fmt: skip
    """List the accounts that match."""
    found = await UserRepository(session).matching(selection.to_filter(), after=after, limit=limit)
    return AccountPage.model_validate(found)


@router.get("/{user_id}", responses=problem_responses(UnknownAccount))
async def read_account(user_id: UUID, operator: OperatorDep, session: SessionDep) -> AccountRead:
    """Return one account."""
    user = await UserRepository(session).get(user_id)
    if user is None:
        raise UnknownAccount
    return AccountRead.model_validate(user)


@router.post(
    "/{user_id}/disable",
    status_code=204,
    responses=problem_responses(UnknownAccount, OwnAccount, ReauthenticationRequired),
)
async def disable_account(
    user_id: UUID, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Let nobody into the account, and sign it out everywhere. Needs a fresh sign-in. May be repeated."""
    await operating.disable(auth, session, operator, user_id, client=client)


@router.post("/{user_id}/enable", status_code=204, responses=problem_responses(UnknownAccount))
async def enable_account(user_id: UUID, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """Let the owner of a disabled account in again. May be repeated."""
    await operating.enable(session, operator, user_id, client=client)


@router.post("/{user_id}/end-sessions", status_code=204, responses=problem_responses(UnknownAccount))
async def end_sessions(user_id: UUID, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """Sign the account out everywhere. May be repeated."""
    await operating.end_sessions(session, operator, user_id, client=client)


@router.post(
    "/{user_id}/send-reset-link",
    status_code=204,
    responses=problem_responses(UnknownAccount, AccountDisabled, LinksSent),
)
async def send_reset_link(
    user_id: UUID, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Have a link mailed to the owner of the account that sets a new password."""
    await operating.send_reset_link(auth, session, operator, user_id, client=client)
