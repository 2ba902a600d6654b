"""Exports on the wire."""

from uuid import UUID

from pydantic import BaseModel


class JobAccepted(BaseModel):
    """The job that writes the export."""

    job_id: UUID
