"""The job that deletes challenges which have expired."""

from app_db.jobs.payload import JobPayload


class PrunePasskeyChallenges(JobPayload):
    """Delete the challenges of passkeys that were used and have expired."""

    kind = "passkeys.prune"
