"""My account: its sessions, its password, its end."""

from collections.abc import Collection
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field, SecretStr

from app_api.console.cookie import forget_secret
from app_api.console.dependencies import FreshViewerDep, PageDep, ViewerDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.console.paths import ROOT, SIGN_IN
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_auth import accounts, sessions
from app_db import Session
from app_db.repositories.user_sessions import UserSessionRepository

router = APIRouter()

ACCOUNT = f"{ROOT}/account"
LINK = Link("My account", ACCOUNT, order=80)
DONE = {
    "account-deleted": "Your account is deleted.",
    "others-ended": "All other sessions are ended.",
    "password-changed": "The password is changed. All other sessions are ended.",
    "session-ended": "The session is ended.",
}


class PasswordForm(BaseModel, extra="forbid"):
    """What the form for a new password sends."""

    current: Annotated[SecretStr, Field(max_length=1024)] = SecretStr("")
    new: Annotated[SecretStr, Field(max_length=1024)] = SecretStr("")


@router.get("/account")
async def account_page(page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
    """Show who is signed in, and where."""
    own = str(viewer.session_id)
    return page.render("account.html", sessions=await sessions.list_sessions(session, viewer), own=own)


async def read_sessions(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the sessions of all that look at their own, by one query."""
    alive = await UserSessionRepository(session).alive_of_each({one.viewer_id for one in watched if one.viewer_id})
    return {one: {"sessions": alive[one.viewer_id], "own": one.about} for one in watched if one.viewer_id}


LIVE = {"sessions": Fragment("own_sessions.html", read_sessions)}


@router.post("/account/sessions/end-others")
async def end_other_sessions(viewer: ViewerDep, session: SessionDep, client: ClientDep) -> RedirectResponse:
    """Sign out everywhere else."""
    await sessions.revoke_others(session, viewer, client=client)
    return see_other(f"{ACCOUNT}?done=others-ended")


@router.post("/account/sessions/{session_id}/end")
async def end_session(session_id: UUID, viewer: ViewerDep, session: SessionDep, client: ClientDep) -> RedirectResponse:
    """Sign out in one place."""
    await sessions.revoke(session, viewer, session_id, client=client)
    return see_other(f"{ACCOUNT}?done=session-ended")


@router.get("/account/password")
async def password_page(page: PageDep, auth: AuthDep) -> HTMLResponse:
    """Ask for the current password and a new one."""
    return page.render("password.html", min_length=auth.settings.password_min_length, problem=None)


@router.post("/account/password")
async def change_password(
    form: Annotated[PasswordForm, Form()], page: PageDep, *, viewer: ViewerDep, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Change the password, and sign out everywhere else."""
    page.on_error("password.html", min_length=auth.settings.password_min_length)
    current, new = form.current.get_secret_value(), form.new.get_secret_value()
    await accounts.change_password(auth, session, viewer, current_password=current, new_password=new, client=client)
    return see_other(f"{ACCOUNT}?done=password-changed")


@router.get("/account/delete")
async def delete_page(page: PageDep, _: FreshViewerDep) -> HTMLResponse:
    """Say what goes with the account."""
    return page.render("delete_account.html")


@router.post("/account/delete")
async def delete_account(
    request: Request, viewer: FreshViewerDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Delete the account of who is signed in."""
    await accounts.delete_account(auth, session, viewer, client=client)
    response = see_other(f"{SIGN_IN}?done=account-deleted")
    forget_secret(request, response)
    return response
