"""Streams of events: one poll of the database per second keeps all of one kind up to date (ADR-0060)."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from threading import Event
from typing import Final
from uuid import UUID

import structlog
from fastapi import APIRouter
from fastapi.routing import iter_route_contexts
from fastapi.sse import EventSourceResponse

from app_api.admission import Overloaded
from app_auth.machines import Machine, MachineKeys
from app_auth.principal import Caller, Principal
from app_db import Database, Session
from app_db.models import Role
from app_db.outage import DatabaseUnavailable
from app_db.repositories.user_sessions import UserSessionRepository

log = structlog.get_logger(__name__)

MOST_STREAMS: Final = 1000
"""Of one kind in a process; one more is refused until others are closed."""
POLL: Final = 1.0
"""Seconds between two polls."""
LOOK: Final = 0.1
"""Seconds between two looks at whether the process is to stop."""
AGAIN: Final = 1000
"""Milliseconds until a client comes back after a stream that has ended."""


@dataclass(eq=False, slots=True)
class Stream:
    """An open stream; subclasses hold what it has not been sent yet."""

    caller: Caller
    ended: bool = False
    signed_out: bool = False
    """Whether it ended because its session, its key or the role of its account did."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, *, signed_out: bool = False) -> None:
        """Let it end after what is pending."""
        self.ended, self.signed_out = True, signed_out
        self.wake.set()


class SharedPoll[S: Stream](ABC):
    """All streams of one kind in a process. It polls only while there are any, for all of them together."""

    def __init__(self, *, stopping: Event, name: str) -> None:
        self.stopping = stopping
        self.keys: MachineKeys | None = None
        """What knows whether the keys of machines still hold; None if no machine has a stream."""
        self._name = name
        self._streams: set[S] = set()
        self._task: asyncio.Task[None] | None = None
        self._failing: set[str] = set()

    @property
    def is_polling(self) -> bool:
        """Whether it asks the database; it does so only while a stream is open."""
        return self._task is not None

    @abstractmethod
    async def read(self, session: Session, streams: Collection[S]) -> None:
        """Read what these streams are about by as few queries as possible, and give it to them."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what is kept between two polls; the last stream has gone."""

    def require_room(self, caller: Caller) -> None:
        """Refuse a stream too many, and each one once the process is to stop: another process takes it.

        Raises:
            Overloaded: the client tries again in a moment.
        """
        if self.stopping.is_set() or len(self._streams) >= MOST_STREAMS:
            raise Overloaded  # guard: test_a_process_takes_so_many_streams_and_no_more

    @contextmanager
    def kept(self, database: Database, stream: S) -> Iterator[None]:
        """Keep a stream up to date during the block, from the next poll on."""
        self._streams.add(stream)
        if self._task is None:
            # In a context of its own: the poll is no part of the request that happened to come first.
            self._task = asyncio.create_task(self._poll(database), context=Context())
        try:
            yield
        finally:
            self._streams.discard(stream)  # guard: test_the_last_stream_ends_the_poll

    async def follow(self, database: Database, stream: S) -> AsyncGenerator[S]:
        """Yield the stream each time that something is pending, until it has ended."""
        with self.kept(database, stream):
            while not stream.ended:
                await stream.wake.wait()
                stream.wake.clear()
                yield stream

    async def _poll(self, database: Database) -> None:
        try:
            while self._streams and not self.stopping.is_set():
                await self._poll_once(database)
                await self._rest()
        finally:
            self._task = None
            self.forget()
            for stream in self._streams:
                stream.end()  # guard: test_streams_end_at_once_when_the_process_is_to_stop

    async def _poll_once(self, database: Database) -> None:
        try:
            async with database.unit_of_work(read_only=True) as session:
                await self._end_signed_out(session)
                await self.read(session, [*self._streams])
            self.note_success("")
        except DatabaseUnavailable:
            pass  # clients keep what they have; the next poll tries again
        except Exception as error:  # the poll of all streams must go on; guard: test_the_poll_outlives_a_fault
            self.note_failure("", error)

    def note_failure(self, part: str, error: Exception) -> None:
        """Log an error, unless the one before it was not followed by a success."""
        if part not in self._failing:
            self._failing.add(part)
            log.error("poll_of_streams_failed", streams=self._name, part=part or None, exc_info=error)

    def note_success(self, part: str) -> None:
        """Let the next error of this part be logged."""
        self._failing.discard(part)

    async def _rest(self) -> None:
        for _ in range(round(POLL / LOOK)):
            if self.stopping.is_set() or not self._streams:
                return
            await asyncio.sleep(LOOK)

    async def _end_signed_out(self, session: Session) -> None:
        streams = [*self._streams]
        roles, keys = await self._roles(session, streams), await self._keys_alive(session, streams)
        for stream in streams:
            match stream.caller:
                case Principal(session_id=session_id, role=role) if roles.get(session_id) is role:
                    continue
                case Machine(key_id=key_id) if key_id in keys:
                    continue
            self._streams.discard(stream)
            stream.end(signed_out=True)  # guard: test_an_ended_session_ends_its_streams

    async def _roles(self, session: Session, streams: Iterable[S]) -> Mapping[UUID, Role]:
        ids = {stream.caller.session_id for stream in streams if isinstance(stream.caller, Principal)}
        return await UserSessionRepository(session).roles_behind(ids) if ids else {}

    async def _keys_alive(self, session: Session, streams: Iterable[S]) -> Collection[UUID]:
        ids = {stream.caller.key_id for stream in streams if isinstance(stream.caller, Machine)}
        return await self.keys.alive(session, ids) if ids and self.keys is not None else ()


def stream_paths(routers: Iterable[APIRouter]) -> frozenset[str]:
    """Return the paths of routes that answer with a stream of events, such as `/jobs/{job_id}/events`."""
    contexts = (context for router in routers for context in iter_route_contexts(router.routes))
    return frozenset(
        context.path or "" for context in contexts if getattr(context, "response_class", None) is EventSourceResponse
    )
