"""The accounts of everybody, found by a filter that the address bar holds."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.paths import ROOT
from app_api.dependencies import CursorDep, SessionDep
from app_api.filters import Empty, PageQuery, Text
from app_auth.addresses import beginning_of
from app_db import Session
from app_db.models import Role
from app_db.repositories.account_lists import AccountFilter, AccountState
from app_db.repositories.users import UserRepository
from app_db.types import utcnow

router = APIRouter()

ACCOUNTS: Final = f"{ROOT}/accounts"
LINK = Link("Accounts", ACCOUNTS, order=50)
PER_PAGE: Final = 25


class SignIns(StrEnum):
    """When somebody last signed in."""

    DAY = "1d"
    MONTH = "30d"
    NOT_MONTH = "older-30d"
    NOT_YEAR = "older-365d"
    NEVER = "never"


SPANS: Final[Mapping[SignIns, tuple[str, timedelta]]] = {
    SignIns.DAY: ("in the last day", timedelta(days=1)),
    SignIns.MONTH: ("in the last 30 days", timedelta(days=30)),
    SignIns.NOT_MONTH: ("more than 30 days ago", timedelta(days=30)),
    SignIns.NOT_YEAR: ("more than a year ago", timedelta(days=365)),
    SignIns.NEVER: ("never", timedelta(0)),
}


class AccountQuery(PageQuery):
    """A filter of accounts as the address bar has it."""

    address: Text = ""
    state: Empty[AccountState] = None
    role: Empty[Role] = None
    signed_in: Empty[SignIns] = None

    def to_filter(self) -> AccountFilter:
        """Return the filter for the repository."""
        since = before = None
        if self.signed_in not in {None, SignIns.NEVER}:
            moment = utcnow() - SPANS[self.signed_in][1]
            since, before = (None, moment) if self.signed_in.startswith("older") else (moment, None)
        never = self.signed_in is SignIns.NEVER
        return AccountFilter(beginning_of(self.address), self.state, self.role, since, before, never)


@router.get("/accounts")
async def list_accounts(
    page: PageDep, session: SessionDep, after: CursorDep, query: Annotated[AccountQuery, Query()]
) -> HTMLResponse:
    """List the accounts that match, newest first, or by their last sign-in."""
    found = await UserRepository(session).matching(query.to_filter(), after=after, limit=PER_PAGE)
    return page.render(
        "accounts.html",
        query=query,
        found=found,
        rows={user.id: user for user in found.items},
        after=after,
        states=list(AccountState),
        roles=list(Role),
        spans={span: text for span, (text, _) in SPANS.items()},
    )


async def read_rows(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the rows of all pages, by one query. They stay where they are, so that nobody clicks on another one."""
    asked = {one: [UUID(about) for about in one.about.split(",") if is_id(about)][:PER_PAGE] for one in watched}
    users = {
        user.id: user for user in await UserRepository(session).among({each for of in asked.values() for each in of})
    }
    return {one: {"rows": {user_id: users.get(user_id) for user_id in of_page}} for one, of_page in asked.items()}


LIVE = {"account-rows": Fragment("accounts_table.html", read_rows)}
