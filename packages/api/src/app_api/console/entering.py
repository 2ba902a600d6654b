"""What every way of signing in to the console shares: the fields of its page, and what the browser keeps in the end."""

from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse

from app_api.console.cookie import keep_secret
from app_api.console.paths import safe_next
from app_api.console.responses import see_other
from app_auth.auth import Auth
from app_auth.browser_sessions import BrowserSession


def sign_in_fields(request: Request, *, next_page: str | None, email: str = "") -> dict[str, Any]:  # Any: a template's
    """Return what `sign_in.html` shows."""
    # Browsers send it to https and to loopback, which are where they keep the cookie.
    trustworthy, auth = "sec-fetch-site" in request.headers, request.state.auth.settings
    return {"email": email, "next": safe_next(next_page), "trustworthy": trustworthy, "auth": auth}


def enter(request: Request, auth: Auth, begun: BrowserSession, *, to: str) -> RedirectResponse:
    """Let the browser keep the session that has begun, and lead it to the page that was asked for.

    Example:
        begun = await browser_sessions.hand_over(auth, session, user_session, client=client)
        return enter(request, auth, begun, to=form.next)
    """
    response = see_other(safe_next(to))
    keep_secret(request, response, begun.secret, life=auth.settings.refresh_absolute)
    return response
