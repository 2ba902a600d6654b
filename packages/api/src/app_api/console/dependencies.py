"""The dependencies of pages, each declared once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Request
from starlette.exceptions import HTTPException
from structlog.contextvars import bind_contextvars

from app_api.console.cookie import read_secret
from app_api.console.rendering import Page
from app_api.dependencies import AuthDep, SessionDep
from app_auth import browser_sessions
from app_auth.errors import InvalidToken, ReauthenticationRequired
from app_auth.permissions import is_operator, require_fresh
from app_auth.principal import Principal
from app_db.errors import Forbidden, Unauthenticated


class SignInRequired(Unauthenticated):
    """Sign in first."""

    code = "sign_in_required"


class ConfirmationRequired(Forbidden):
    """Enter your password again: this needs a sign-in of the last minutes."""

    code = "confirmation_required"


async def get_viewer(request: Request, after_answer: BackgroundTasks) -> Principal:
    """Return who is signed in by the cookie, found by one query. An Authorization header counts for nothing here.

    Once in ten minutes, another statement notes after the answer that the session is in use.

    Raises:
        SignInRequired: nobody is; the answer leads to the sign-in page.
    """
    secret = read_secret(request)
    if secret is None:
        raise SignInRequired  # guard: test_a_page_without_a_cookie_leads_to_the_sign_in
    try:
        viewer = await browser_sessions.authenticate(request.state.auth, request.state.database, secret=secret)
    except InvalidToken as error:
        raise SignInRequired from error
    if browser_sessions.is_use_unnoted(viewer):
        after_answer.add_task(
            browser_sessions.note_use, request.state.auth, request.state.database, viewer
        )  # guard: test_a_page_is_answered_before_the_use_of_its_session_is_noted
    bind_contextvars(user_id=str(viewer.user_id))
    return viewer


ViewerDep = Annotated[Principal, Depends(get_viewer)]
"""Who is signed in; everybody else is led to the sign-in page.

Example:
    @router.post("/sign-out-elsewhere")
    async def sign_out_elsewhere(viewer: ViewerDep, session: SessionDep, client: ClientDep) -> RedirectResponse:
        await sessions.revoke_others(session, viewer, client=client)
        return see_other("/console/account")
"""


async def require_operator_page(viewer: ViewerDep) -> None:
    """Answer as if the page did not exist, unless an operator asks. All of `operators/` has it: none can forget it."""
    if not is_operator(viewer):
        raise HTTPException(404)  # guard: test_the_pages_of_operators_do_not_exist_for_others


@contextmanager
def confirming() -> Iterator[None]:
    """Lead to the page that asks for the password again, if what is done in this block needs a fresh sign-in.

    Raises:
        ConfirmationRequired: it does, and the sign-in is not fresh.
    """
    try:
        yield
    except ReauthenticationRequired as error:
        raise ConfirmationRequired from error


async def get_fresh_viewer(viewer: ViewerDep, auth: AuthDep, session: SessionDep) -> Principal:
    """Return who is signed in, if the password was asked for in the last minutes.

    Raises:
        ConfirmationRequired: it was not; the answer leads to a page that asks for it.
    """
    with confirming():
        await require_fresh(auth, session, viewer)  # guard: test_what_cannot_be_undone_asks_for_the_password_again
    return viewer


FreshViewerDep = Annotated[Principal, Depends(get_fresh_viewer)]
"""Who has signed in within the last five minutes (`APP_AUTH__FRESH_SIGN_IN`); others are asked for the password again.

Example:
    @router.post("/accounts/{user_id}/disable")
    async def disable(user_id: UUID, viewer: FreshViewerDep, session: SessionDep) -> RedirectResponse: ...
"""


async def get_page(request: Request, viewer: ViewerDep) -> Page:
    """Return the page for who is signed in."""
    return Page(request, viewer)


PageDep = Annotated[Page, Depends(get_page)]
"""A page for who is signed in: `page.render("pets.html", pets=pets)`.

Example:
    @router.get("/pets")
    async def pets(page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
        return page.render("pets.html", pets=await service.pets_of(session, viewer))
"""


async def get_open_page(request: Request) -> Page:
    """Return the page for a visitor."""
    return Page(request, None)


OpenPageDep = Annotated[Page, Depends(get_open_page)]
"""A page for visitors, such as the sign-in page."""
