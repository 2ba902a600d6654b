"""Keeps open pages live, by the poll that all of them share (ADR-0060)."""

from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from app_api.admission import Overloaded
from app_api.console.fragments import Watched
from app_api.console.rendering import Console
from app_api.streams import SharedPoll, Stream
from app_auth.principal import Caller, Principal
from app_db import Database, Session
from app_db.outage import DatabaseUnavailable

MOST_PER_SESSION: Final = 20


@dataclass(eq=False, slots=True)
class PageStream(Stream):
    """An open page: what it watches, and what it has not been sent yet."""

    watched: frozenset[Watched] = frozenset()
    pending: dict[Watched, str] = field(default_factory=dict)
    """At most one text for each part, so a slow client costs no more memory than a quick one."""

    def put(self, texts: Mapping[Watched, str]) -> None:
        """Give it the new texts of what it watches."""
        news = {watched: text for watched, text in texts.items() if watched in self.watched}
        if news:
            self.pending |= news
            self.wake.set()

    def end(self, *, signed_out: bool = False) -> None:
        """Let it end after what is pending; who is signed out gets no more."""
        if signed_out:
            self.pending.clear()
        Stream.end(self, signed_out=signed_out)


class Hub(SharedPoll[PageStream]):
    """All open pages of a process. Each change is rendered once, for all of them."""

    def __init__(self, console: Console, *, stopping: Event) -> None:
        super().__init__(stopping=stopping, name="console")
        self.fragments = {**console.fragments}
        self.process: dict[str, Any] = {}  # Any: what a part needs that is in no table
        """In `session.info["process"]` of each poll, for parts about this process."""
        self._console = console
        self._texts: dict[Watched, str] = {}

    def require_room(self, caller: Caller) -> None:
        """Refuse a stream too many, also of one session.

        Raises:
            Overloaded: the page tries again in a moment.
        """
        super().require_room(caller)
        if sum(stream.caller == caller for stream in self._streams) >= MOST_PER_SESSION:
            raise Overloaded  # guard: test_a_stream_too_many_is_refused

    def watch(self, database: Database, viewer: Principal, watched: frozenset[Watched]) -> AsyncGenerator[PageStream]:
        """Yield the stream of a page each time that something is pending, until it has ended."""
        stream = PageStream(viewer, watched=watched)
        stream.put(self._texts)
        return self.follow(database, stream)

    def forget(self) -> None:
        """Drop the texts: nobody keeps them up to date."""
        self._texts.clear()

    async def read(self, session: Session, streams: Collection[PageStream]) -> None:
        """Render what is watched, and give each page what has changed of it."""
        session.info["process"] = self.process
        texts = dict[Watched, str]()
        for name, group in _grouped(streams).items():
            texts |= await self._read_part(session, name, group)
        self._send(texts)

    async def _read_part(self, session: Session, name: str, group: set[Watched]) -> dict[Watched, str]:
        fragment = self.fragments[name]
        try:
            contexts = await fragment.read(session, group)
            texts = {one: self._console.render_part(fragment.template, **context) for one, context in contexts.items()}
        except DatabaseUnavailable:
            raise
        except Exception as error:  # a fault of one part stops no other; guard: test_a_part_that_fails_stops_no_other
            self.note_failure(name, error)
            return {}
        self.note_success(name)
        return texts

    def _send(self, texts: dict[Watched, str]) -> None:
        news = {watched: text for watched, text in texts.items() if self._texts.get(watched) != text}
        self._texts = texts
        for stream in self._streams:
            stream.put(news)


def _grouped(streams: Collection[PageStream]) -> dict[str, set[Watched]]:
    groups: dict[str, set[Watched]] = {}
    for stream in streams:
        for watched in stream.watched:
            groups.setdefault(watched.name, set()).add(watched)
    return groups
