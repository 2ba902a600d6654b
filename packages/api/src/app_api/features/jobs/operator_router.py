"""Routes for operators: they list jobs, queues and workers, and act on them."""

import json
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from app_api.dependencies import AuthDep, ClientDep, OperatorDep, SessionDep
from app_api.features.jobs import service
from app_api.features.jobs.rerun_schemas import Rerun, RerunAccepted
from app_api.features.jobs.reruns import PayloadOutdated, UnknownKind, rerun
from app_api.features.jobs.schemas import (
    BulkAction,
    BulkResult,
    BulkStarted,
    JobDetail,
    JobStatsRead,
    QueueList,
    WorkerList,
)
from app_api.problems import problem_responses
from app_auth.errors import InvalidToken, ReauthenticationRequired
from app_auth.permissions import OperatorRequired
from app_db.errors import NotFound, Unauthenticated
from app_db.jobs import control
from app_db.jobs.control import DuplicateJob, FilterTooWide, JobIsFinal, JobIsRunning
from app_db.jobs.deletion import JobIsOpen
from app_db.outage import DatabaseUnavailable
from app_db.repositories.jobs import JobRepository

router = APIRouter(
    prefix="/jobs",
    tags=["jobs: operators"],
    responses=problem_responses(Unauthenticated, InvalidToken, OperatorRequired, DatabaseUnavailable),
)

QueueName = Annotated[str, Path(max_length=200)]


@router.get("/queues")
async def list_queues(operator: OperatorDep, session: SessionDep) -> QueueList:
    """List the queues with their open jobs, settings and workers."""
    return QueueList.model_validate({"items": await JobRepository(session).queues()}, from_attributes=True)


@router.post("/queues/{name:path}/pause", status_code=204, responses=problem_responses(service.QueueNotFound))
async def pause_queue(name: QueueName, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """Start no more jobs of the queue, within three seconds; running jobs continue. May be repeated."""
    await service.pause(session, name, principal=operator, client=client)


@router.post("/queues/{name:path}/resume", status_code=204, responses=problem_responses(service.QueueNotFound))
async def resume_queue(name: QueueName, operator: OperatorDep, session: SessionDep, client: ClientDep) -> None:
    """End the pause of the queue. May be repeated."""
    await service.resume(session, name, principal=operator, client=client)


@router.get("/workers")
async def list_workers(operator: OperatorDep, session: SessionDep) -> WorkerList:
    """List the worker processes, those that were killed too."""
    return WorkerList.model_validate({"items": await JobRepository(session).workers()}, from_attributes=True)


@router.get("/stats")
async def read_stats(operator: OperatorDep, session: SessionDep) -> JobStatsRead:
    """Count open jobs, discarded jobs, and jobs that ended within the last hour."""
    return JobStatsRead.model_validate(await JobRepository(session).stats())


@router.post("/bulk", responses=problem_responses(FilterTooWide, DuplicateJob, ReauthenticationRequired))
async def act_on_many_jobs(
    body: BulkAction, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> BulkResult:
    """Cancel, retry, discard or delete up to 250 jobs that match; repeat it until the count is 0.

    If it is 0 and `partial`, jobs may match that were not looked at; start a job instead, which looks at all. Without
    a state, `retry` means what has failed: discarded and retryable jobs. `delete` means jobs that have ended, and needs
    a fresh sign-in.
    """
    chosen = body.filter.to_filter()
    acted_on = await service.act_on_all(auth, session, operator, chosen, body.action, client=client)
    return BulkResult(count=acted_on.jobs, partial=acted_on.at_least)


@router.post("/bulk/start", status_code=202, responses=problem_responses(FilterTooWide, ReauthenticationRequired))
async def start_acting_on_jobs(
    body: BulkAction, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> BulkStarted:
    """Do the same to all jobs that match, however many, by a job of kind `jobs.bulk`.

    `GET /jobs/{job_id}` shows how far it is, and `POST /jobs/{job_id}/cancel` ends it. Jobs that were enqueued after
    this request are left alone.
    """
    chosen = body.filter.to_filter()
    return BulkStarted(job_id=await service.start_acting(auth, session, operator, chosen, body.action, client=client))


@router.delete("/{job_id}", status_code=204, responses=problem_responses(NotFound, JobIsOpen, ReauthenticationRequired))
async def delete_job(
    job_id: UUID, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Delete a job that has ended, with its errors. Needs a fresh sign-in."""
    await service.delete(auth, session, operator, job_id, client=client)


@router.post(
    "/{job_id}/retry", responses=problem_responses(NotFound, JobIsRunning, DuplicateJob, ReauthenticationRequired)
)
async def retry_job(job_id: UUID, operator: OperatorDep, auth: AuthDep, session: SessionDep) -> JobDetail:
    """Run a job that has ended once more, or one that waits right now; it gets at least one more attempt.

    A job that acts on many others, `jobs.bulk`, needs a fresh sign-in.
    """
    await service.retry(auth, session, operator, job_id)
    return await service.show(session, operator, job_id)


@router.post(
    "/{job_id}/rerun",
    status_code=201,
    responses=problem_responses(NotFound, UnknownKind, PayloadOutdated),
)
async def rerun_job(
    job_id: UUID, body: Rerun, operator: OperatorDep, session: SessionDep, client: ClientDep
) -> RerunAccepted:
    """Enqueue a new job like this one, with the same payload or another one, which its class checks.

    Queue, priority and limit of attempts are the same. `internals` of both jobs name each other; the audit has a row.
    """
    # As JSON: in Python mode a strict class would refuse the text of a UUID or a date.
    payload = None if body.payload is None else json.dumps(body.payload)
    new_id = await rerun(session, operator, job_id, payload=payload, keeps_owner=body.keeps_owner, client=client)
    return RerunAccepted(job_id=new_id)


@router.post("/{job_id}/discard", responses=problem_responses(NotFound, JobIsFinal, JobIsRunning))
async def discard_job(job_id: UUID, operator: OperatorDep, session: SessionDep) -> JobDetail:
    """Give up a job that waits; it stays on record as discarded, and may be retried."""
    await control.discard(session, job_id)
    return await service.show(session, operator, job_id)
