"""One-time codes in the console: the second step of a sign-in, turning them on and off, recovery codes."""

from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field, SecretStr

from app_api.console.cookie import forget_challenge, read_challenge, read_secret
from app_api.console.dependencies import FreshViewerDep, OpenPageDep, PageDep, ViewerDep
from app_api.console.entering import enter
from app_api.console.paths import ROOT, safe_next
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.totp.dependencies import VaultDep
from app_api.features.totp.qr_code import svg_of
from app_auth import browser_sessions
from app_auth.features.totp import service
from app_auth.features.totp.errors import TotpOff

router = APIRouter()

CODES = f"{ROOT}/account/one-time-codes"
SLOTS = {"account": "totp_card.html"}
DONE = {"codes-off": "One-time codes are off. All other sessions are ended."}
GROUP = 4
"""Characters of a secret between two spaces, for who types it."""

type Code = Annotated[SecretStr, Field(max_length=64)]


class CodeForm(BaseModel, extra="forbid"):
    """The code that a generator shows."""

    code: Code = SecretStr("")


class AnswerForm(CodeForm):
    """That code or a recovery code, and the page to go to."""

    next: Annotated[str, Field(max_length=4096)] = ""


@router.get("/sign-in/totp")
async def code_page(page: OpenPageDep) -> HTMLResponse:
    """Ask for the code that finishes a sign-in."""
    return page.render("totp_sign_in.html", next=safe_next(page.request.query_params.get("next")), problem=None)


@router.post("/sign-in/totp")
async def finish_sign_in(
    form: Annotated[AnswerForm, Form()], page: OpenPageDep, *, auth: AuthDep, vault: VaultDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Start the login session that the challenge of this browser stands for; the one that it had ends."""
    request, to = page.request, safe_next(form.next)
    page.on_error("totp_sign_in.html", next=to)
    challenge, code = read_challenge(request), form.code.get_secret_value()
    started = await service.answer(auth, vault, session, challenge=challenge, code=code, client=client)
    begun = await browser_sessions.hand_over(auth, session, started, client=client, before=read_secret(request))
    response = enter(request, auth, begun, to=to)
    forget_challenge(request, response)
    return response


@router.get("/account/one-time-codes")
async def codes_page(page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
    """Show whether each sign-in asks for a code, and how many recovery codes are left."""
    return page.render("totp.html", totp=await service.status(session, viewer), problem=None)


@router.post("/account/one-time-codes/new")
async def begin(
    page: PageDep, viewer: FreshViewerDep, auth: AuthDep, *, vault: VaultDep, session: SessionDep
) -> RedirectResponse:
    """Make a secret for a generator."""
    page.on_error("totp.html", totp=await service.status(session, viewer))
    await service.enrol(auth, vault, session, viewer)
    return see_other(f"{CODES}/new")


@router.get("/account/one-time-codes/new")
async def offer_page(
    page: PageDep, viewer: FreshViewerDep, auth: AuthDep, *, vault: VaultDep, session: SessionDep
) -> HTMLResponse:
    """Show the secret that waits for its first code, as a picture and as text."""
    try:
        offer = await service.offered(auth, vault, session, viewer)
    except TotpOff:
        return page.render("totp_new.html", problem=None, picture=None)
    return page.render("totp_new.html", problem=None, **_shown(offer))


@router.post("/account/one-time-codes/confirm")
async def confirm(
    form: Annotated[CodeForm, Form()], page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, vault: VaultDep,
    session: SessionDep, client: ClientDep,
) -> HTMLResponse:  # fmt: skip
    """Turn codes on by the first one, and show the recovery codes: this page is the only one that has them."""
    page.on_error("totp.html", totp=await service.status(session, viewer))
    page.on_error("totp_new.html", **_shown(await service.offered(auth, vault, session, viewer)))
    code = form.code.get_secret_value()
    shown = await service.confirm(auth, vault, session, viewer, code=code, client=client)
    return page.render("recovery_codes.html", codes=shown, is_on=False)


@router.post("/account/one-time-codes/recovery-codes")
async def renew_recovery_codes(
    page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, vault: VaultDep, session: SessionDep, client: ClientDep
) -> HTMLResponse:
    """Make new recovery codes, and show them once."""
    page.on_error("totp.html", totp=await service.status(session, viewer))
    shown = await service.renew_recovery_codes(auth, vault, session, viewer, client=client)
    return page.render("recovery_codes.html", codes=shown, is_on=True)


@router.post("/account/one-time-codes/remove")
async def remove(
    page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Turn codes off."""
    page.on_error("totp.html", totp=await service.status(session, viewer))
    await service.remove(auth, session, viewer, client=client)
    return see_other(f"{CODES}?done=codes-off")


def _shown(offer: service.Offer) -> dict[str, Any]:  # Any: the template's
    groups = [offer.secret[start : start + GROUP] for start in range(0, len(offer.secret), GROUP)]
    return {"picture": svg_of(offer.uri), "uri": offer.uri, "secret": " ".join(groups)}
