"""Signing in to the console by a mailed link: asked for here, and opened in the same browser."""

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.cookie import read_secret
from app_api.console.dependencies import OpenPageDep
from app_api.console.entering import enter
from app_api.console.pages.registration import AddressForm, token_of
from app_api.console.paths import ROOT, SIGN_IN
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.magic_link.link_cookie import forget_binding, keep_binding, read_binding
from app_auth import browser_sessions
from app_auth.features.magic_link import service

router = APIRouter()

SLOTS = {"sign_in": "sign_in_link_button.html"}
DONE = {
    "sign-in-link-sent": "If this address can be used, a mail is on its way to it. Open its link in this browser, or "
    "paste it here.",
}


class LinkForm(BaseModel, extra="forbid"):
    """A link that was mailed, or the token in it."""

    link: Annotated[str, Field(max_length=4096)] = ""


@router.get("/sign-in/link")
async def request_page(page: OpenPageDep, auth: AuthDep) -> HTMLResponse:
    """Ask for the address to mail a link to."""
    return page.render("sign_in_link.html", email="", problem=None, is_on=auth.settings.magic_link)


@router.post("/sign-in/link")
async def request_sign_in_link(
    form: Annotated[AddressForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Mail a link that signs in this browser, if there is an account; the answer does not tell."""
    page.on_error("sign_in_link.html", email=form.email, is_on=auth.settings.magic_link)
    secret = await service.request(auth, session, email=form.email, client=client)
    response = see_other(f"{SIGN_IN}/link/open?done=sign-in-link-sent")
    keep_binding(page.request, response, secret)
    return response


@router.get("/sign-in/link/open")
async def open_page(page: OpenPageDep) -> HTMLResponse:
    """Ask for the link that was mailed; a button uses it, so programs that open links use up nothing."""
    return page.render("sign_in_link_open.html", problem=None)


@router.post("/sign-in/link/open")
async def sign_in_by_link(
    form: Annotated[LinkForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Start a login session of this browser; the one that it had ends."""
    page.on_error("sign_in_link_open.html")
    begun = await service.redeem(
        auth, session, token=token_of(form.link), secret=read_binding(page.request), client=client
    )
    before = read_secret(page.request)
    handed = await browser_sessions.hand_over(auth, session, begun, client=client, before=before)
    response = enter(page.request, auth, handed, to=ROOT)
    forget_binding(page.request, response)
    return response
