"""The job that deletes keys that have expired."""

from app_db.jobs.payload import JobPayload


class PruneKeys(JobPayload):
    """Delete keys for machines that have expired."""

    kind = "keys.prune"
