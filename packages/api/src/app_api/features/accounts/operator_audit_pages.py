"""The audit of all accounts, found by a filter that the address bar holds."""

from collections.abc import Collection
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.console.paths import ROOT
from app_api.dependencies import CursorDep, SessionDep
from app_api.filters import Empty, PageQuery, Since, Text, Until, accounts_named, moment, parsed
from app_auth.audit import Event
from app_db import Session
from app_db.models import AuditEvent
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.users import UserRepository
from app_db.types import first_id_at

router = APIRouter()

AUDIT: Final = f"{ROOT}/audit"
LINK = Link("Audit", AUDIT, order=60)
PER_PAGE: Final = 50
MINUTE: Final = timedelta(minutes=1)
NEWEST: Final = 200
"""How many of the newest events are looked at, to say how many have come since a page was loaded."""
NONE_YET: Final = UUID(int=0)


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
        user_id, actor_id = await accounts_named(session, self.account, self.by)
        return AuditFilter(
            event=self.event,
            user_id=user_id,
            actor_id=actor_id,
            client_address=self.client or None,
            since=moment(self.since),
            before=None if until is None else until + MINUTE,  # guard: test_the_last_minute_and_the_last_day_count
        )


@router.get("/audit")
async def list_events(
    page: PageDep, session: SessionDep, after: CursorDep, query: Annotated[AuditQuery, Query()]
) -> HTMLResponse:
    """List the events that match, newest first."""
    wanted = await query.to_filter(session)
    found = await AuditRepository(session).matching(wanted, after=after, limit=PER_PAGE)
    accounts = {one for event in found.items for one in (event.user_id, event.actor_id) if one is not None}
    emails = await UserRepository(session).emails_of(accounts)
    return page.render(
        "audit.html",
        query=query,
        found=found,
        after=after,
        events=list(Event),
        emails=emails,
        newer=None if after else _newer_mark(query, wanted, found.items[0].id if found.items else NONE_YET),
    )


class NewerEvents(AuditQuery):
    """A filter with the ids of its accounts, and the newest event that a page shows."""

    first: UUID

    def fields(self) -> dict[str, str]:
        """Return those of the list, which an address repeats."""
        return {name: value for name, value in super().fields().items() if name != "first"}

    def is_met_by(self, event: AuditEvent) -> bool:
        """Return whether an event is newer than those on the page, and matches."""
        wanted = (
            (event.event, self.event),
            (event.user_id, self.account),
            (event.actor_id, self.by),
            (event.client_address, self.client),
        )
        since, until = moment(self.since), moment(self.until)
        return (
            event.id > self.first
            and (since is None or event.id >= first_id_at(since))
            and (until is None or event.id < first_id_at(until + MINUTE))
            and all(not value or str(value) == str(given) for given, value in wanted)
        )


def _newer_mark(query: AuditQuery, wanted: AuditFilter, first: UUID) -> str:
    """Return what a page watches to say that newer events match; accounts by id, so that no poll looks them up."""
    ids = {"account": str(wanted.user_id or ""), "by": str(wanted.actor_id or "")}
    return query.model_copy(update=ids).to_query(first=str(first))


async def read_newer(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return how many events have come that match, for all filters, by one query."""
    queries = {one: query for one in watched if (query := parsed(NewerEvents, one.about)) is not None}
    newest = await AuditRepository(session).newest(NEWEST)
    return {
        one: {"count": sum(map(query.is_met_by, newest)), "most": NEWEST, "address": query.to_query()}
        for one, query in queries.items()
    }


LIVE = {"newer-events": Fragment("audit_newer.html", read_newer)}
