"""Streams of what happens to jobs: each event is the whole present state of one job (ADR-0077)."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from threading import Event
from typing import Final, Literal, Self
from uuid import UUID

from fastapi.sse import ServerSentEvent

from app_api.features.jobs.schemas import JobRead
from app_api.streams import SharedPoll, Stream
from app_auth.errors import InvalidToken, Throttled
from app_auth.principal import Caller
from app_db import Database, Session
from app_db.errors import AppError, NotFound, Unavailable
from app_db.models import FINAL_STATES
from app_db.repositories.job_views import JobLine
from app_db.repositories.jobs import JobRepository

MOST_PER_ACCOUNT: Final = 20
WAIT: Final = 5
"""Seconds after which an account with too many streams may try again."""

type EventName = Literal["state", "progress", "end"]


class TooManyStreams(Throttled):
    """You follow as many jobs as you may at once. Close a stream before you open another."""

    code = "too_many_streams"

    def __init__(self) -> None:
        super().__init__(WAIT)


class Stopping(Unavailable):
    """This process is to stop, and another goes on with the stream. Connect again."""

    code = "stopping"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A job as it is now, written once for all who follow it."""

    line: JobLine
    json: str
    id: str
    """For `Last-Event-ID`: the same in every process while the job is the same."""

    @classmethod
    def of(cls, line: JobLine) -> Self:
        """Write the job as `GET /jobs` shows it."""
        json = JobRead.model_validate(line).model_dump_json()
        return cls(line, json, blake2b(json.encode(), digest_size=9).hexdigest())

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.line.state in FINAL_STATES

    def event_after(self, last: "Snapshot | None") -> ServerSentEvent:
        """Return the event for a client that knows what the last one said."""
        return ServerSentEvent(event=self._name_after(last), raw_data=self.json, id=self.id)

    def _name_after(self, last: "Snapshot | None") -> EventName:
        if self.is_final:
            return "end"
        is_progress = last is not None and replace(last.line, progress=None) == replace(self.line, progress=None)
        return "progress" if is_progress else "state"


@dataclass(eq=False, slots=True)
class JobStream(Stream):
    """A client that follows a job. It holds one snapshot at most, so a slow client costs no more than a quick one."""

    job_id: UUID = field(kw_only=True)
    now: Snapshot | None = None
    sent: Snapshot | None = None
    is_gone: bool = False
    """Whether the row of the job was deleted."""

    def put(self, now: Snapshot | None) -> None:
        """Give it the present state; None if there is no such job any more."""
        if now is None:
            self.is_gone = True
            self.end()
        elif self.now is None or now.id != self.now.id:
            self.now = now
            self.wake.set()

    def take(self) -> ServerSentEvent | None:
        """Return the event that is to be sent next, if there is one."""
        if self.now is None or self.now is self.sent or self.signed_out:
            return None
        event, self.sent = self.now.event_after(self.sent), self.now
        return event

    def why_ended(self) -> AppError:
        """Return what ended it before its job did."""
        if self.signed_out:
            return InvalidToken()
        return NotFound() if self.is_gone else Stopping()


class JobStreams(SharedPoll[JobStream]):
    """All clients of a process that follow jobs: one query a second reads what they watch, and none without clients."""

    def __init__(self) -> None:
        super().__init__(stopping=Event(), name="jobs")
        self._known: dict[UUID, Snapshot] = {}

    def require_room(self, caller: Caller) -> None:
        """Refuse a stream too many, of the process or of the account.

        Raises:
            Overloaded, TooManyStreams.
        """
        super().require_room(caller)
        if sum(stream.caller.user_id == caller.user_id for stream in self._streams) >= MOST_PER_ACCOUNT:
            raise TooManyStreams  # guard: test_an_account_follows_so_many_jobs_and_no_more

    def forget(self) -> None:
        """Drop the snapshots: nobody keeps them up to date."""
        self._known.clear()

    async def read(self, session: Session, streams: Collection[JobStream]) -> None:
        """Read all jobs that are watched by one query; what has not changed is not written again."""
        lines = await JobRepository(session).watched({stream.job_id for stream in streams})
        self._known = {job_id: self._snapshot(line) for job_id, line in lines.items()}
        for stream in streams:
            stream.put(self._known.get(stream.job_id))

    async def events(self, database: Database, stream: JobStream) -> AsyncGenerator[ServerSentEvent | AppError]:
        """Yield an event at once and at each change until the job ends; at another end, why."""
        stream.wake.set()  # for what it has been given before
        async with aclosing(self.follow(database, stream)) as following:
            async for one in following:
                if (event := one.take()) is not None:
                    yield event
                    if one.sent is not None and one.sent.is_final:
                        return
        yield stream.why_ended()

    def _snapshot(self, line: JobLine) -> Snapshot:
        known = self._known.get(line.id)
        return known if known is not None and known.line == line else Snapshot.of(line)
