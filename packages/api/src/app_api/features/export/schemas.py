"""Exports on the wire."""

from uuid import UUID

from pydantic import BaseModel


class JobAccepted(BaseModel):
    """Where to look for what was started."""

    job_id: UUID
