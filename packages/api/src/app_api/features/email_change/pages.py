"""Changing one's address in the console: asking for it, confirming it, and undoing it from the address before."""

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.dependencies import FreshViewerDep, OpenPageDep, PageDep, ViewerDep
from app_api.console.pages.account import ACCOUNT
from app_api.console.pages.registration import AddressForm, token_of
from app_api.console.paths import SIGN_IN
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_auth.features.email_change import service, undoing

router = APIRouter()

CHANGE = f"{ACCOUNT}/email"
SLOTS = {"account": "email_change_card.html"}
DONE = {
    "email-change-sent": "If this address can be used, a mail is on its way to it. Follow its link, or paste it here.",
    "email-changed": "Your address is changed. All other sessions are ended.",
    "email-change-undone": "Your address is the one before. A mail with a link for a new password is on its way to it.",
}


class LinkForm(BaseModel, extra="forbid"):
    """A link that was mailed, or the token in it."""

    link: Annotated[str, Field(max_length=4096)] = ""


@router.get("/account/email")
async def email_change_page(page: PageDep, _: FreshViewerDep) -> HTMLResponse:
    """Ask for the new address."""
    return page.render("email_change.html", email="", problem=None)


@router.post("/account/email")
async def request_email_change(
    form: Annotated[AddressForm, Form()], page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Mail a link to the new address."""
    page.on_error("email_change.html", email=form.email)
    await service.request(auth, session, viewer, email=form.email, client=client)
    return see_other(f"{CHANGE}/confirm?done=email-change-sent")


@router.get("/account/email/confirm")
async def confirm_page(page: PageDep) -> HTMLResponse:
    """Ask for the link that was mailed to the new address."""
    return page.render("email_change_confirm.html", problem=None)


@router.post("/account/email/confirm")
async def confirm_email_change(
    form: Annotated[LinkForm, Form()], page: PageDep, viewer: ViewerDep, *, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Take the new address."""
    page.on_error("email_change_confirm.html")
    await service.confirm(auth, session, token=token_of(form.link), principal=viewer, client=client)
    return see_other(f"{ACCOUNT}?done=email-changed")


@router.get("/undo-email-change")
async def undo_page(page: OpenPageDep) -> HTMLResponse:
    """Ask for the link that was mailed to the address before."""
    return page.render("email_change_undo.html", problem=None)


@router.post("/undo-email-change")
async def undo_email_change(
    form: Annotated[LinkForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Bring the address before back; all sessions end, and the password counts no more."""
    page.on_error("email_change_undo.html")
    await undoing.undo(auth, session, token=token_of(form.link), client=client)
    return see_other(f"{SIGN_IN}?done=email-change-undone")
