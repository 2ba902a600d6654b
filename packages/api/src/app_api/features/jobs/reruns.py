"""Reruns by operators: a new job like another one, with the same payload or an edited one."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from pydantic import ValidationError

from app_api.problems import FieldProblem, ValidationFailed, field_problem
from app_auth.audit import Event, audit
from app_auth.client import Client
from app_auth.principal import Principal
from app_db import Session
from app_db.errors import Invalid, NotFound
from app_db.features.jobs.payloads import ActOnJobs
from app_db.jobs.catalog import CATALOG
from app_db.jobs.encryption import JobCipher, keys_of
from app_db.jobs.payload import JobPayload, UnknownPayload
from app_db.jobs.reruns import run_again
from app_db.models import Job
from app_db.repositories.jobs import JobRepository

PAYLOADS: Final[Mapping[str, type[JobPayload]]] = {
    payload_class.kind: payload_class
    for payload_class in CATALOG
    # It would act on many jobs without a number that was shown, a fresh sign-in and a row of the audit.
    if payload_class is not ActOnJobs  # guard: test_the_job_that_acts_on_many_is_not_run_again_with_another_filter
}


class UnknownKind(Invalid):
    """Jobs of this kind cannot be run again here: this release has no payload class that would check the payload."""

    code = "unknown_kind"


class PayloadOutdated(Invalid):
    """This release cannot read the payload of this job as it is: give one that its class takes."""

    code = "payload_outdated"


async def rerun(
    session: Session, operator: Principal, job_id: UUID, *, payload: str | None, keeps_owner: bool, client: Client
) -> UUID:
    """Enqueue a new job of the same kind and return its id; the first one stays. The audit names both.

    Args:
        session: the job joins its transaction.
        operator: who does it.
        job_id: the first job.
        payload: the JSON of the new payload; None takes that of the first job.
        keeps_owner: whether the new job belongs to the account of the first one.
        client: for the audit.

    Raises:
        NotFound: there is no such job.
        UnknownKind, ValidationFailed: no class of this release checks the payload, or it refuses it.
        PayloadOutdated: without a payload, when that of the first job is of another release.
    """
    origin = await JobRepository(session).get(job_id)
    if origin is None:
        raise NotFound
    try:
        read = _payload_of(session, origin, payload)
        new_id = await run_again(session, origin, read, owner_id=origin.owner_id if keeps_owner else None)
    except ValueError as error:
        raise ValidationFailed(errors=problems_of(error, PAYLOADS[origin.kind])) from None
    audit(
        session,
        Event.JOB_RERUN,
        client=client,
        actor_id=operator.user_id,
        session_id=operator.session_id,
        job=str(new_id),
        origin=str(job_id),
        kind=origin.kind,
    )  # guard: test_who_runs_a_job_again_is_audited
    return new_id


def _payload_of(session: Session, origin: Job, given: str | None) -> JobPayload:
    payload_class = PAYLOADS.get(origin.kind)
    if payload_class is None:
        raise UnknownKind
    if given is not None:
        return payload_class.model_validate_json(given)
    cipher = JobCipher(keys_of(session), origin.id, origin.kind, payload_class.is_encrypted)
    try:
        return cipher.read(payload_class, origin.payload, origin.payload_version)
    except UnknownPayload:
        raise PayloadOutdated from None


def problems_of(error: ValueError, payload_class: type[JobPayload]) -> list[FieldProblem]:
    """Return what does not fit the class of a payload, or what Postgres does not keep, without what was given."""
    if payload_class.is_encrypted:  # a sentence or a pointer may hold a part of it
        return [FieldProblem(pointer="#/payload", code="refused", detail=payload_class.why_not(error))]
    if not isinstance(error, ValidationError):
        return [FieldProblem(pointer="#/payload", code="not_storable", detail=str(error))]
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return [field_problem(each, within=("body", "payload")) for each in errors]
