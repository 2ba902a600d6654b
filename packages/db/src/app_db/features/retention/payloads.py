"""Payloads of the jobs that delete expired rows."""

from app_db.jobs.payload import JobPayload


class PruneSessions(JobPayload):
    """Delete login sessions, one-time tokens and answers to repetitions that have expired."""

    kind = "sessions.prune"


class PruneJobs(JobPayload):
    """Delete jobs that ended long ago."""

    kind = "jobs.prune"


class KeepAuditMonths(JobPayload):
    """Add the months of the audit that come, and drop those that are no longer kept."""

    kind = "audit.months"


class PruneAccounts(JobPayload):
    """Delete accounts that never verified their address."""

    kind = "accounts.prune"
