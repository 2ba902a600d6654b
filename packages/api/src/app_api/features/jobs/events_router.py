"""What happens to a job, live, as Server-Sent Events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Header, Request, Response, status
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app_api.admission import Overloaded
from app_api.features.jobs import service
from app_api.features.jobs.router import OF_CALLERS, ReaderDep
from app_api.features.jobs.streams import JobStream, JobStreams, Snapshot, TooManyStreams
from app_api.problems import app_error_response, internal_error_response, problem_responses
from app_api.resources import resource
from app_api.streams import AGAIN
from app_auth.machines import MachineKeys
from app_db.errors import AppError, NotFound

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=problem_responses(*OF_CALLERS))

StreamsDep = Annotated[JobStreams, Depends(resource(JobStreams))]
NOTHING_MORE: Final[dict[int | str, dict[str, Any]]] = {  # Any: OpenAPI
    204: {"description": "The job has ended, and `Last-Event-ID` says that you know: do not connect again."}
}


async def get_stream(
    request: Request,
    response: Response,
    job_id: UUID,
    caller: ReaderDep,
    streams: StreamsDep,
    *,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
) -> AsyncIterator[JobStream]:
    """Open a stream that knows the present state of the job, and close it after the answer.

    Its place is taken before anything is read, so that no more requests read at once than there are places.

    Raises:
        NotFound, Overloaded, TooManyStreams.
    """
    streams.stopping = request.state.stopping  # which no resource knows when it is opened
    streams.keys = request.state.resources.get(MachineKeys)
    streams.require_room(caller)
    stream = JobStream(caller, job_id=job_id)
    with streams.kept(request.state.database, stream):
        async with request.state.database.unit_of_work(read_only=True) as session:
            now = Snapshot.of(await service.watched(session, caller, job_id))
        if now.is_final and now.id == last_event_id:
            response.status_code = status.HTTP_204_NO_CONTENT  # an EventSource stops for nothing else
        stream.put(now)
        yield stream


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=NOTHING_MORE | problem_responses(NotFound, Overloaded, TooManyStreams),
)
async def follow_job(
    request: Request, response: Response, streams: StreamsDep, stream: Annotated[JobStream, Depends(get_stream)]
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job of the caller, or any as an operator. The data of each event is the job as `GET /jobs` lists it.

    `state` comes at once and at each change, `progress` if nothing else has changed, `end` when the job has ended.
    `error` carries a problem document: the stream ends before the job; connect again unless its status is 401 or 404.
    """
    if response.status_code == status.HTTP_204_NO_CONTENT:
        return
    yield ServerSentEvent(comment="open", retry=AGAIN)
    try:
        async with aclosing(streams.events(request.state.database, stream)) as events:
            async for event in events:
                yield _problem(request, event) if isinstance(event, AppError) else event
    except Exception:  # clients take an end for a clean one; guard: test_a_fault_is_an_event
        log.exception("stream_failed", job_id=str(stream.job_id))
        yield _problem(request, None)


def _problem(request: Request, error: AppError | None) -> ServerSentEvent:
    """Return the event of an error; None is a fault of ours."""
    document = internal_error_response(request.scope) if error is None else app_error_response(request.scope, error)
    return ServerSentEvent(event="error", raw_data=bytes(document.body).decode())
