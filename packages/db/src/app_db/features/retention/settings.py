"""How long rows are kept. The worker reads it."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field

from app_db.jobs.bounds import LONGEST_DELAY
from app_runtime.durations import Duration


class RetentionSettings(BaseModel, frozen=True):
    """`APP_RETENTION__…`."""

    audit: Annotated[Duration, Field(ge=timedelta(days=90), le=LONGEST_DELAY)] | None = None
    """Months of the audit that ended so long ago are dropped; without it all are kept for ever.

    The database itself keeps the last 90 days. What has to be kept longer, the role `readonly` exports before:
    `COPY (SELECT * FROM audit_events WHERE happened_at < '2026-01-01') TO STDOUT (FORMAT csv, HEADER)`.
    """
    unverified: Annotated[Duration, Field(ge=timedelta(days=2), le=LONGEST_DELAY)] | None = None
    """Accounts that never verified their address go so long after they were made; without it they stay.

    An account stays if it has ever signed in, operates, is disabled, or has a link or a mail on its way.
    """
