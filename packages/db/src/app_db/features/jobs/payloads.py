"""The job that acts on many others."""

from datetime import datetime
from typing import Self
from uuid import UUID

from app_db.jobs.control import Action
from app_db.jobs.filters import JobFilter
from app_db.jobs.payload import JobPayload
from app_db.models import JobState


class ActOnJobs(JobPayload):
    """Apply an action to all jobs that match and were enqueued before this one."""

    kind = "jobs.bulk"
    action: Action
    state: JobState | None = None
    job_kind: str | None = None
    queue: str | None = None
    owner_id: UUID | None = None
    since: datetime | None = None
    before: datetime | None = None

    @classmethod
    def of(cls, action: Action, chosen: JobFilter) -> Self:
        """Return the payload for the jobs of a filter; its `ids` are left out, because those are few."""
        return cls(
            action=action, state=chosen.state, job_kind=chosen.kind, queue=chosen.queue,
            owner_id=chosen.owner_id, since=chosen.since, before=chosen.before,
        )  # fmt: skip

    def to_filter(self) -> JobFilter:
        """Return the filter for the ledger."""
        return JobFilter(self.state, self.job_kind, self.queue, self.owner_id, self.since, self.before)
