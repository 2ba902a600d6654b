"""The secret that binds what a browser has begun to that browser: a cookie of its own, which signs nobody in."""

import re
from typing import Final

from fastapi import Request, Response

from app_api.console.cookie import keep_cookie, name_for
from app_auth.features.providers.states import LIFE, new_secret

_NAME: Final = "__Host-console-providers"
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def read_browser_secret(request: Request) -> str | None:
    """Return the secret that the browser sent; None if there is none."""
    secret = request.cookies.get(name_for(request, _NAME), "")
    return secret if _SECRET.fullmatch(secret) else None


def browser_secret(request: Request) -> str:
    """Return the secret of the browser, or a new one: all its tabs share it, so that none ends what another began."""
    return read_browser_secret(request) or new_secret()


def keep_browser_secret(request: Request, response: Response, secret: str) -> None:
    """Let the browser keep the secret for as long as a state is good for."""
    keep_cookie(request, response, _NAME, secret, life=LIFE)  # guard: test_the_cookie_that_binds_has_every_lock
