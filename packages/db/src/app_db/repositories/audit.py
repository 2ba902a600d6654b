"""The audit: events are inserted and read, never changed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, literal, select

from app_db.models import AuditEvent
from app_db.paging import Cursor, Slice
from app_db.repositories.walks import Order, newest_of_each, pinned_to, walk
from app_db.session import Session
from app_db.types import first_id_at

_INDEXED: Final = ("user_id", "actor_id", "client_address", "event")
"""The columns with an index each, which has their rows in the order of ids; those first that tell more apart."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Chooses the events that match all values that are not None."""

    event: str | None = None
    user_id: UUID | None = None
    """The account that it happened to."""
    actor_id: UUID | None = None
    """The operator who did it."""
    client_address: str | None = None
    since: datetime | None = None
    """At this time or later, as their ids say."""
    before: datetime | None = None
    """Before this time."""

    @property
    def given(self) -> list[str]:
        """The columns whose value is given, that with the best index first."""
        return [name for name in _INDEXED if getattr(self, name) is not None]

    def equal(self, names: list[str], event: Any = AuditEvent) -> list[ColumnElement[bool]]:  # Any: or its alias
        """Return the conditions of these columns."""
        return [getattr(event, name) == getattr(self, name) for name in names]

    def range_after(self, after: Cursor | None) -> tuple[Order, list[ColumnElement[bool]]]:
        """Return the order of the best index, and the range of it that may have events of a page."""
        since, before = (None if time is None else first_id_at(time) for time in (self.since, self.before))
        bounds = [] if since is None else [AuditEvent.id >= _known(since)]
        ends = [each for each in (before, after.last_id if after else None) if each is not None]
        months = [
            *bounds,
            *(AuditEvent.id < _known(each) for each in ends),
        ]  # guard: test_lists_look_only_at_months_that_can_have_their_events
        if not self.given:
            return (AuditEvent.id,), months
        order = (getattr(AuditEvent, self.given[0]), AuditEvent.id)
        pinned = pinned_to(order, getattr(self, self.given[0]), since=since, before=before, after=after)
        return order, [*pinned, *months]


def _known(event_id: UUID) -> ColumnElement[UUID]:
    """Return the id as a part of the statement: a plan for any two ids expects few events between them.

    Then it would read all of a month by their ids, whatever else is asked for.
    """
    return literal(
        event_id, AuditEvent.id.type, literal_execute=True
    )  # guard: test_no_list_of_the_audit_reads_the_table


@dataclass(frozen=True, slots=True)
class AuditRepository:
    """Inserts and reads the events of accounts."""

    session: Session

    def add(self, event: AuditEvent) -> None:
        """Add the event to the transaction. Makes no query."""
        self.session.add(event)

    async def of_user(self, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[AuditEvent]:
        """Return a page of the events of one account, newest first; also of a deleted account."""
        return await self.matching(AuditFilter(user_id=user_id), after=after, limit=limit)

    async def recent(self, *, after: Cursor | None, limit: int) -> Slice[AuditEvent]:
        """Return a page of the events of all accounts, newest first."""
        return await self.matching(AuditFilter(), after=after, limit=limit)

    async def matching(self, wanted: AuditFilter, *, after: Cursor | None, limit: int) -> Slice[AuditEvent]:
        """Return a page of the events that match, newest first.

        The page ends early, and says so, when enough events were looked at; its cursor goes on from there.
        """
        others = wanted.given[1:]

        def rest(event: Any) -> list[ColumnElement[bool]]:  # Any: the alias
            return wanted.equal(others, event)

        order, within = wanted.range_after(after)
        return await walk(
            self.session,
            AuditEvent,
            order=order,
            within=within,
            sift=rest if others else None,
            after=None,
            limit=limit,
        )

    async def newest(self, limit: int) -> Sequence[AuditEvent]:
        """Return the newest events of all accounts, the last first."""
        return (await self.session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit))).all()

    async def newest_of_each(self, user_ids: Collection[UUID], *, limit: int) -> dict[UUID, list[AuditEvent]]:
        """Return up to `limit` events of each of these accounts, newest first, by one query."""
        columns = [getattr(AuditEvent, column.key) for column in AuditEvent.__table__.columns]
        events: dict[UUID, list[AuditEvent]] = {user_id: [] for user_id in user_ids}
        for row in await self.session.execute(newest_of_each(AuditEvent.user_id, user_ids, *columns, limit=limit)):
            events[row.user_id].append(AuditEvent(**row._mapping))  # noqa: SLF001  # so SQLAlchemy names it
        return events

    async def begins_at(self, wanted: AuditFilter) -> datetime | None:
        """Return when the oldest event happened that may match: a list of all that match goes back to it."""
        order, within = wanted.range_after(None)
        oldest = select(AuditEvent.happened_at).where(*within).order_by(*order).limit(1)
        return (await self.session.scalars(oldest)).one_or_none()
