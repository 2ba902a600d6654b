"""Webhooks on the wire."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app_api.paging import Page
from app_auth.features.webhooks.service import Shown
from app_auth.features.webhooks.targets import LONGEST_URL
from app_db.features.webhooks.event_names import EventName
from app_db.features.webhooks.models import DeliveryState, DisabledBecause

Url = Annotated[str, Field(min_length=1, max_length=LONGEST_URL)]
Events = Annotated[list[EventName], Field(min_length=1, max_length=len(EventName))]


class EndpointCreate(BaseModel, extra="forbid"):
    """A new endpoint."""

    url: Url
    """`https://`, at a public address."""
    events: Events
    """What is sent to it."""


class EndpointUpdate(BaseModel, extra="forbid"):
    """What changes; what is left out stays."""

    url: Url | None = None
    events: Events | None = None
    enabled: bool | None = None
    """`true` also forgets past failures."""

    @model_validator(mode="after")
    def _require_change(self) -> Self:
        if self.url is None and self.events is None and self.enabled is None:
            raise ValueError("change something")
        return self


class EndpointRead(BaseModel):
    """An endpoint; its secret is shown once, when it is made or rotated."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    url: str
    events: list[str]
    created_at: datetime
    rotated_until: datetime | None
    """Until then the secret before the last rotation signs too."""
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_because: DisabledBecause | None


class EndpointShown(EndpointRead):
    """An endpoint with its secret, which is shown this once."""

    secret: str
    """`whsec_…`, as libraries of Standard Webhooks take it."""

    @classmethod
    def of_new(cls, shown: Shown) -> Self:
        """Return the schema of an endpoint with a new secret."""
        return cls(**EndpointRead.model_validate(shown.row).model_dump(), secret=shown.secret)


class EndpointPage(Page[EndpointRead]):
    """A page of endpoints."""


class DeliveryAttempt(BaseModel):
    """One attempt."""

    at: datetime
    milliseconds: int
    status: int | None = None
    """The status of the answer; null if there was none."""
    problem: str | None = None
    """Why it failed: null if it was accepted."""
    answer: str | None = None
    """The first 1,024 bytes of the answer."""


class DeliveryRead(BaseModel):
    """An event for one endpoint."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    event_id: UUID
    """`webhook-id`, the same in each attempt."""
    event: str
    data: dict[str, Any]  # Any: JSON
    state: DeliveryState
    attempts: list[DeliveryAttempt]
    """The last twenty."""
    created_at: datetime
    ended_at: datetime | None


class DeliveryPage(Page[DeliveryRead]):
    """A page of deliveries."""
