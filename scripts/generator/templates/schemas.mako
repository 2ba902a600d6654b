"""${words.many.capitalize()} on the wire."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, TypedDict
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, with_config

from app_api.paging import Page

% for field in fields:
% if field.kind.bounds:
type ${field.alias(words.model)} = Annotated[${field.kind.bounds}]
% endif
% endfor


class ${words.model}Create(BaseModel, extra="forbid"):
    """A new ${words.one}."""

% for field in fields:
    ${field.name}: ${field.accepted(words.model)}${" = None" if field.is_optional else ""}
% endfor


@with_config(extra="forbid")
class ${words.model}Update(TypedDict, total=False):
    """A change of ${words.a_one}; absent fields stay as they are."""

% for field in fields:
    ${field.name}: ${field.accepted(words.model)}
% endfor


class ${words.model}Read(BaseModel):
    """${words.a_one.capitalize()} as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
% for field in fields:
    ${field.name}: ${field.python}
% endfor
    created_at: datetime
    updated_at: datetime


class ${words.model}Page(Page[${words.model}Read]):
    """${words.many.capitalize()}, newest first."""
