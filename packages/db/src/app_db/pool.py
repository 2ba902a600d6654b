"""The connection pool of an engine: counts waiting callers, gives back what idles, and lives with the role's limit.

A connection that is given back goes to the caller that has waited longest: in SQLAlchemy's queue a caller that comes at
that moment takes it, and whoever was robbed waits behind all others (asyncpg's issue 1247,
findings/sqlalchemy-async-pool-serves-the-newcomer-first.sh).

At the limit (SQLSTATE 53300) a pool works as a smaller one would: callers wait for one of its connections. A write
takes the place of a read of its own process, if need be; reads take one of writes only if they have none (ADR-0012).
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.queue import Empty

from app_db.outage import AtLimit
from app_db.recovery import PoolEntry

RETRY = 1.0
"""Seconds after a refusal for which a pool does not try to grow: each try costs the server a process."""


class _Waiter(asyncio.Future[PoolEntry]):
    """A caller that waits for a connection, or for a place to open one."""

    lacks_place = False
    """Whether it waits because the pool was refused, and not because it is full."""


class CountingPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, with figures for metrics. They may be read from any thread."""

    __module__ = "sqlalchemy.pool"  # the name of its logger, which is noisy at INFO

    waiting = 0
    """How many callers wait for a connection."""
    waits = 0
    """How often a caller had to wait, since the start."""
    waited = 0.0
    """Seconds that callers have waited, since the start."""
    neighbour: "CountingPool | None" = None
    """The pool with which this one shares what the role may have."""
    goes_first = False
    """Whether it leaves its neighbour no more than one connection, if need be."""
    _connecting = _closing = 0
    _refused_at = float("-inf")
    _refusal: tuple[object, ...] = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:  # Any: SQLAlchemy's
        super().__init__(*arguments, **options)
        self._waiters: deque[_Waiter] = deque()
        self._coming_back: set[asyncio.Task[None]] = set()

    @property
    def opened(self) -> int:
        """How many connections are open, idle or in use."""
        return self.size() + self._overflow - self._connecting - self._closing

    def close_idle(self, *, since: float) -> None:
        """Close connections that were not used since then, by the monotonic clock; the last used one stays."""
        while (entry := self._unused(since)) is not None:
            self._close(entry)

    def places_wanted(self) -> int:
        """Return for how many callers that wait the neighbour should leave a place."""
        lacking = sum(waiter.lacks_place for waiter in self._waiters)
        return lacking if lacking and self._may_take() else 0

    def take_place(self) -> None:
        """Let the caller that has waited longest try to connect."""
        if self._waiters and (entry := self._empty()) is not None:
            self._give(entry)

    def leave_place(self) -> bool:
        """Close an idle connection, if there is one, and return whether there was."""
        while (entry := self._idle()) is not None:
            if entry.dbapi_connection is not None:
                self._leave(entry)
                return True
            self._close(entry)
        return False

    def _do_get(self) -> ConnectionPoolEntry:
        until = time.monotonic() + self._timeout
        while True:
            entry = self._idle() or self._place() or self._wait(until)
            if entry.dbapi_connection is not None or self._connects(entry):
                return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        assert isinstance(record, PoolEntry)
        if record.recovering is not None:
            if not record.recovering.done():
                self._await_recovery(record)
                return
            record.take_back()  # guard: test_a_connection_whose_statement_ended_is_kept
        neighbour = self.neighbour
        if neighbour is None or neighbour.places_wanted() <= self._closing or record.dbapi_connection is None:
            self._give(record)
            return
        self._leave(record)
        neighbour.take_place()  # guard: test_a_write_takes_the_place_of_a_read_that_ends

    def _await_recovery(self, entry: PoolEntry) -> None:
        """Give a connection back once it is recovered or lost; its place stays taken until then."""

        async def give_back() -> None:
            assert entry.recovering is not None
            await asyncio.wait([entry.recovering])
            await greenlet_spawn(self._do_return_conn, entry)

        task = asyncio.create_task(give_back(), context=Context())
        self._coming_back.add(task)
        task.add_done_callback(self._coming_back.discard)

    def dispose(self) -> None:
        """Close all idle connections, after those that are being recovered have come back."""
        if self._coming_back:
            await_only(asyncio.wait(self._coming_back))  # guard: test_a_database_that_closes_leaves_nothing_behind
        super().dispose()

    def _give(self, entry: PoolEntry) -> None:
        """Give a connection, or a place for one, to the caller that has waited longest, or to the next that comes."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(entry)  # guard: test_who_has_waited_longest_is_served_first
                return
        super()._do_return_conn(entry)

    def _idle(self) -> PoolEntry | None:
        try:
            entry = self._pool.get(block=False)
        except Empty:
            return None
        assert isinstance(entry, PoolEntry)
        return entry

    def _place(self) -> PoolEntry | None:
        """Return a place for a new connection, unless it would be refused and one that is open will come back."""
        if time.monotonic() - self._refused_at >= RETRY or not self._may_wait():
            return self._empty()
        if self.neighbour is None or not self.neighbour.checkedin() or not self._may_take():
            return None
        if (entry := self._empty()) is not None:
            with self._keeping_place():
                self.neighbour.leave_place()  # guard: test_a_write_takes_the_place_of_an_idle_read
        return entry

    def _leave(self, entry: PoolEntry) -> None:
        """Close a connection for the neighbour, and do not ask for its place at once."""
        self._refused_at = time.monotonic()  # guard: test_no_read_asks_for_the_place_that_a_write_took
        self._close(entry)

    def _empty(self) -> PoolEntry | None:
        return PoolEntry(self) if self._inc_overflow() else None

    def _may_wait(self) -> bool:
        """Return whether a connection is open, or about to be, that a caller may get or take the place of."""
        return self.opened + self._connecting > 0 or self._may_take()

    def _wait(self, until: float) -> PoolEntry:
        waiter = _Waiter()
        waiter.lacks_place = self._overflow < self._max_overflow
        self._waiters.append(waiter)
        with self._waiting():
            try:
                return await_only(asyncio.wait_for(waiter, max(until - time.monotonic(), 0)))
            except BaseException as error:
                with suppress(ValueError):  # it was served, and too late
                    self._waiters.remove(waiter)
                if waiter.done() and not waiter.cancelled():
                    self._give(waiter.result())  # guard: test_a_connection_that_comes_too_late_goes_to_the_next
                if not isinstance(error, TimeoutError):
                    raise
        if waiter.lacks_place:
            raise AtLimit(*self._refusal)  # guard: test_who_waits_in_vain_at_the_limit_is_told_why
        raise PoolTimeoutError(
            f"all {self.size()} connections of the pool were in use for {self._timeout} s", code="3o7r"
        )

    def _connects(self, entry: PoolEntry) -> bool:
        """Connect an entry. If it is refused at the limit, return False when one that is open will come back."""
        try:
            with self._keeping_place():
                entry.get_connection()
        except AtLimit as error:
            self._refused_at, self._refusal = time.monotonic(), error.args
            if not self._may_wait():
                raise
            return False  # guard: test_at_the_limit_callers_wait_for_a_connection_of_their_pool
        return True

    @contextmanager
    def _keeping_place(self) -> Iterator[None]:
        """Count a place as one that connects; free it after an error."""
        self._connecting += 1
        try:
            yield
        except BaseException:
            self._dec_overflow()
            raise
        finally:
            self._connecting -= 1

    def _may_take(self) -> bool:
        """Return whether the neighbour can spare a connection: all but the last, to reads only their first one."""
        if self.neighbour is None:
            return False
        is_first = self.opened + self._connecting == 0
        if self.neighbour.opened <= 1:
            return self.neighbour.opened == 1 and is_first and self.goes_first
        return is_first or self.goes_first  # guard: test_reads_take_no_place_of_a_write_but_their_first

    def _unused(self, since: float) -> PoolEntry | None:
        """Take out a connection that was not used since then, if another one stays."""
        idle: list[PoolEntry] = []
        while (entry := self._idle()) is not None:  # the last used one first
            idle.append(entry)
        unused = None
        if idle and self.opened > 1 and idle[-1].info.get("idle_since", since) < since:
            unused = idle.pop()  # guard: test_a_pool_gives_back_what_idles
        for entry in reversed(idle):
            self._pool.put(entry, block=False)
        return unused

    def _close(self, entry: ConnectionPoolEntry) -> None:
        assert isinstance(entry, PoolEntry)
        self._closing += 1  # its place is free once the server has let it go
        try:
            entry.close()
        finally:
            self._closing -= 1
            self._dec_overflow()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.monotonic()
        self.waits += 1
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1
            self.waited += time.monotonic() - began


def pools_of(engines: Mapping[str, AsyncEngine]) -> Iterator[tuple[str, CountingPool]]:
    """Yield the pool of each engine with its name."""
    for name, engine in engines.items():
        yield name, pool_of(engine)


def pool_of(engine: AsyncEngine) -> CountingPool:
    """Return the pool of an engine of ours."""
    assert isinstance(engine.pool, CountingPool), "what app_db.connections makes"
    return engine.pool


def share_limit(writes: AsyncEngine, reads: AsyncEngine) -> None:
    """Let two pools share the connections of a role at its limit; writes go first."""
    of_writes, of_reads = pool_of(writes), pool_of(reads)
    of_writes.neighbour, of_reads.neighbour = of_reads, of_writes
    of_writes.goes_first = True
