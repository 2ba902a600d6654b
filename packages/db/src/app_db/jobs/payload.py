"""What a job is asked to do."""

from typing import ClassVar

from pydantic import BaseModel


class JobPayload(BaseModel, frozen=True, extra="forbid"):
    """The contract between who enqueues a job and the handler that runs it: one class per kind of job.

    Hold ids, not copies: by the time the job runs, the row is the truth. Never put secrets or addresses here.
    """

    kind: ClassVar[str]
    """The stable name, as in `email.welcome`. It is stored: renaming it orphans jobs that wait."""
    version: ClassVar[int] = 1
    """Raise it when the fields change their meaning."""
