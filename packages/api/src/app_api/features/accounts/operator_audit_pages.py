"""The audit of all accounts, found by a filter that the address bar holds."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator

from app_api.console.dependencies import PageDep
from app_api.console.filters import Empty, PageQuery, Since, Text, Until, account_named, moment
from app_api.console.found import Link
from app_api.console.paths import ROOT
from app_api.dependencies import CursorDep, SessionDep
from app_auth.audit import Event
from app_db import Session
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.users import UserRepository

router = APIRouter()

AUDIT: Final = f"{ROOT}/audit"
LINK = Link("Audit", AUDIT, order=60)
PER_PAGE: Final = 50
MINUTE: Final = timedelta(minutes=1)


def _in_one_spelling(address: str) -> str:
    """Return an IP address as the audit has it; any other text as it is."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address


class AuditQuery(PageQuery):
    """A filter of events as the address bar has it."""

    event: Empty[Event] = None
    account: Text = ""
    """The address or the id of an account; one that is gone has only an id."""
    by: Text = ""
    """The address or the id of an operator."""
    client: Annotated[Text, AfterValidator(_in_one_spelling)] = ""
    """The address of the client."""
    since: Since = ""
    until: Until = ""
    """The last minute that counts."""

    async def to_filter(self, session: Session) -> AuditFilter:
        """Return the filter for the repository; addresses are looked up."""
        until = moment(self.until)
        return AuditFilter(
            event=self.event,
            user_id=await account_named(session, self.account),
            actor_id=await account_named(session, self.by),
            client_address=self.client or None,
            since=moment(self.since),
            before=None if until is None else until + MINUTE,  # guard: test_the_last_minute_and_the_last_day_count
        )


@router.get("/audit")
async def list_events(
    page: PageDep, session: SessionDep, after: CursorDep, query: Annotated[AuditQuery, Query()]
) -> HTMLResponse:
    """List the events that match, newest first."""
    found = await AuditRepository(session).matching(await query.to_filter(session), after=after, limit=PER_PAGE)
    accounts = {one for event in found.items for one in (event.user_id, event.actor_id) if one is not None}
    emails = await UserRepository(session).emails_of(accounts)
    return page.render("audit.html", query=query, found=found, after=after, events=list(Event), emails=emails)
