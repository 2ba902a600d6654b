"""Sign in with others, in a browser; and which of them open the own account."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.cookie import keep_secret, read_secret
from app_api.console.dependencies import (
    FreshViewerDep,
    OpenPageDep,
    PageDep,
    ViewerDep,
    get_fresh_viewer,
    get_viewer,
)
from app_api.console.paths import ROOT, safe_next
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, DatabaseDep, SessionDep
from app_api.features.providers import service
from app_api.features.providers.browser_cookie import browser_secret, keep_browser_secret, read_browser_secret
from app_api.features.providers.client import Answer, OpenId
from app_api.features.providers.errors import FetchedAhead
from app_api.features.providers.router import OpenIdDep, ProviderName
from app_auth import browser_sessions
from app_auth.features.providers import linking
from app_auth.features.providers.errors import UnknownProvider
from app_auth.features.providers.states import LONGEST, Purpose, States
from app_auth.principal import Principal
from app_db import Session
from app_db.features.providers.settings import Provider

router = APIRouter()

OWN: Final = f"{ROOT}/account/providers"
DONE = {
    "provider-linked": "The account is linked. From now on it signs you in.",
    "provider-unlinked": "The account is unlinked. It signs you in no longer.",
}
BEGUN_AT: Final = {Purpose.SIGN_IN: f"{ROOT}/sign-in", Purpose.LINK: OWN, Purpose.CONFIRM: f"{ROOT}/confirm"}
"""Where to begin again after what failed."""
SLOTS = {
    "account": "providers_card.html",
    "confirm": "providers_again.html",
    "sign_in": "providers_sign_in.html",
}


def slot_values(request: Request) -> dict[str, Any]:  # Any: the templates'
    """Return what the slots show."""
    openid: OpenId = request.state.resources[OpenId]
    return {"providers": openid.settings.openid if request.state.reached_at else ()}


class StartForm(BaseModel, extra="forbid"):
    """What the buttons of providers send."""

    next: Annotated[str, Field(max_length=4096)] = ""


class Returning(BaseModel):
    """What a provider sends a browser back with; it may say more, and may repeat an error in words of its own."""

    state: Annotated[str, Field(max_length=LONGEST)] = ""
    code: Annotated[str, Field(max_length=4096)] = ""
    iss: Annotated[str, Field(max_length=2048)] | None = None


@router.post("/providers/{name}/start")
async def start_sign_in(
    name: ProviderName, form: Annotated[StartForm, Form()], page: OpenPageDep, openid: OpenIdDep, auth: AuthDep
) -> HTMLResponse:
    """Send the browser to a provider, to come back signed in."""
    provider = openid.named(name)
    page.on_error("provider_failed.html", provider=provider, back=f"{ROOT}/sign-in")
    return await _send_away(page, openid, auth, provider, purpose=Purpose.SIGN_IN, next_page=safe_next(form.next))


@router.post("/providers/{name}/confirm")
async def start_confirmation(
    name: ProviderName, form: Annotated[StartForm, Form()], page: PageDep, *, viewer: ViewerDep, openid: OpenIdDep,
    auth: AuthDep,
) -> HTMLResponse:  # fmt: skip
    """Send the browser to a provider, to come back with a fresh sign-in to the same account."""
    provider = openid.named(name)
    page.on_error("provider_failed.html", provider=provider, back=safe_next(form.next))
    return await _send_away(
        page, openid, auth, provider, purpose=Purpose.CONFIRM, next_page=safe_next(form.next),
        session_id=viewer.session_id,
    )  # fmt: skip


@router.get("/providers/{name}/callback")
async def come_back(
    name: ProviderName, returning: Annotated[Returning, Query()], page: OpenPageDep, after_answer: BackgroundTasks, *,
    openid: OpenIdDep, auth: AuthDep, database: DatabaseDep, client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Sign in, or link the account of who is signed in, with what the provider has sent the browser back with.

    It is a GET, as providers send browsers; the secret in the cookie and a state that is good once stand for the form.
    """
    provider, request = openid.named(name), page.request
    page.on_error("provider_failed.html", provider=provider, back=BEGUN_AT[Purpose.SIGN_IN])
    if "prefetch" in request.headers.get("Sec-Purpose", ""):
        raise FetchedAhead  # guard: test_a_page_that_is_fetched_ahead_uses_no_answer_up
    purpose = States.purpose_of(returning.state)
    page.on_error("provider_failed.html", provider=provider, back=BEGUN_AT[purpose])
    viewer = None if purpose is Purpose.SIGN_IN else await get_viewer(request, after_answer)
    returned = service.read(
        auth, provider, returning.state, purpose=purpose, secret=read_browser_secret(request),
        session_id=viewer.session_id if viewer else None,
    )  # fmt: skip
    failed: dict[str, Any] = {"provider": provider, "back": BEGUN_AT[purpose], "next": safe_next(returned.next)}
    page.on_error("provider_failed.html", **failed)  # a second factor leads on to that page
    answer = Answer(returning.code, returning.iss, _callback(request, provider)) if returning.code else None
    identity = await service.identify(
        openid, auth, database, provider=provider, returned=returned, answer=answer, client=client
    )
    if viewer is not None and purpose is Purpose.LINK:
        async with database.unit_of_work() as session:
            await linking.link(session, viewer, identity, client=client)
        return see_other(f"{OWN}?done=provider-linked")
    async with database.unit_of_work() as session:
        if viewer is None:
            begun = await linking.sign_in(auth, session, identity, provider=provider, client=client)
        else:
            begun = await linking.confirm(auth, session, viewer, identity, client=client)
        kept = await browser_sessions.hand_over(auth, session, begun, client=client, before=read_secret(request))
    response = see_other(safe_next(returned.next))
    keep_secret(request, response, kept.secret, life=auth.settings.refresh_absolute)
    return response


