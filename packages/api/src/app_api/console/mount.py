"""Adds the console to the application."""

from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Any

from fastapi import Depends, FastAPI, Request, params
from fastapi.responses import RedirectResponse, Response

from app_api.console import assets
from app_api.console.cookie import keep_challenge
from app_api.console.dependencies import ConfirmationRequired, SignInRequired, require_operator_page
from app_api.console.error_pages import ErrorPages
from app_api.console.found import PageModule, found_pages
from app_api.console.live import Hub
from app_api.console.origin import require_same_origin
from app_api.console.paths import CONFIRM, ROOT, SIGN_IN, is_ours, path_of, with_next
from app_api.console.rendering import FORM, open_console
from app_api.console.responses import see_other
from app_api.problems import app_error_response
from app_auth.challenges import SecondFactorRequired
from app_auth.one_time import CHALLENGE_TTL
from app_runtime.configuration import Effective


def add_console(app: FastAPI, stopping: Event, settings: Iterable[Effective], mailbox: Path | None) -> None:
    """Serve the console at `/console`. It has to be the last to add a middleware.

    With a mailbox, the folder of caught mails, the pages of `development/` are there too.

    Raises:
        FeatureError: a module of pages has no `router`.
    """
    modules = found_pages(development=mailbox is not None)
    app.state.console_mailbox = mailbox
    app.state.console = console = open_console(modules, has_mails=mailbox is not None)
    app.state.console_settings = tuple(settings)
    app.state.console_hub = hub = Hub(console, stopping=stopping)
    hub.process["mailbox"] = mailbox
    add_pages(app, modules)
    app.add_exception_handler(SignInRequired, lead_to_sign_in)
    app.add_exception_handler(ConfirmationRequired, lead_to_confirmation)
    app.add_exception_handler(SecondFactorRequired, lead_to_second_factor)
    app.add_middleware(ErrorPages, console=console)


def add_pages(app: FastAPI, modules: tuple[PageModule, ...]) -> None:
    """Add the routes of all pages; the check of the origin stands before each of them.

    They have no router in common: FastAPI (0.165) analyses each route of a nested router once more, for 50 ms.
    """
    first: list[params.Depends] = []
    first.append(Depends(require_same_origin))  # guard: test_no_form_of_another_site_is_taken
    app.include_router(assets.router, prefix=ROOT, dependencies=first, include_in_schema=False)
    for module in modules:
        needs = [Depends(require_operator_page)] if module.for_operators else []
        app.include_router(module.router, prefix=ROOT, dependencies=[*first, *needs], include_in_schema=False)


async def lead_to_sign_in(request: Request, error: Exception) -> RedirectResponse:
    """Lead to the sign-in page, and from there back to the page that was asked for."""
    return see_other(with_next(SIGN_IN, _page_of(request)))


async def lead_to_confirmation(request: Request, error: Exception) -> RedirectResponse:
    """Lead to the page that asks for the password again, and from there back."""
    return see_other(with_next(CONFIRM, _page_of(request)))


async def lead_to_second_factor(request: Request, error: Exception) -> Response:
    """Lead a browser to the page of the factor, `/console/sign-in/totp`, and from there to the page that it wanted."""
    assert isinstance(error, SecondFactorRequired)
    if not is_ours(request.url.path):
        return app_error_response(request.scope, error)
    form: dict[str, Any] = getattr(request.state, FORM, ("", {}))[1]  # Any: a template's
    response = see_other(with_next(f"{SIGN_IN}/{error.methods[0]}", form.get("next", ROOT)))
    keep_challenge(request, response, error.challenge, life=CHALLENGE_TTL)
    return response


def _page_of(request: Request) -> str:
    """Return the page that was asked for; for a form, the page that it stood on."""
    if request.method == "GET":
        return path_of(str(request.url))
    return path_of(request.headers.get("referer", ""))
