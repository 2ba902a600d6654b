"""The jobs that collect exports and delete them again."""

from uuid import UUID

from app_db.jobs.payload import JobPayload


class AccountExport(JobPayload):
    """Collect what we hold about a user; the job's result is the export."""

    kind = "account.export"
    user_id: UUID


class PruneExports(JobPayload):
    """Delete exports that have expired."""

    kind = "exports.prune"
