"""Exports on the wire."""

from uuid import UUID

from pydantic import BaseModel

from app_api.features.accounts.operator_schemas import AuditSelection


class JobAccepted(BaseModel):
    """The job that writes the export."""

    job_id: UUID


class AuditExportCreate(AuditSelection, extra="forbid"):
    """Which events an export has."""
