"""The principal: the user and session of a request."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from app_db.models import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """The user and the login session behind a request, as the database knew them a moment ago."""

    user_id: UUID
    email: str
    role: Role
    session_id: UUID
    signed_in_at: datetime
    last_used_at: datetime | None = field(default=None, compare=False)
    """When its tokens were refreshed last, or a page was asked for: to some minutes."""
    seen_at: datetime | None = field(default=None, compare=False)
    """When the database found them, by its own clock."""
