"""Passkeys of the bearer, and signing in by one."""

from uuid import UUID

from fastapi import APIRouter

from app_api.dependencies import AuthDep, ClientDep, PrincipalDep, SessionDep
from app_api.features.accounts.schemas import AccessTokenRead
from app_api.features.passkeys.dependencies import PartyDep, PasskeySettingsDep
from app_api.features.passkeys.schemas import (
    Options,
    PasskeyCreate,
    PasskeyList,
    PasskeyRead,
    PasskeySignIn,
    PasskeyUpdate,
)
from app_api.problems import problem_responses
from app_auth import sessions
from app_auth.errors import EmailNotVerified, InvalidToken, ReauthenticationRequired, Throttled
from app_auth.features.passkeys import keeping, sign_in
from app_auth.features.passkeys.errors import (
    InvalidPasskeyName,
    PasskeyNotAdded,
    PasskeyNotFound,
    PasskeyRefused,
    PasskeysUnavailable,
    PasskeyTaken,
    TooManyPasskeys,
)
from app_auth.ways_in import LastWayIn
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(prefix="/auth/passkeys", tags=["passkeys"], responses=problem_responses(DatabaseUnavailable))

BEARER = (Unauthenticated, InvalidToken)


@router.get("", responses=problem_responses(*BEARER))
async def list_passkeys(principal: PrincipalDep, session: SessionDep) -> PasskeyList:
    """List the passkeys of the bearer."""
    passkeys = await keeping.passkeys_of(session, principal)
    return PasskeyList(items=[PasskeyRead.model_validate(passkey) for passkey in passkeys])


@router.post(
    "/options", responses=problem_responses(*BEARER, ReauthenticationRequired, PasskeysUnavailable, TooManyPasskeys)
)
async def begin_passkey(
    principal: PrincipalDep, auth: AuthDep, session: SessionDep, party: PartyDep, settings: PasskeySettingsDep
) -> Options:
    """Return the options with which the browser of the bearer makes a passkey, within five minutes."""
    return Options(await keeping.begin(auth, session, principal, party, limit=settings.per_account))


@router.post(
    "",
    status_code=201,
    responses=problem_responses(
        *BEARER, PasskeyNotAdded, PasskeysUnavailable, PasskeyTaken, TooManyPasskeys, InvalidPasskeyName
    ),
)
async def add_passkey(
    body: PasskeyCreate, principal: PrincipalDep, auth: AuthDep, *, session: SessionDep, party: PartyDep,
    settings: PasskeySettingsDep, client: ClientDep,
) -> PasskeyRead:  # fmt: skip
    """Add the passkey that the browser has made, and tell the owner by mail."""
    response, limit = body.credential.to_response(), settings.per_account
    passkey = await keeping.finish(
        auth, session, principal, party, response=response, name=body.name, limit=limit, client=client
    )
    return PasskeyRead.model_validate(passkey)


@router.post("/sign-in/options", responses=problem_responses(PasskeysUnavailable))
async def begin_sign_in(auth: AuthDep, session: SessionDep, party: PartyDep) -> Options:
    """Return the options with which a browser signs in by a passkey, within five minutes."""
    return Options(await sign_in.begin(auth, session, party))


@router.post("/sign-in", responses=problem_responses(PasskeyRefused, PasskeysUnavailable, EmailNotVerified, Throttled))
async def finish_sign_in(
    body: PasskeySignIn, auth: AuthDep, session: SessionDep, party: PartyDep, client: ClientDep
) -> AccessTokenRead:
    """Sign in by a passkey, which is two factors by itself."""
    begun = await sign_in.finish(auth, session, party, response=body.credential.to_response(), client=client)
    return AccessTokenRead.of(sessions.tokens_of(auth, begun))


@router.patch("/{passkey_id}", responses=problem_responses(*BEARER, PasskeyNotFound, InvalidPasskeyName))
async def rename_passkey(
    passkey_id: UUID, body: PasskeyUpdate, principal: PrincipalDep, session: SessionDep
) -> PasskeyRead:
    """Give a passkey of the bearer another name."""
    return PasskeyRead.model_validate(await keeping.rename(session, principal, passkey_id, name=body.name))


@router.delete(
    "/{passkey_id}",
    status_code=204,
    responses=problem_responses(*BEARER, ReauthenticationRequired, PasskeyNotFound, LastWayIn),
)
async def remove_passkey(
    passkey_id: UUID, principal: PrincipalDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Remove a passkey of the bearer, and tell the owner by mail."""
    await keeping.remove(auth, session, principal, passkey_id, client=client)
