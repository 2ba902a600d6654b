"""The command that shows what a job keeps encrypted."""

from argparse import Namespace
from typing import Any
from uuid import UUID

from app_auth.audit import SHELL, Event, audit
from app_auth.client import NOBODY
from app_db import Database
from app_db.errors import Invalid
from app_db.jobs.encryption import JobCipher, PayloadLocked
from app_db.models import Job
from app_db.repositories.jobs import JobRepository
from app_worker.command_line.known_names import JobNotFound
from app_worker.command_line.output import Output, sheet


class Revealed(Output, frozen=True):
    """What one job keeps encrypted."""

    id: UUID
    kind: str
    payload: dict[str, Any]  # Any: JSON
    result: Any | None  # Any: JSON
    steps: list[dict[str, Any]] | None  # Any: JSON
    cursor: Any | None  # Any: JSON

    def text(self) -> str:
        """Return a line for each."""
        return sheet([*self])


class NotRevealed(Invalid):
    """An envelope could not be opened."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self._why = why

    def reason(self) -> str:
        """Return why it stays shut."""
        return self._why


async def reveal(database: Database, options: Namespace) -> Output:
    """Decrypt what a job keeps; the audit says so before anything is printed.

    Raises:
        JobNotFound: there is no such job.
        NotRevealed: this process does not have the key, or the row was changed.
    """
    async with database.unit_of_work() as session:
        job = await JobRepository(session).get(options.id)
        if job is None:
            raise JobNotFound
        try:
            revealed = _opened(job, JobCipher(database.payload_keys, job.id, job.kind, is_encrypted=True))
        except PayloadLocked as error:
            raise NotRevealed(str(error)) from None
        audit(
            session, Event.JOB_REVEALED, client=NOBODY, by=SHELL, job=str(job.id), kind=job.kind
        )  # guard: test_who_reveals_a_job_is_audited
    return revealed


def _opened(job: Job, cipher: JobCipher) -> Revealed:
    steps: list[dict[str, Any]] | None = job.steps and [  # Any: JSON
        {**step, "result": cipher.open(f"step {step['name']}", step["result"])} for step in job.steps
    ]
    return Revealed(
        id=job.id,
        kind=job.kind,
        payload=cipher.open("payload", job.payload),
        result=cipher.open("result", job.result),
        steps=steps,
        cursor=cipher.open("cursor", job.cursor),
    )
