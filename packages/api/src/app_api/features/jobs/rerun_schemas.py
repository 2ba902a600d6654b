"""Reruns on the wire."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app_db.models import JobState


class JobLink(BaseModel):
    """A job that was made from another one, or the one that it was made from."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    state: JobState
    created_at: datetime


class Rerun(BaseModel, extra="forbid"):
    """How a new job differs from the first one."""

    payload: Any = None  # Any: JSON of the payload class
    """Its whole payload; that of the first job if absent or null."""
    keeps_owner: bool = True
    """Whether it belongs to the account of the first job, which then sees it under its jobs."""


class RerunAccepted(BaseModel):
    """The new job."""

    job_id: UUID
