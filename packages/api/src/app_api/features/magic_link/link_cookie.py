"""The cookie of a browser that has asked for a link to sign in with."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app_api.console.cookie import forget_cookie, keep_cookie, name_for
from app_auth.features.magic_link.tokens import LIFE

NAME: Final = "__Host-sign-in-link"


def read_binding(request: Request) -> str:
    """Return the secret that the browser sent; "" if it has not asked for a link."""
    return request.cookies.get(name_for(request, NAME), "")


def keep_binding(request: Request, response: Response, secret: str) -> None:
    """Let the browser keep the secret for as long as a link lives."""
    keep_cookie(request, response, NAME, secret, life=LIFE)  # guard: test_the_cookie_of_a_link_has_every_lock


def forget_binding(request: Request, response: Response) -> None:
    """Let the browser drop the secret."""
    forget_cookie(request, response, NAME)
