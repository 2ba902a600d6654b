"""Signing in and out, and proving once more that it is you."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field, SecretStr

from app_api.console.cookie import forget_secret, read_secret
from app_api.console.dependencies import OpenPageDep, PageDep, ViewerDep
from app_api.console.entering import enter, sign_in_fields
from app_api.console.paths import SIGN_IN, safe_next
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_auth import browser_sessions

router = APIRouter()


class SignInForm(BaseModel, extra="forbid"):
    """What the sign-in page sends."""

    email: Annotated[str, Field(max_length=320)] = ""
    password: Annotated[SecretStr, Field(max_length=1024)] = SecretStr("")
    next: Annotated[str, Field(max_length=4096)] = ""


class ConfirmForm(BaseModel, extra="forbid"):
    """What the page sends that asks for the password again."""

    password: Annotated[SecretStr, Field(max_length=1024)] = SecretStr("")
    next: Annotated[str, Field(max_length=4096)] = ""


@router.get("/sign-in")
async def sign_in_page(page: OpenPageDep, request: Request) -> HTMLResponse:
    """Ask for address and password."""
    return page.render(
        "sign_in.html", problem=None, **sign_in_fields(request, next_page=request.query_params.get("next"))
    )


@router.post("/sign-in")
async def sign_in(
    form: Annotated[SignInForm, Form()], page: OpenPageDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Start a login session of this browser; the one that it had ends."""
    page.on_error("sign_in.html", **sign_in_fields(page.request, next_page=form.next, email=form.email))
    return await _begin(page.request, auth, session, client, email=form.email, password=form.password, to=form.next)


@router.get("/confirm")
async def confirm_page(page: PageDep, request: Request) -> HTMLResponse:
    """Ask who is signed in for the password again."""
    return page.render("confirm.html", next=safe_next(request.query_params.get("next")), problem=None)


@router.post("/confirm")
async def confirm(
    form: Annotated[ConfirmForm, Form()], page: PageDep, *, viewer: ViewerDep, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Sign in anew, under a new id."""
    page.on_error("confirm.html", next=safe_next(form.next))
    return await _begin(page.request, auth, session, client, email=viewer.email, password=form.password, to=form.next)


@router.post("/sign-out")
async def sign_out(request: Request, auth: AuthDep, session: SessionDep, client: ClientDep) -> RedirectResponse:
    """End the login session of this browser. May be repeated."""
    secret = read_secret(request)
    if secret is not None:
        await browser_sessions.sign_out(auth, session, secret=secret, client=client)
    response = see_other(SIGN_IN)
    forget_secret(request, response)
    return response


async def _begin(
    request: Request, auth: AuthDep, session: SessionDep, client: ClientDep, *, email: str, password: SecretStr, to: str
) -> RedirectResponse:
    begun = await browser_sessions.sign_in(
        auth, session, email=email, password=password.get_secret_value(), client=client, before=read_secret(request)
    )
    return enter(request, auth, begun, to=to)
