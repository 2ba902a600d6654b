"""Gathers what concurrent callers ask of the database: one statement for all that came while the last one ran."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from app_db.outage import was_refused

MOST = 100
"""So many callers share a statement at most: each may bring a large value."""

SLOW = timedelta(milliseconds=500)
"""A statement that takes longer, as on a connection that has fallen silent, keeps later callers no longer."""


class _Call[T, R](NamedTuple):
    asked: T
    reply: asyncio.Future[R | None]


@dataclass(slots=True, eq=False)
class Gathering[T, R]:
    """Runs one statement at a time. Callers that come meanwhile share the next; a lone caller waits for nobody."""

    run: Callable[[Sequence[T]], Awaitable[Sequence[R | None]]]
    """Runs one statement for all that is asked, as a transaction of its own; returns a reply for each, in order."""
    time_limit: timedelta
    """For a statement."""
    _calls: list[_Call[T, R]] = field(default_factory=list)
    _turn: asyncio.Task[None] | None = None
    """The statement for whose end callers wait."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """All statements; asyncio itself keeps no task alive."""

    async def ask(self, asked: T) -> R | None:
        """Return the reply to this caller, or None if it should ask alone.

        It should if the statement has no reply for it, or if Postgres refused the statement: another caller may be
        the reason. A cancelled caller takes nothing from the others; what it asked may be done nevertheless.

        Raises:
            Exception: when nobody knows whether the statement had an effect, as after the loss of the connection.
        """
        reply: asyncio.Future[R | None] = asyncio.get_running_loop().create_future()
        self._calls.append(_Call(asked, reply))
        if self._turn is None:
            self._begin()
        return await reply

    def _begin(self) -> None:
        # A task begins in the next turn of the loop, so all callers of this turn share its statement. In no caller's
        # context, because it works for several.
        turn = self._turn = asyncio.create_task(self._run_next(), context=Context())
        self._tasks.add(turn)
        is_slow = asyncio.get_running_loop().call_later(
            SLOW.total_seconds(), self._end_turn, turn
        )  # guard: test_a_statement_that_hangs_keeps_later_callers_for_a_moment_only

        def end(turn: asyncio.Task[None]) -> None:
            self._tasks.remove(turn)
            self._end_turn(turn)
            is_slow.cancel()

        turn.add_done_callback(end)

    def _end_turn(self, turn: asyncio.Task[None]) -> None:
        if self._turn is turn:
            self._turn = None
            if self._calls:
                self._begin()

    async def _run_next(self) -> None:
        calls = [call for call in self._calls[:MOST] if not call.reply.done()]
        del self._calls[:MOST]
        if calls:
            await self._run(calls)

    async def _run(self, calls: Sequence[_Call[T, R]]) -> None:
        waiting = [call.reply for call in calls]
        try:
            async with asyncio.timeout(self.time_limit.total_seconds()):
                _reply(waiting, await self.run([call.asked for call in calls]))
        except asyncio.CancelledError:
            for reply in waiting:
                reply.cancel()
            raise
        except Exception as error:
            if was_refused(error):
                _reply(waiting, [None] * len(calls))  # guard: test_a_refused_statement_is_split
            _fail(waiting, error)


def _reply[R](waiting: Sequence[asyncio.Future[R | None]], replies: Sequence[R | None]) -> None:
    for caller, reply in zip(waiting, replies, strict=True):
        if not caller.done():  # guard: test_a_cancelled_caller_harms_no_other_of_its_group
            caller.set_result(reply)


def _fail[R](waiting: Sequence[asyncio.Future[R | None]], error: Exception) -> None:
    for caller in waiting:
        if not caller.done():
            caller.set_exception(error)
            caller.exception()  # else asyncio logs it if the caller is cancelled before it reads it
