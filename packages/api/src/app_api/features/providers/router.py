"""Sign in with others, for clients of the API; browsers do so in the console."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path

from app_api.dependencies import AuthDep, ClientDep, DatabaseDep, PrincipalDep, SessionDep
from app_api.features.accounts.schemas import AccessTokenRead
from app_api.features.providers import service
from app_api.features.providers.client import Answer, OpenId
from app_api.features.providers.errors import ClientCallbackMissing, ProviderUnavailable
from app_api.features.providers.schemas import (
    LinkList,
    LinkRead,
    ProviderAnswer,
    ProviderList,
    ProviderRead,
    SignInBegun,
)
from app_api.problems import problem_responses
from app_api.resources import resource
from app_auth import sessions
from app_auth.challenges import SecondFactorRequired
from app_auth.errors import EmailNotVerified, InvalidGrant, InvalidToken, ReauthenticationRequired, Throttled
from app_auth.features.providers import linking
from app_auth.features.providers.errors import (
    InvalidProviderAnswer,
    InvalidState,
    NotLinked,
    ProviderAddressUnverified,
    ProviderLinkTaken,
    ProviderNotLinked,
    UnknownProvider,
)
from app_auth.features.providers.states import Purpose, new_secret
from app_auth.permissions import require_fresh
from app_auth.ways_in import LastWayIn
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(prefix="/auth/providers", tags=["providers"], responses=problem_responses(DatabaseUnavailable))

SIGNED_IN = (Unauthenticated, InvalidToken)
BEGINNING = (UnknownProvider, ClientCallbackMissing, DatabaseUnavailable, ProviderUnavailable)
ANSWERING = (*BEGINNING, InvalidState, InvalidProviderAnswer, ProviderAddressUnverified, Throttled)

OpenIdDep = Annotated[OpenId, Depends(resource(OpenId))]
ProviderName = Annotated[str, Path(max_length=32)]


@router.get("")
async def list_providers(openid: OpenIdDep) -> ProviderList:
    """List who else may say who you are."""
    return ProviderList(items=[ProviderRead.of(provider) for provider in openid.settings.openid])


@router.post("/{name}/start", responses=problem_responses(*BEGINNING))
async def start_sign_in(name: ProviderName, openid: OpenIdDep, auth: AuthDep) -> SignInBegun:
    """Begin to sign in: send the browser to the address, and keep the secret until it is back."""
    return await _begin(openid, auth, name, purpose=Purpose.SIGN_IN)


@router.post(
    "/{name}/callback",
    responses=problem_responses(*ANSWERING, InvalidGrant, EmailNotVerified, ProviderNotLinked, SecondFactorRequired),
)
async def finish_sign_in(
    name: ProviderName, body: ProviderAnswer, *, openid: OpenIdDep, auth: AuthDep, database: DatabaseDep,
    client: ClientDep,
) -> AccessTokenRead:  # fmt: skip
    """Sign in with what the provider sent the browser back with. A new person gets an account without a password."""
    provider, answer = openid.named(name), _answer(openid, name, body)
    returned = service.read(auth, provider, body.state, purpose=Purpose.SIGN_IN, secret=body.secret)
    identity = await service.identify(
        openid, auth, database, provider=provider, returned=returned, answer=answer, client=client
    )
    async with database.unit_of_work() as session:
        begun = await linking.sign_in(auth, session, identity, provider=provider, client=client)
        return AccessTokenRead.of(sessions.tokens_of(auth, begun))


@router.post("/{name}/link", responses=problem_responses(*SIGNED_IN, *BEGINNING, ReauthenticationRequired))
async def start_link(
    name: ProviderName, openid: OpenIdDep, auth: AuthDep, principal: PrincipalDep, database: DatabaseDep
) -> SignInBegun:
    """Begin to link the bearer's account with one at the provider; it needs a fresh sign-in."""
    async with database.unit_of_work(read_only=True) as session:  # it ends before the provider is asked
        await require_fresh(auth, session, principal)  # guard: test_linking_needs_a_fresh_sign_in
    return await _begin(openid, auth, name, purpose=Purpose.LINK, session_id=principal.session_id)


@router.post(
    "/{name}/link/callback", status_code=204, responses=problem_responses(*SIGNED_IN, *ANSWERING, ProviderLinkTaken)
)
async def finish_link(
    name: ProviderName, body: ProviderAnswer, *, openid: OpenIdDep, auth: AuthDep, principal: PrincipalDep,
    database: DatabaseDep, client: ClientDep,
) -> None:  # fmt: skip
    """Link the bearer's account, in the session that has begun it."""
    provider, answer = openid.named(name), _answer(openid, name, body)
    returned = service.read(
        auth, provider, body.state, purpose=Purpose.LINK, secret=body.secret, session_id=principal.session_id
    )
    identity = await service.identify(
        openid, auth, database, provider=provider, returned=returned, answer=answer, client=client
    )
    async with database.unit_of_work() as session:
        await linking.link(session, principal, identity, client=client)


@router.get("/links", responses=problem_responses(*SIGNED_IN))
async def list_links(openid: OpenIdDep, principal: PrincipalDep, session: SessionDep) -> LinkList:
    """List the accounts at providers that open the bearer's."""
    names = {provider.issuer: provider.name for provider in openid.settings.openid}
    links = await linking.links_of(session, principal)
    return LinkList(items=[LinkRead.of(link, provider=names.get(link.issuer)) for link in links])


@router.delete(
    "/links/{link_id}", status_code=204,
    responses=problem_responses(*SIGNED_IN, NotLinked, LastWayIn, ReauthenticationRequired),
)  # fmt: skip
async def remove_link(
    link_id: UUID, auth: AuthDep, principal: PrincipalDep, session: SessionDep, client: ClientDep
) -> None:
    """Let an account at a provider open the bearer's no longer; never the last way in. It needs a fresh sign-in."""
    await linking.unlink(auth, session, principal, link_id, client=client)


async def _begin(
    openid: OpenId, auth: AuthDep, name: str, *, purpose: Purpose, session_id: UUID | None = None
) -> SignInBegun:
    provider, secret = openid.named(name), new_secret()
    begun = service.begin(auth, provider, purpose, secret=secret, session_id=session_id)
    address = await openid.address_for(provider, begun, redirect_uri=_callback(openid, name))
    return SignInBegun.of(begun, address=address, secret=secret)


def _answer(openid: OpenId, name: str, body: ProviderAnswer) -> Answer:
    return Answer(body.code, body.iss, _callback(openid, name))


def _callback(openid: OpenId, name: str) -> str:
    callback = openid.settings.client_callback_of(openid.named(name))
    if callback is None:
        raise ClientCallbackMissing
    return callback
