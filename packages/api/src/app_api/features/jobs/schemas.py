"""Jobs on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app_api.features.jobs.rerun_schemas import JobLink
from app_api.paging import Page
from app_db.jobs.control import Action
from app_db.jobs.encryption import shown, shown_steps
from app_db.jobs.filters import JobFilter
from app_db.jobs.reruns import NO_LINKS, Links
from app_db.models import Job, JobError, JobState
from app_db.types import aware

Name = Annotated[str, Field(max_length=200)]


class JobRead(BaseModel):
    """A job in a list."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    queue: str
    state: JobState
    owner_id: UUID | None
    attempt: int
    created_at: datetime
    run_at: Annotated[datetime, AfterValidator(aware)]
    started_at: datetime | None
    finished_at: datetime | None
    batch_id: UUID | None
    progress: Any | None  # Any: JSON of the handler's own shape


class JobPage(Page[JobRead]):
    """Jobs, newest first."""

    partial: bool
    """Whether it ended before it was full, because enough jobs were looked at that do not match: go on with `next`."""


class JobErrorRead(BaseModel):
    """An attempt that failed."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    failed_at: datetime
    error: str
    trace: str | None
    """For operators only."""


class JobStepRead(BaseModel):
    """A step that the job has committed."""

    name: str
    result: Any | None  # Any: JSON of the handler's own shape


class JobInternals(BaseModel):
    """A job with the fields that only operators see."""

    model_config = ConfigDict(from_attributes=True)

    payload: Any  # Any: JSON of the payload class
    """`{"encrypted": true}` if it is; so with results, steps and the cursor."""
    payload_version: int
    priority: int
    max_attempts: int | None
    """Null means the limit of the handler."""
    redeliveries: int
    crashes: int
    worker_id: UUID | None
    request_id: str | None
    steps: list[JobStepRead] | None
    """What its attempts have committed, in order; the next one goes on there."""
    cursor: Any | None  # Any: JSON of the handler's own shape
    origin_id: UUID | None
    """The job that it was made from, by running that again."""
    origin: JobLink | None
    """The same job; null also when it has been deleted since."""
    reruns: list[JobLink]
    """The jobs that were made from it: the newest first, up to twenty."""

    @classmethod
    def of(cls, job: Job, links: Links) -> Self:
        """Return what operators see of the job."""
        columns = {name: getattr(job, name) for name in cls.model_fields.keys() - {"origin", "reruns"}}
        hidden = {"payload": shown(job.payload), "steps": shown_steps(job.steps), "cursor": shown(job.cursor)}
        return cls.model_validate({**columns, **hidden, "origin": links.origin, "reruns": [*links.reruns]})


class JobDetail(JobRead):
    """A job with all that is known about it."""

    result: Any | None  # Any: JSON of the handler's own shape
    cancel_requested: bool
    """Whether it has been asked to end, and has not yet."""
    errors: list[JobErrorRead]
    """The last first, up to a hundred."""
    internals: JobInternals | None
    """For operators only."""

    @classmethod
    def of(
        cls,
        job: Job,
        errors: Sequence[JobError],
        *,
        cancel_requested: bool,
        for_operator: bool,
        links: Links = NO_LINKS,
    ) -> Self:
        """Show the job to its owner, or to an operator, with the links if they were looked up."""
        read = [JobErrorRead.model_validate(error) for error in errors]
        return cls.model_validate(
            {
                **{name: getattr(job, name) for name in JobRead.model_fields},
                "result": shown(job.result),
                "cancel_requested": cancel_requested,
                "errors": read if for_operator else [error.model_copy(update={"trace": None}) for error in read],
                "internals": JobInternals.of(job, links) if for_operator else None,
            }
        )


class JobSelection(BaseModel, extra="forbid"):
    """Which jobs are meant: those that match all that is given, and something must be."""

    state: JobState | None = None
    kind: Name | None = None
    queue: Name | None = None

    def to_filter(self) -> JobFilter:
        """Return the filter for the ledger."""
        return JobFilter(state=self.state, kind=self.kind, queue=self.queue)


class BulkAction(BaseModel, extra="forbid"):
    """An action, and the jobs to apply it to."""

    filter: JobSelection
    action: Action


class BulkResult(BaseModel):
    """How many jobs were acted on. There may be more: repeat the request until it is 0."""

    count: int
    partial: bool
    """Whether more may match: one request looks at 5,000 of the jobs that are due, `POST /jobs/bulk/start` at all."""


class BulkStarted(BaseModel):
    """The job that acts on all that match."""

    job_id: UUID


class QueueRead(BaseModel):
    """A queue with its settings and figures."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    paused_at: datetime | None
    max_running: int | None
    """Over all workers together; null means no limit."""
    workers: int
    """Those that serve it and are alive."""
    counts: dict[JobState, int]
    """Its open jobs; a state without jobs is left out."""
    oldest_due_age: float | None
    """Seconds since the job that waits longest became due; null when nothing is due."""
    at_least: bool
    """Whether there may be more than `counts` says: of each kind no more than a thousand are counted."""
    paused_by: str | None
    """The id of the operator, or `shell` for a command on a server; null if the release that paused it did not say."""


class QueueList(BaseModel):
    """Every queue that has open jobs, a worker, or settings, by name."""

    items: list[QueueRead]


class WorkerRead(BaseModel):
    """A worker process."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    host: str
    pid: int
    queues: list[str]
    concurrency: int
    """Jobs that it runs at once, per queue."""
    running: int
    draining: bool
    started_at: datetime
    beat_at: datetime
    beat_age: float
    """Seconds since its last sign of life."""
    is_alive: bool
    version: str | None
    """Of `app-worker`; null, like the next one, for a release that does not say."""
    loop_lag: float | None
    """The longest time, in seconds, for which its event loop was late within the last minute."""
    held_job_ids: list[UUID]
    """The jobs that it had in hand at its last sign of life."""


class WorkerList(BaseModel):
    """Every worker that has not signed off, those that were killed too, the oldest first."""

    items: list[WorkerRead]


class JobCountRead(BaseModel):
    """How many jobs of one kind are in one state, in one queue."""

    model_config = ConfigDict(from_attributes=True)

    queue: str
    kind: str
    state: JobState
    count: int


class FinishedCountRead(BaseModel):
    """How many jobs of one kind have ended in one way within the last hour."""

    model_config = ConfigDict(from_attributes=True)

    kind: str
    state: JobState
    count: int
    mean_run_time: float | None
    """Seconds, of the newest hundred of each queue, if they ran in lease mode: in tx mode a row has no time."""


class JobStatsRead(BaseModel):
    """The first thing that an operator looks at."""

    model_config = ConfigDict(from_attributes=True)

    jobs: list[JobCountRead]
    """All that are open, and those that were discarded and are still on record."""
    finished: list[FinishedCountRead]
    at_least: bool
    """Whether there may be more: of each kind in each state and queue no more than a thousand are counted."""
