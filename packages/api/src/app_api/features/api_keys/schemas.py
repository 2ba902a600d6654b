"""Keys for machines on the wire."""

from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from app_auth.features.api_keys.service import LIFE, LONGEST_LIFE, SHORTEST_LIFE, NewKey
from app_db.features.api_keys.models import ApiKey

KeyName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class KeyCreate(BaseModel, extra="forbid"):
    """A new key."""

    name: KeyName
    scopes: Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=50)]
    """`unknown_scope` lists those that there are."""
    days: Annotated[int, Field(ge=SHORTEST_LIFE.days, le=LONGEST_LIFE.days)] = LIFE.days
    """How long it lives."""

    @property
    def life(self) -> timedelta:
        """How long it lives."""
        return timedelta(days=self.days)


class KeyRead(BaseModel):
    """A key as its owner sees it; the key itself is shown once, when it is made."""

    id: UUID
    """Also the second part of the key."""
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    """To some ten minutes; null for never."""

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Return the schema of a stored key."""
        return cls.model_validate(key, from_attributes=True)


class KeyCreated(KeyRead):
    """A new key with its text, which is shown this once."""

    key: str

    @classmethod
    def of_new(cls, new: NewKey) -> Self:
        """Return the schema of a key that was just made."""
        return cls(**KeyRead.of(new.row).model_dump(), key=new.text)


class KeyList(BaseModel):
    """All keys of the bearer, newest first; their number is bounded, so there are no pages."""

    items: list[KeyRead]
