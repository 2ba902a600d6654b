"""Providers on the wire."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, Field

from app_auth.features.providers.states import LONGEST, Begun
from app_db.features.providers.models import ProviderLink
from app_db.features.providers.settings import Provider


class ProviderRead(BaseModel):
    """Somebody who may say who you are."""

    name: str
    title: str

    @classmethod
    def of(cls, provider: Provider) -> Self:
        """Return the schema of a provider."""
        return cls(name=provider.name, title=provider.label)


class ProviderList(BaseModel):
    """All providers, in the order of the settings."""

    items: list[ProviderRead]


class SignInBegun(BaseModel):
    """Where to send the browser, and the secret to come back with."""

    authorization_url: str
    state: str
    """It comes back with the answer: compare them."""
    secret: str
    """Keep it where the browser keeps what is its own, and send it with the answer; nobody else may learn it."""
    expires_at: datetime

    @classmethod
    def of(cls, begun: Begun, *, address: str, secret: str) -> Self:
        """Return the schema of what was begun."""
        return cls(authorization_url=address, state=begun.state, secret=secret, expires_at=begun.expires_at)


class ProviderAnswer(BaseModel, extra="forbid"):
    """What the provider sent the browser back with, and the secret from the beginning."""

    code: Annotated[str, Field(min_length=1, max_length=4096)]
    state: Annotated[str, Field(max_length=LONGEST)]
    secret: Annotated[str, Field(max_length=128)]
    iss: Annotated[str, Field(max_length=2048)] | None = None
    """If the provider sent it (RFC 9207)."""


class LinkRead(BaseModel):
    """An account at a provider that opens yours."""

    id: UUID
    provider: str | None
    """None if the provider is not offered any more; then the link opens nothing."""
    issuer: str
    email: str
    """The address that the provider named when it was linked."""
    created_at: datetime
    last_used_at: datetime | None

    @classmethod
    def of(cls, link: ProviderLink, *, provider: str | None) -> Self:
        """Return the schema of a link."""
        return cls(
            id=link.id, provider=provider, issuer=link.issuer, email=link.email, created_at=link.created_at,
            last_used_at=link.last_used_at,
        )  # fmt: skip


class LinkList(BaseModel):
    """All accounts at providers that open yours."""

    items: list[LinkRead]