@router.get("/account/providers")
async def own_providers(page: PageDep, viewer: ViewerDep, session: SessionDep, openid: OpenIdDep) -> HTMLResponse:
    """Show which accounts at providers open the own one."""
    return page.render("own_providers.html", **await _listed(session, viewer, openid), problem=None)


@router.post("/account/providers/{name}/link")
async def start_link(
    name: ProviderName, page: PageDep, viewer: ViewerDep, *, database: DatabaseDep, openid: OpenIdDep, auth: AuthDep
) -> HTMLResponse:
    """Send the browser to a provider, to come back linked."""
    provider = openid.named(name)
    page.on_error("provider_failed.html", provider=provider, back=OWN)
    async with database.unit_of_work(read_only=True) as session:  # it ends before the provider is asked
        await get_fresh_viewer(viewer, auth, session)  # guard: test_linking_asks_for_the_password_again
    return await _send_away(page, openid, auth, provider, purpose=Purpose.LINK, session_id=viewer.session_id)


@router.post("/account/providers/{link_id}/unlink")
async def unlink(
    link_id: UUID, page: PageDep, viewer: FreshViewerDep, *, openid: OpenIdDep, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Let an account at a provider open the own one no longer."""
    page.on_error("own_providers.html", **await _listed(session, viewer, openid))
    await linking.unlink(auth, session, viewer, link_id, client=client)
    return see_other(f"{OWN}?done=provider-unlinked")


async def _listed(session: Session, viewer: Principal, openid: OpenId) -> dict[str, Any]:  # Any: the template's
    links = await linking.links_of(session, viewer)
    titles = {provider.issuer: provider.label for provider in openid.settings.openid}
    linked = {link.issuer for link in links}
    others = [provider for provider in openid.settings.openid if provider.issuer not in linked]
    return {"own_links": links, "titles": titles, "others": others}


async def _send_away(
    page: OpenPageDep, openid: OpenId, auth: AuthDep, provider: Provider, *, purpose: Purpose, next_page: str = "",
    session_id: UUID | None = None,
) -> HTMLResponse:  # fmt: skip
    """Lead the browser to a provider by a page: browsers refuse to redirect a form of ours to another site."""
    secret = browser_secret(page.request)
    begun = service.begin(auth, provider, purpose, secret=secret, session_id=session_id, next_page=next_page)
    callback = _callback(page.request, provider)
    address = await openid.address_for(provider, begun, redirect_uri=callback, again=purpose is Purpose.CONFIRM)
    response = page.render("provider_next.html", provider=provider, address=address)
    response.headers["Refresh"] = f"0; url={address}"
    keep_browser_secret(page.request, response, secret)
    return response


def _callback(request: Request, provider: Provider) -> str:
    """Return where a provider sends browsers back to: an address of its own for each, by the settings alone."""
    base = request.state.reached_at
    if base is None:
        raise UnknownProvider  # guard: test_nobody_is_sent_away_who_could_not_come_back
    return f"{str(base).removesuffix('/')}{ROOT}/providers/{provider.name}/callback"
