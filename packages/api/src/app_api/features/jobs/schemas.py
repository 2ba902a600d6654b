"""Jobs on the wire."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app_api.paging import Page
from app_db.models import JobState


class JobRead(BaseModel):
    """A job as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    state: JobState
    attempt: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Any | None  # Any: JSON of the handler's own shape
    result: Any | None  # Any: as above


class JobPage(Page[JobRead]):
    """Jobs, newest first."""
