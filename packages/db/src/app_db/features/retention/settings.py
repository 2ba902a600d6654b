"""How long rows are kept. The worker reads it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field

from app_db.jobs.bounds import LONGEST_DELAY
from app_db.jobs.retention import RETENTION
from app_db.models import JobState
from app_runtime.durations import Duration

type Kept = Annotated[Duration, Field(ge=timedelta(0), le=LONGEST_DELAY)]


class RetentionSettings(BaseModel, frozen=True):
    """`APP_RETENTION__…`.

    Example:
        assert RetentionSettings(discarded="P30D").of_jobs[JobState.DISCARDED] == timedelta(days=30)
    """

    completed: Kept = RETENTION[JobState.COMPLETED]
    """Jobs are deleted so long after they completed, unless `@handles(…, keep=…)` says otherwise."""
    cancelled: Kept = RETENTION[JobState.CANCELLED]
    """Jobs are deleted so long after they were cancelled, with their errors."""
    discarded: Kept = RETENTION[JobState.DISCARDED]
    """Jobs are deleted so long after they were discarded, with their errors."""
    audit: Annotated[Duration, Field(ge=timedelta(days=90), le=LONGEST_DELAY)] | None = None
    """Months of the audit that ended so long ago are dropped; without it all are kept for ever.

    The database itself keeps the last 90 days.
    """
    audit_after_export: bool = False
    """Months stay until their export is on record: `python -m app_api database audit-export MONTH FILE` writes it."""
    unverified: Annotated[Duration, Field(ge=timedelta(days=2), le=LONGEST_DELAY)] | None = None
    """Accounts that never verified their address go so long after they were made; without it they stay.

    An account stays if it has ever signed in, operates, is disabled, or has a link or a mail on its way.
    """

    def applied(self, *names: str) -> dict[str, float | bool | None]:
        """Return these settings as JSON: seconds, None for ever, or a choice."""
        values = {name: getattr(self, name) for name in names}
        return {
            name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in values.items()
        }

    @property
    def of_jobs(self) -> Mapping[JobState, timedelta]:
        """How long jobs are kept after their end, by final state."""
        return {
            JobState.COMPLETED: self.completed,
            JobState.CANCELLED: self.cancelled,
            JobState.DISCARDED: self.discarded,
        }
