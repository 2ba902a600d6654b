"""One account: what it is, where it is signed in, what happened to it, its jobs and mails; and what to do about it."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final, Protocol
from uuid import UUID

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse

from app_api.console.dependencies import FreshViewerDep, PageDep, ViewerDep
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.rendering import Page
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.accounts.operator_pages import ACCOUNTS
from app_auth import operating
from app_auth.errors import UnknownAccount
from app_db import Session
from app_db.models import Role
from app_db.repositories.audit import AuditRepository
from app_db.repositories.jobs import JobRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository

router = APIRouter()

DONE = {
    "account-disabled": "The account is disabled and signed out.",
    "account-enabled": "The account is enabled.",
    "link-sent": "A link for a new password is on its way.",
    "role-changed": "The role counts from the next request on.",
    "sessions-ended": "All sessions of the account are ended.",
    "session-of-account-ended": "The session is ended.",
}
MOST_EVENTS: Final = 10
MOST_JOBS: Final = 100
"""How many of the newest jobs are looked at; of these, `SHOWN` mails and `SHOWN` others are shown."""
SHOWN: Final = 10
MAILS: Final = ("email.", "account.link")
"""How the kinds of jobs begin that are mails, or become one."""
MOST_FOLLOWED: Final = 20
"""How many accounts a process follows at once; the pages of others show how things were when they were loaded."""


class _OfKind(Protocol):
    @property
    def kind(self) -> str: ...


def _parted(jobs: Sequence[_OfKind]) -> dict[str, Sequence[_OfKind]]:
    """Return the mails among these jobs, and the others."""
    return {
        "mails": [job for job in jobs if job.kind.startswith(MAILS)][:SHOWN],
        "jobs": [job for job in jobs if not job.kind.startswith(MAILS)][:SHOWN],
    }


async def _shown(page: Page, session: Session, user_id: UUID) -> dict[str, Any]:  # Any: the template's
    """Return what the page of an account shows, by three queries."""
    assert page.viewer is not None, "pages of operators have one"
    found = await UserRepository(session).with_sessions(user_id)
    if found is None:
        raise UnknownAccount
    user, alive = found
    jobs = (await JobRepository(session).owned_by(user_id, after=None, limit=MOST_JOBS)).items
    return {
        "user": user,
        "user_id": user_id,
        "is_own": user_id == page.viewer.user_id,
        "roles": list(Role),
        "sessions": alive,
        "events": (await AuditRepository(session).of_user(user_id, after=None, limit=MOST_EVENTS)).items,
        **_parted(jobs),
    }


@router.get("/accounts/{user_id:uuid}")
async def account_page(user_id: UUID, page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show an account."""
    return page.render("operated_account.html", **await _shown(page, session, user_id), problem=None)


async def _show_refusals(page: Page, session: Session, user_id: UUID) -> None:
    page.on_error("operated_account.html", **await _shown(page, session, user_id))


def _back(user_id: UUID, *, done: str) -> RedirectResponse:
    return see_other(f"{ACCOUNTS}/{user_id}?done={done}")


@router.post("/accounts/{user_id:uuid}/disable")
async def disable_account(
    user_id: UUID, page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Let nobody into it, and sign it out everywhere."""
    await _show_refusals(page, session, user_id)
    await operating.disable(auth, session, viewer, user_id, client=client)
    return _back(user_id, done="account-disabled")


@router.post("/accounts/{user_id:uuid}/enable")
async def enable_account(
    user_id: UUID, page: PageDep, viewer: ViewerDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Let its owner in again."""
    await _show_refusals(page, session, user_id)
    await operating.enable(session, viewer, user_id, client=client)
    return _back(user_id, done="account-enabled")


@router.post("/accounts/{user_id:uuid}/role")
async def change_role(
    user_id: UUID, page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, session: SessionDep, client: ClientDep,
    role: Annotated[Role, Form()],
) -> RedirectResponse:  # fmt: skip
    """Give it another role."""
    await _show_refusals(page, session, user_id)
    await operating.change_role(auth, session, viewer, user_id, role=role, client=client)
    return _back(user_id, done="role-changed")


@router.post("/accounts/{user_id:uuid}/send-reset-link")
async def send_reset_link(
    user_id: UUID, page: PageDep, viewer: ViewerDep, *, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Have a link mailed to its owner that sets a new password."""
    await _show_refusals(page, session, user_id)
    await operating.send_reset_link(auth, session, viewer, user_id, client=client)
    return _back(user_id, done="link-sent")


@router.post("/accounts/{user_id:uuid}/sessions/end")
async def end_sessions(
    user_id: UUID, page: PageDep, viewer: ViewerDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Sign it out everywhere."""
    await _show_refusals(page, session, user_id)
    await operating.end_sessions(session, viewer, user_id, client=client)
    return _back(user_id, done="sessions-ended")


@router.post("/accounts/{user_id:uuid}/sessions/{session_id:uuid}/end")
async def end_session(
    user_id: UUID, session_id: UUID, page: PageDep, *, viewer: ViewerDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Sign it out in one place."""
    await _show_refusals(page, session, user_id)
    await operating.end_session(session, viewer, user_id, session_id=session_id, client=client)
    return _back(user_id, done="session-of-account-ended")


def _asked(watched: Collection[Watched]) -> dict[Watched, UUID]:
    """Return the accounts that are followed; always the same ones of too many."""
    asked = {one: UUID(one.about) for one in watched if is_id(one.about)}
    followed = sorted({*asked.values()})[:MOST_FOLLOWED]
    return {one: user_id for one, user_id in asked.items() if user_id in followed}


async def read_facts(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the accounts that operators look at, by one query."""
    asked = _asked(watched)
    users = {user.id: user for user in await UserRepository(session).among({*asked.values()})}
    return {one: {"user": users[user_id]} for one, user_id in asked.items() if user_id in users}


async def read_accounts(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return what belongs to the accounts that operators look at, by three queries."""
    asked = _asked(watched)
    user_ids = {*asked.values()}
    alive = await UserSessionRepository(session).alive_of_each(user_ids)
    events = await AuditRepository(session).newest_of_each(user_ids, limit=MOST_EVENTS)
    jobs = await JobRepository(session).briefs_of_each(user_ids, limit=MOST_JOBS)
    return {
        one: {"user_id": id_, "sessions": alive[id_], "events": events[id_], **_parted(jobs[id_])}
        for one, id_ in asked.items()
    }


# Two parts, because the form between them depends on who looks at the page, and parts do not.
LIVE = {
    "account": Fragment("account_live.html", read_accounts),
    "account-facts": Fragment("account_facts.html", read_facts),
}
