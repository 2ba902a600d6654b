"""Filters that the address bar holds: what an empty field means, and how a link repeats them."""

from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from app_auth.addresses import canonical_email
from app_auth.errors import InvalidEmail
from app_db import Session
from app_db.repositories.users import UserRepository

NOBODY: Final = UUID(int=0)
"""The account that an unknown address stands for: nothing is its."""
_DAY: Final = len("2026-12-24")
_YEARS: Final = range(1970, 9999)
"""Ids have no times before 1970; nothing beyond can be a datetime a minute later."""

type Empty[T] = Annotated[T | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A field that may be left out, or be empty as a form sends it."""
type Text = Annotated[
    str, BeforeValidator(lambda value: value.strip() if isinstance(value, str) else value), Field(max_length=320)
]
"""A text without the blanks around it; a filter without it is empty."""


def moment(text: str) -> datetime | None:
    """Return the time in UTC that a filter has; None for an empty one."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


def _minutes(text: str, *, of_day: str) -> str:
    whole = f"{text}T{of_day}" if len(text) == _DAY else text
    time = moment(whole)
    if time is not None and time.year not in _YEARS:
        raise ValueError("give a time from 1970 to 9998")
    return whole


type Since = Annotated[Text, AfterValidator(lambda text: _minutes(text, of_day="00:00"))]
"""A time in UTC, such as 2026-12-24T18:00; a day alone means its first minute."""
type Until = Annotated[Text, AfterValidator(lambda text: _minutes(text, of_day="23:59"))]
"""The like; a day alone means its last minute."""


def id_or_address(text: str) -> UUID | str | None:
    """Return the id of an account that somebody has typed, or its canonical address; None for an empty text."""
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        pass
    try:
        return canonical_email(text)
    except InvalidEmail:
        return NOBODY


async def accounts_named(session: Session, *texts: str) -> list[UUID | None]:
    """Return the account of each text, an id or an address; None for an empty one. All by one query at most."""
    named = [id_or_address(text) for text in texts]
    ids = await UserRepository(session).ids_of({each for each in named if isinstance(each, str)})
    return [ids.get(each, NOBODY) if isinstance(each, str) else each for each in named]


def parsed[Q: BaseModel](kind: type[Q], about: str) -> Q | None:
    """Return the query that a page wrote behind the colon of a mark; None for what no page writes."""
    try:
        return kind.model_validate(dict(parse_qsl(about)))
    except ValidationError:
        return None


class PageQuery(BaseModel):
    """A filter as the address bar has it.

    Example:
        class PetQuery(PageQuery):
            name: Text = ""

        assert PetQuery(name=" Rex ").to_query(after="x") == "name=Rex&after=x"
    """

    def fields(self) -> dict[str, str]:
        """Return the names and values that a form or an address repeats."""
        return {name: str(value) for name, value in self if value}

    def to_query(self, **others: str) -> str:
        """Return it as it stands in an address."""
        return urlencode(self.fields() | others)
