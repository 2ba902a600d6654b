"""Routes by which people make, list and revoke keys for their machines. No key opens them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from app_api.dependencies import AuthDep, ClientDep, PrincipalDep, SessionDep
from app_api.features.api_keys.schemas import KeyCreate, KeyCreated, KeyList, KeyRead
from app_api.idempotency import PROBLEMS as REPETITION
from app_api.idempotency import IdempotentDep
from app_api.problems import problem_responses
from app_auth.errors import InvalidToken, ReauthenticationRequired, Throttled
from app_auth.features.api_keys import service
from app_auth.features.api_keys.errors import KeyNameTaken, KeyNotFound, TooManyKeys, UnknownScope
from app_auth.machines import KeyNotAccepted
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/auth/keys",
    tags=["keys"],
    responses=problem_responses(Unauthenticated, InvalidToken, KeyNotAccepted, DatabaseUnavailable),
)


async def get_fresh(principal: PrincipalDep, auth: AuthDep, session: SessionDep) -> Principal:
    """Return who has signed in lately: before an answer with a key is given again, too."""
    await require_fresh(auth, session, principal)  # guard: test_a_key_is_shown_again_to_a_fresh_sign_in_only
    return principal


FreshDep = Annotated[Principal, Depends(get_fresh)]


@router.get("")
async def list_keys(principal: PrincipalDep, session: SessionDep) -> KeyList:
    """List the keys of the bearer, newest first."""
    return KeyList(items=[KeyRead.of(key) for key in await service.list_keys(session, principal)])


@router.post(
    "",
    status_code=201,
    responses=problem_responses(
        KeyNotAccepted, ReauthenticationRequired, Throttled, KeyNameTaken, TooManyKeys, UnknownScope, *REPETITION
    ),
)
async def create_key(
    body: KeyCreate, principal: FreshDep, *, auth: AuthDep, session: SessionDep, client: ClientDep,
    request: Request, _: IdempotentDep,
) -> KeyCreated:  # fmt: skip
    """Make a key that acts for the bearer within its scopes, and show it, this once. Needs a fresh sign-in."""
    new = await service.create_key(
        auth, session, principal, name=body.name, scopes=body.scopes, known=request.app.state.scopes, life=body.life,
        client=client,
    )  # fmt: skip
    return KeyCreated.of_new(new)


@router.delete("/{key_id}", status_code=204, responses=problem_responses(KeyNotFound))
async def revoke_key(key_id: UUID, principal: PrincipalDep, session: SessionDep, client: ClientDep) -> None:
    """Revoke a key of the bearer, from its next request on."""
    await service.revoke_key(session, principal, key_id, client=client)
