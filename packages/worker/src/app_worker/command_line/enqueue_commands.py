"""The commands that enqueue: one job, or a job like another one."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import ValidationError

from app_auth.audit import SHELL, Event, audit
from app_auth.client import NOBODY
from app_db import Database
from app_db.errors import Invalid
from app_db.jobs.catalog import CATALOG
from app_db.jobs.encryption import JobCipher, NoPayloadKeys, keys_of
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload, UnknownPayload
from app_db.jobs.reruns import run_again
from app_db.repositories.jobs import JobRepository
from app_worker.command_line.known_names import JobNotFound, NameNotFound
from app_worker.command_line.output import Enqueued, Output

_MESSAGES: Final = {"extra_forbidden": "there is no such field"}
"""Replacements for messages of pydantic, by the type of the error."""


class NotEnqueued(Invalid):
    """`enqueue` refused the job."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self._why = why

    def reason(self) -> str:
        """Return why the job was refused."""
        return self._why


async def enqueue_one(database: Database, options: Namespace) -> Output:
    """Enqueue one job.

    Raises:
        NameNotFound: for an unknown kind.
        NotEnqueued: for fields and options that `enqueue` refuses.
    """
    payload_class = _class_of(options.kind)
    with refusals_of(payload_class):
        payload = payload_class.model_validate_json(options.payload)
        async with database.unit_of_work() as session:
            job_id = await enqueue(
                session,
                payload,
                run_at=options.run_at,
                queue=options.queue,
                priority=options.priority,
                max_attempts=options.max_attempts,
            )
    return Enqueued(id=job_id, kind=options.kind, queue=options.queue)


async def rerun(database: Database, options: Namespace) -> Output:
    """Enqueue a new job like another one.

    Raises:
        JobNotFound: there is no such job.
        NameNotFound: for a kind that this release does not know.
        NotEnqueued: for a payload that its class refuses.
    """
    async with database.unit_of_work() as session:
        origin = await JobRepository(session).get(options.id)
        if origin is None:
            raise JobNotFound
        payload_class = _class_of(origin.kind)
        with refusals_of(payload_class):
            if options.payload is None:
                cipher = JobCipher(keys_of(session), origin.id, origin.kind, payload_class.is_encrypted)
                payload = cipher.read(payload_class, origin.payload, origin.payload_version)
            else:
                payload = payload_class.model_validate_json(options.payload)
            job_id = await run_again(session, origin, payload, owner_id=origin.owner_id)
        new, old = str(job_id), str(origin.id)
        audit(
            session, Event.JOB_RERUN, client=NOBODY, by=SHELL, job=new, origin=old, kind=origin.kind
        )  # guard: test_a_job_that_a_command_runs_again_is_audited
        return Enqueued(id=job_id, kind=origin.kind, queue=origin.queue)


def _class_of(kind: str) -> type[JobPayload]:
    payload_classes: dict[str, type[JobPayload]] = {payload_class.kind: payload_class for payload_class in CATALOG}
    if kind not in payload_classes:
        raise NameNotFound("kind of job", kind, payload_classes)
    return payload_classes[kind]


@contextmanager
def refusals_of(payload_class: type[JobPayload]) -> Iterator[None]:
    """Turn what `enqueue` or the class of a payload refuses into a message for people."""
    try:
        yield
    except ValidationError as error:
        raise NotEnqueued(_what_is_wrong(payload_class, error)) from None
    except (ValueError, UnknownPayload, NoPayloadKeys) as error:
        raise NotEnqueued(str(error)) from None


def _what_is_wrong(payload_class: type[JobPayload], error: ValidationError) -> str:
    """Return one line that names each wrong field, without its value, and all fields of the class."""
    if payload_class.is_encrypted:
        return f"the payload of {payload_class.kind}: {payload_class.why_not(error)}"
    wrong = [
        f"{'.'.join(map(str, problem['loc'])) or 'payload'}: {_MESSAGES.get(problem['type'], problem['msg'])}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
    names = ", ".join(payload_class.model_fields)
    there_is = f"its fields are {names}" if names else "it has no fields"
    return f"the payload of {payload_class.kind}: {'; '.join(wrong)}; {there_is}"
