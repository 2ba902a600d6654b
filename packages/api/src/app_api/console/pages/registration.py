"""Becoming an account, and proving an address: registration, its mail, and a new password by mail."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field, SecretStr

from app_api.console.dependencies import OpenPageDep
from app_api.console.paths import ROOT, SIGN_IN
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_auth import accounts, links
from app_auth.auth import Auth

router = APIRouter()

DONE = {
    "registered": "Your account is there. Sign in.",
    "mail-sent": "If this address can be used, a mail is on its way to it. Follow its link.",
    "verified": "Your address is confirmed. Sign in with that password.",
    "password-set": "Your password is set, and all sessions are ended. Sign in with it.",
}
_OF_LINK = re.compile(r".*[?&]token=")

type Address = Annotated[str, Field(max_length=320)]
type Password = Annotated[SecretStr, Field(max_length=1024)]
type Link = Annotated[str, Field(max_length=4096)]


class RegistrationForm(BaseModel, extra="forbid"):
    """What the page sends that makes an account."""

    email: Address = ""
    password: Password = SecretStr("")


class AddressForm(BaseModel, extra="forbid"):
    """What the pages send that ask for a mail."""

    email: Address = ""


class LinkForm(BaseModel, extra="forbid"):
    """A link that was mailed, or the token in it, and the password that is to count."""

    link: Link = ""
    password: Password = SecretStr("")


def token_of(link: str) -> str:
    """Return the token of a link that somebody has pasted; a token alone is returned as it is."""
    return _OF_LINK.sub("", link.strip())


def _rules(auth: Auth) -> dict[str, Any]:  # Any: the template's
    return {"min_length": auth.settings.password_min_length, "closed": auth.settings.registration == "closed"}


@router.get("/register")
async def register_page(page: OpenPageDep, auth: AuthDep) -> HTMLResponse:
    """Ask for the address and the password of a new account."""
    return page.render("register.html", email="", problem=None, **_rules(auth))


@router.post("/register")
async def register(
    form: Annotated[RegistrationForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Create an account; with verification the answer is the same for every address."""
    page.on_error("register.html", email=form.email, **_rules(auth))
    password = form.password.get_secret_value()
    user = await accounts.register(auth, session, email=form.email, password=password, client=client)
    return see_other(f"{SIGN_IN}?done={'mail-sent' if user is None else 'registered'}")


@router.get("/verify")
async def verify_page(page: OpenPageDep, auth: AuthDep) -> HTMLResponse:
    """Ask for the link that was mailed and the password, or for an address to mail it to again."""
    return page.render("verify.html", problem=None, **_rules(auth))


@router.post("/verify")
async def verify(
    form: Annotated[LinkForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Confirm an address by its link; the password that comes with it counts."""
    page.on_error("verify.html", **_rules(auth))
    password, token = form.password.get_secret_value(), token_of(form.link)
    await links.verify_email(auth, session, token=token, password=password, client=client)
    return see_other(f"{SIGN_IN}?done=verified")


@router.post("/verify/resend")
async def resend(
    form: Annotated[AddressForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Mail the link again, if there is an account that needs it; the answer does not tell."""
    page.on_error("verify.html", **_rules(auth))
    await links.request_verification(auth, session, email=form.email, client=client)
    return see_other(f"{ROOT}/verify?done=mail-sent")


@router.get("/forgot")
async def forgot_page(page: OpenPageDep) -> HTMLResponse:
    """Ask for the address of who has forgotten the password."""
    return page.render("forgot.html", email="", problem=None)


@router.post("/forgot")
async def forgot(
    form: Annotated[AddressForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Mail a link that sets a new password, if there is an account; the answer does not tell."""
    page.on_error("forgot.html", email=form.email)
    await links.forgot_password(auth, session, email=form.email, client=client)
    return see_other(f"{ROOT}/reset?done=mail-sent")


@router.get("/reset")
async def reset_page(page: OpenPageDep, auth: AuthDep) -> HTMLResponse:
    """Ask for the link that was mailed, and for a new password."""
    return page.render("reset.html", problem=None, **_rules(auth))


@router.post("/reset")
async def reset(
    form: Annotated[LinkForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Set a new password by a link; all sessions end, and nobody is signed in."""
    page.on_error("reset.html", **_rules(auth))
    new, token = form.password.get_secret_value(), token_of(form.link)
    await links.reset_password(auth, session, token=token, new_password=new, client=client)
    return see_other(f"{SIGN_IN}?done=password-set")
