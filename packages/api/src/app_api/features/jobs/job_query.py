"""The filter of jobs as the address bar has it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import BeforeValidator, Field

from app_api.filters import NOBODY, Empty, PageQuery, Text, id_or_address
from app_db import Session
from app_db.jobs.filters import JobFilter
from app_db.models import JobState
from app_db.repositories.job_failures import account_and_jobs_with_error

PER_PAGE: Final = 25


class Age(StrEnum):
    """When jobs were enqueued."""

    HOUR = "1h"
    DAY = "1d"
    WEEK = "7d"
    OLDER_HOUR = "older-1h"
    OLDER_DAY = "older-1d"


AGES: Final[Mapping[Age, tuple[str, timedelta]]] = {
    Age.HOUR: ("in the last hour", timedelta(hours=1)),
    Age.DAY: ("in the last day", timedelta(days=1)),
    Age.WEEK: ("in the last week", timedelta(days=7)),
    Age.OLDER_HOUR: ("more than an hour ago", timedelta(hours=1)),
    Age.OLDER_DAY: ("more than a day ago", timedelta(days=1)),
}


def _split(value: object) -> object:
    return ",".join(map(str, value)).split(",") if isinstance(value, list) and value else value


class JobQuery(PageQuery):
    """A filter as the address bar has it."""

    state: Empty[JobState] = None
    kind: Text = ""
    queue: Text = ""
    owner: Text = ""
    """The address or the id of an account."""
    error: Text = ""
    age: Empty[Age] = None
    id: Annotated[list[UUID], BeforeValidator(_split), Field(max_length=PER_PAGE)] = []  # noqa: RUF012  # pydantic copies it
    """The jobs that are ticked: a box each, or all in one field, because a form gives no field twice here."""

    def fields(self) -> dict[str, str]:
        """Return the names and values that a form or an address repeats."""
        given = {name: value for name, value in super().fields().items() if name != "id"}
        return given | ({"id": ",".join(map(str, self.id))} if self.id else {})


async def filter_of(session: Session, query: JobQuery, *, now: datetime) -> JobFilter:
    """Return the filter for the ledger, by one query at most; ages are counted from `now`."""
    owner_id, ids = id_or_address(query.owner), tuple(query.id) or None
    email, error = owner_id if isinstance(owner_id, str) else None, "" if ids else query.error
    if email or error:
        account_id, found = await account_and_jobs_with_error(session, email=email, error=error)
        ids = found if error else ids
        owner_id = (account_id or NOBODY) if email else owner_id
    assert not isinstance(owner_id, str), "it was looked up"
    since = before = None
    if query.age is not None:
        _, length = AGES[query.age]
        moment = now - length
        since, before = (None, moment) if query.age.startswith("older") else (moment, None)
    return JobFilter(query.state, query.kind or None, query.queue or None, owner_id, since, before, ids)
