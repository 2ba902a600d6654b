"""The filter of jobs as the address bar has it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field

from app_auth.addresses import canonical_email
from app_auth.errors import InvalidEmail
from app_db import Session
from app_db.jobs.filters import JobFilter
from app_db.models import JobState
from app_db.repositories.job_failures import jobs_with_error
from app_db.repositories.users import UserRepository

PER_PAGE: Final = 25
NOBODY: Final = UUID(int=0)
"""The owner that an unknown address stands for: it has no jobs."""


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


def none_if_empty(value: object) -> object:
    """Read an empty field of a form as one that was left out."""
    return None if value == "" else value


def _text(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _split(value: object) -> object:
    return ",".join(map(str, value)).split(",") if isinstance(value, list) and value else value


type Empty[T] = Annotated[T | None, BeforeValidator(none_if_empty)]
type Text = Annotated[str, BeforeValidator(_text), Field(max_length=200)]


class JobQuery(BaseModel):
    """A filter as the address bar has it."""

    state: Empty[JobState] = None
    kind: Text = ""
    queue: Text = ""
    owner: Text = ""
    """The address or the id of an account."""
    error: Text = ""
    age: Empty[Age] = None
    id: Annotated[list[UUID], BeforeValidator(_split), Field(max_length=PER_PAGE)] = []
    """The jobs that are ticked: a box each, or all in one field, because a form gives no field twice here."""

    def fields(self) -> dict[str, str]:
        """Return the names and values that a form or an address repeats."""
        given = {name: str(value) for name, value in self if value and name != "id"}
        return given | ({"id": ",".join(map(str, self.id))} if self.id else {})

    def to_query(self, **others: str) -> str:
        """Return it as it stands in an address."""
        return urlencode(self.fields() | others)


async def filter_of(session: Session, query: JobQuery, *, now: datetime) -> JobFilter:
    """Return the filter for the ledger; ages are counted from `now`."""
    ids = tuple(query.id) or None
    if query.error and ids is None:
        ids = await jobs_with_error(session, query.error)
    since = before = None
    if query.age is not None:
        _, length = AGES[query.age]
        moment = now - length
        since, before = (None, moment) if query.age.startswith("older") else (moment, None)
    owner_id = await _owner_of(session, query.owner) if query.owner else None
    return JobFilter(query.state, query.kind or None, query.queue or None, owner_id, since, before, ids)


async def _owner_of(session: Session, owner: str) -> UUID:
    try:
        return UUID(owner)
    except ValueError:
        try:
            return await UserRepository(session).find_id(canonical_email(owner)) or NOBODY
        except InvalidEmail:
            return NOBODY
