"""The job that counts."""

from app_db.jobs.payload import JobPayload


class CountMinutes(JobPayload):
    """Count what ended in the minutes that are over."""

    kind = "figures.count"
