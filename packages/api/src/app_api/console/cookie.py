"""The cookie of the console: it holds the secret of a login session, and only the console reads it (ADR-0059)."""

from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app_api.host_names import read_authority

NAME: Final = "__Host-console"
"""Browsers take a cookie of such a name only with Secure, for the whole host, and from this very host (RFC 6265bis)."""


CHALLENGE: Final = "__Host-console-challenge"
"""The cookie of a sign-in that waits for a second factor: no page, address or log shows the challenge in it."""


def name_for(request: Request, name: str = NAME) -> str:
    """Return the name of the cookie; it has the port, because all ports of a host share their cookies."""
    authority = read_authority(request.headers["host"].encode("latin-1"))
    return f"{name}-{authority.port}" if authority is not None and authority.port is not None else name


def keep_cookie(request: Request, response: Response, name: str, value: str, *, life: timedelta) -> None:
    """Let the browser keep a cookie with every lock. Plain http is enough for it on loopback addresses only.

    Lax and not Strict: a Strict cookie is not sent after a link from a mail or another site, nor when that page is
    reloaded.
    """
    seconds = int(life.total_seconds())
    response.set_cookie(name_for(request, name), value, max_age=seconds, secure=True, httponly=True, samesite="lax")


def forget_cookie(request: Request, response: Response, name: str) -> None:
    """Let the browser drop a cookie; Clear-Site-Data would take the cookies of our other hosts too."""
    keep_cookie(request, response, name, "", life=timedelta(0))


def read_secret(request: Request) -> str | None:
    """Return the secret that the browser sent, unverified."""
    return request.cookies.get(name_for(request))


def keep_secret(request: Request, response: Response, secret: str, *, life: timedelta) -> None:
    """Let the browser keep the secret."""
    keep_cookie(request, response, NAME, secret, life=life)  # guard: test_the_cookie_has_every_lock


def forget_secret(request: Request, response: Response) -> None:
    """Let the browser drop the secret."""
    forget_cookie(request, response, NAME)


def read_challenge(request: Request) -> str:
    """Return the challenge that the browser sent, unverified; empty without one."""
    return request.cookies.get(name_for(request, CHALLENGE), "")


def keep_challenge(request: Request, response: Response, challenge: str, *, life: timedelta) -> None:
    """Let the browser keep the challenge until it is answered."""
    keep_cookie(request, response, CHALLENGE, challenge, life=life)


def forget_challenge(request: Request, response: Response) -> None:
    """Let the browser drop the challenge."""
    forget_cookie(request, response, CHALLENGE)
