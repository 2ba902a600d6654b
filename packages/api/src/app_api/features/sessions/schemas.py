"""Login sessions on the wire."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel

from app_auth.principal import Principal
from app_db.models import UserSession


class SessionRead(BaseModel):
    """A login session as its owner sees it."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    """When it was refreshed last."""
    expires_at: datetime
    """When it ends, unless it is refreshed before."""
    client_address: str | None
    """The address of the client that signed in."""
    user_agent: str | None
    """The user agent that the client sent: it may claim anything."""
    current: bool
    """Whether it is the one that asks."""

    @classmethod
    def of(cls, user_session: UserSession, principal: Principal) -> Self:
        """Return the schema of a stored session."""
        return cls(
            id=user_session.id,
            created_at=user_session.created_at,
            last_used_at=user_session.last_used_at,
            expires_at=user_session.idle_expires_at,
            client_address=user_session.client_address,
            user_agent=user_session.user_agent,
            current=user_session.id == principal.session_id,
        )


class SessionList(BaseModel):
    """All login sessions of the bearer, newest first; their number is bounded, so there are no pages."""

    items: list[SessionRead]
