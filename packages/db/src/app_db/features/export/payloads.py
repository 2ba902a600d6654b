"""The jobs that collect exports and delete them again."""

from datetime import datetime
from uuid import UUID

from app_db.jobs.payload import JobPayload


class AccountExport(JobPayload):
    """Export all data about a user; the result of the job describes the export."""

    kind = "account.export"
    user_id: UUID


class AuditExport(JobPayload):
    """Export the events of the audit that match, as a file of comma-separated values."""

    kind = "audit.export"
    operator_id: UUID
    """Who fetches it."""
    event: str | None = None
    user_id: UUID | None = None
    actor_id: UUID | None = None
    client_address: str | None = None
    since: datetime | None = None
    before: datetime | None = None


class PruneExports(JobPayload):
    """Delete exports that have expired."""

    kind = "exports.prune"
