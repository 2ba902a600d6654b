"""Every kind of job there is. A worker refuses to start unless it has one handler for each."""

from uuid import UUID

from app_db.jobs.payload import JobPayload


class WelcomeEmail(JobPayload):
    """Greet a new user by mail."""

    kind = "email.welcome"
    user_id: UUID


class AccountExport(JobPayload):
    """Collect what we hold about a user; the job's result is the export."""

    kind = "account.export"
    user_id: UUID


class PruneSessions(JobPayload):
    """Delete login sessions that have expired."""

    kind = "sessions.prune"


class PruneJobs(JobPayload):
    """Delete jobs that ended long ago."""

    kind = "jobs.prune"


CATALOG: tuple[type[JobPayload], ...] = (
    WelcomeEmail,
    AccountExport,
    PruneSessions,
    PruneJobs,
)
