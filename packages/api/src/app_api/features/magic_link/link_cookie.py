"""The cookie of a browser that has asked for a link to sign in with."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app_api.console.cookie import NAME, name_for
from app_auth.features.magic_link.tokens import LIFE

OURS: Final = "__Host-sign-in-link"


def _name_for(request: Request) -> str:
    return name_for(request).replace(NAME, OURS)


def read_binding(request: Request) -> str:
    """Return the secret that the browser sent; "" if it has not asked for a link."""
    return request.cookies.get(_name_for(request), "")


def keep_binding(request: Request, response: Response, secret: str) -> None:
    """Let the browser keep the secret for as long as a link lives. Lax, because the link is opened from a mail."""
    seconds = int(LIFE.total_seconds())
    response.set_cookie(
        _name_for(request), secret, max_age=seconds, secure=True, httponly=True, samesite="lax"
    )  # guard: test_the_cookie_of_a_link_has_every_lock


def forget_binding(request: Request, response: Response) -> None:
    """Let the browser drop the secret."""
    response.set_cookie(_name_for(request), "", max_age=0, secure=True, httponly=True, samesite="lax")
