"""Accounts and login sessions."""

from typing import Annotated

from fastapi import APIRouter, Form

from app_api.dependencies import AuthDep, BearerDep, ClientDep, DatabaseDep, PrincipalDep, SessionDep
from app_api.features.accounts.schemas import (
    AccessTokenForm,
    AccessTokenRead,
    CallerRead,
    RefreshTokenCreate,
)
from app_api.problems import problem_responses
from app_api.scopes import CallerDep
from app_auth import accounts, sessions
from app_auth.challenges import SecondFactorRequired
from app_auth.errors import (
    EmailNotVerified,
    HashingBusy,
    InvalidCredentials,
    InvalidGrant,
    InvalidToken,
    ReauthenticationRequired,
    Throttled,
)
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(prefix="/auth", tags=["auth"], responses=problem_responses(DatabaseUnavailable))

BEARER_PROBLEMS = (Unauthenticated, InvalidToken)


@router.post(
    "/access-token",
    operation_id="auth_login",
    responses=problem_responses(InvalidCredentials, EmailNotVerified, SecondFactorRequired, Throttled, HashingBusy),
)
async def login_access_token(
    form: Annotated[AccessTokenForm, Form()], auth: AuthDep, session: SessionDep, client: ClientDep
) -> AccessTokenRead:
    """Sign in with an e-mail address and a password."""
    email, password = form.username, form.password.get_secret_value()
    tokens = await sessions.sign_in(auth, session, email=email, password=password, client=client)
    return AccessTokenRead.of(tokens)


@router.post("/refresh-token", operation_id="auth_refresh", responses=problem_responses(InvalidGrant, Throttled))
async def refresh_token(
    body: RefreshTokenCreate, auth: AuthDep, database: DatabaseDep, client: ClientDep
) -> AccessTokenRead:
    """Exchange a refresh token for its successor and a new access token."""
    tokens = await sessions.refresh(auth, database, token=body.refresh_token, client=client)
    return AccessTokenRead.of(tokens)


@router.post("/logout", status_code=204, responses=problem_responses(*BEARER_PROBLEMS))
async def logout(token: BearerDep, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
    """End this login session: its access and refresh tokens are refused from now on. May be repeated."""
    await sessions.sign_out(auth, session, token=token, client=client)


@router.get("/me", operation_id="auth_read_me", responses=problem_responses(*BEARER_PROBLEMS, Throttled))
async def read_current_user(caller: CallerDep) -> CallerRead:
    """Return the bearer's account, and whether the bearer is a person or a key."""
    return CallerRead.of(caller)


@router.delete(
    "/me",
    status_code=204,
    operation_id="auth_delete_me",
    responses=problem_responses(*BEARER_PROBLEMS, ReauthenticationRequired),
)
async def delete_current_user(principal: PrincipalDep, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
    """Delete the bearer's account."""
    await accounts.delete_account(auth, session, principal, client=client)
