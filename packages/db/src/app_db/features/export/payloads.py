"""The jobs that collect exports and delete them again."""

from uuid import UUID

from app_db.jobs.payload import JobPayload


class AccountExport(JobPayload):
    """Export all data about a user; the result of the job describes the export."""

    kind = "account.export"
    user_id: UUID


class PruneExports(JobPayload):
    """Delete exports that have expired."""

    kind = "exports.prune"
