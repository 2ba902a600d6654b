"""Keeps open pages live: one poll of the database per second and process, however many pages are open (ADR-0060)."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final
from uuid import UUID

import structlog

from app_api.admission import Overloaded
from app_api.console.fragments import Watched
from app_api.console.rendering import Console
from app_auth.principal import Principal
from app_db import Database, Session
from app_db.models import Role
from app_db.outage import DatabaseUnavailable
from app_db.repositories.user_sessions import UserSessionRepository

log = structlog.get_logger(__name__)

MOST_STREAMS: Final = 1000
"""In a process; further pages are not live until others are closed."""
MOST_PER_SESSION: Final = 20
POLL: Final = 1.0
"""Seconds between two polls."""
LOOK: Final = 0.1
"""Seconds between two looks at whether the process is to stop."""


@dataclass(eq=False, slots=True)
class Stream:
    """An open page: what it watches, and what it has not been sent yet."""

    viewer: Principal
    watched: frozenset[Watched]
    pending: dict[Watched, str] = field(default_factory=dict)
    """At most one text for each part, so a slow client costs no more memory than a quick one."""
    ended: bool = False
    signed_out: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, texts: Mapping[Watched, str]) -> None:
        """Give it the new texts of what it watches."""
        news = {watched: text for watched, text in texts.items() if watched in self.watched}
        if news:
            self.pending |= news
            self.wake.set()

    def end(self, *, signed_out: bool = False) -> None:
        """Let it end after what is pending."""
        self.ended, self.signed_out = True, signed_out
        self.wake.set()


class Hub:
    """All streams of a process. It polls only while there are any; each change is rendered once, for all of them."""

    def __init__(self, console: Console, *, stopping: Event) -> None:
        self.fragments = {**console.fragments}
        self.process: dict[str, Any] = {}  # Any: what a part needs that is in no table
        """In `session.info["process"]` of each poll, for parts about this process."""
        self._console, self._stopping = console, stopping
        self._streams: set[Stream] = set()
        self._texts: dict[Watched, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._failing: set[str] = set()

    @property
    def is_polling(self) -> bool:
        """Whether it asks the database; it does so only while a page is open."""
        return self._task is not None

    def require_room(self, viewer: Principal) -> None:
        """Refuse a stream too many, and each one once the process is to stop: another process takes it.

        Raises:
            Overloaded: the page tries again in a moment.
        """
        own = sum(stream.viewer.session_id == viewer.session_id for stream in self._streams)
        if self._stopping.is_set() or len(self._streams) >= MOST_STREAMS or own >= MOST_PER_SESSION:
            raise Overloaded  # guard: test_a_stream_too_many_is_refused

    async def follow(
        self, database: Database, viewer: Principal, watched: frozenset[Watched]
    ) -> AsyncGenerator[Stream]:
        """Yield the stream each time that something is pending, until it has ended."""
        stream = Stream(viewer, watched)
        stream.put(self._texts)
        self._streams.add(stream)
        if self._task is None:
            # In a context of its own: the poll is no part of the request that happened to come first.
            self._task = asyncio.create_task(self._poll(database), context=Context())
        try:
            while not stream.ended:
                await stream.wake.wait()
                stream.wake.clear()
                yield stream
        finally:
            self._streams.discard(stream)  # guard: test_the_last_stream_ends_the_poll

    async def _poll(self, database: Database) -> None:
        try:
            while self._streams and not self._stopping.is_set():
                await self._poll_once(database)
                await self._rest()
        finally:
            self._task = None
            self._texts.clear()
            for stream in self._streams:
                stream.end()  # guard: test_streams_end_at_once_when_the_process_is_to_stop

    async def _poll_once(self, database: Database) -> None:
        try:
            self._send(await self._read_all(database))
            self._failing.discard("")
        except DatabaseUnavailable:
            pass  # pages keep what they show; the next poll tries again
        except Exception as error:  # the poll of all pages must go on; guard: test_the_poll_outlives_a_fault
            self._log_once("", error)

    def _log_once(self, fragment: str, error: Exception) -> None:
        """Log an error, unless the one before it was not followed by a success."""
        if fragment not in self._failing:
            self._failing.add(fragment)
            log.error("console_poll_failed", fragment=fragment or None, exc_info=error)

    async def _rest(self) -> None:
        for _ in range(round(POLL / LOOK)):
            if self._stopping.is_set() or not self._streams:
                return
            await asyncio.sleep(LOOK)

    async def _read_all(self, database: Database) -> dict[Watched, str]:
        streams, texts = [*self._streams], dict[Watched, str]()
        async with database.unit_of_work(read_only=True) as session:
            session.info["process"] = self.process
            roles = await UserSessionRepository(session).roles_behind({each.viewer.session_id for each in streams})
            self._end_signed_out(streams, roles)
            for name, group in self._watched().items():
                texts |= await self._read(session, name, group)
        return texts

    def _end_signed_out(self, streams: list[Stream], roles: Mapping[UUID, Role]) -> None:
        for stream in streams:
            if roles.get(stream.viewer.session_id) is not stream.viewer.role:
                self._streams.discard(stream)
                stream.pending.clear()
                stream.end(signed_out=True)  # guard: test_an_ended_session_ends_its_streams

    def _watched(self) -> dict[str, set[Watched]]:
        groups: dict[str, set[Watched]] = {}
        for stream in self._streams:
            for watched in stream.watched:
                groups.setdefault(watched.name, set()).add(watched)
        return groups

    async def _read(self, session: Session, name: str, group: set[Watched]) -> dict[Watched, str]:
        fragment = self.fragments[name]
        try:
            contexts = await fragment.read(session, group)
            texts = {one: self._console.render_part(fragment.template, **context) for one, context in contexts.items()}
        except DatabaseUnavailable:
            raise
        except Exception as error:  # a fault of one part stops no other; guard: test_a_part_that_fails_stops_no_other
            self._log_once(name, error)
            return {}
        self._failing.discard(name)
        return texts

    def _send(self, texts: dict[Watched, str]) -> None:
        news = {watched: text for watched, text in texts.items() if self._texts.get(watched) != text}
        self._texts = texts
        for stream in self._streams:
            stream.put(news)
