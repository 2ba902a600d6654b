"""Concurrent questions of one kind share queries: what arrives while one is under way goes with the next (ADR-0033)."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import NamedTuple

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app_db.outage import NoAnswer

AT_ONCE = 3
"""Queries of one kind that may be under way."""
PATIENCE = 0.01
"""Seconds that a query may be under way alone: one that hangs, or a distant server, holds up no later caller."""

type Take[Question] = Callable[[], list[Question]]
"""Returns the questions; called when the connection is there, right before the query is sent."""


class _AskAlone(Exception):
    """The query of several callers failed: each repeats it, so that it fails only for the callers it fails for."""


class _Caller[Question, Answer](NamedTuple):
    question: Question
    answer: asyncio.Future[Answer]


class SharedQueries[Question, Answer]:
    """Answers each question by a query that began after it was asked; no query waits for questions.

    A query that has no connection yet takes what arrives meanwhile. A query ends when all its callers have gone. Both
    would be wrong for statements that write: those are for `app_db.gathering`.
    """

    def __init__(
        self,
        read: Callable[[Take[Question]], Awaitable[Sequence[Answer]]],
        sizes: Counter[int],
    ) -> None:
        """`read` makes one query and returns an answer for each question; `sizes` counts queries by their questions."""
        self._read = read
        self._sizes = sizes
        self._waiting: list[_Caller[Question, Answer]] = []
        self._last_size = 0
        """How many callers the last query had."""
        self._connecting: asyncio.Task[None] | None = None
        self._sent: dict[asyncio.Task[None], list[_Caller[Question, Answer]]] = {}
        self._lone = False
        """Whether a caller makes its own query, beside those that were sent."""
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Answer:
        """Return the answer, or raise what a query of this question alone raises."""
        if self._last_size == 1 and not self._waiting and not self._sent and not self._lone:
            return await self._ask_alone(question)  # guard: test_a_call_without_company_makes_its_query_itself
        caller: _Caller[Question, Answer] = _Caller(question, asyncio.get_running_loop().create_future())
        self._waiting.append(caller)
        self._start()
        try:
            return await caller.answer
        except asyncio.CancelledError:
            self._end_abandoned()  # guard: test_a_query_ends_when_all_its_calls_have_gone
            raise
        except _AskAlone:
            return await self._read_alone(question)  # guard: test_one_row_that_fails_fails_one_call

    async def _ask_alone(self, question: Question) -> Answer:
        """Ask in the caller's own task: another costs two more turns of the loop, which are long when it is busy."""
        self._lone, self._sent_at = True, time.monotonic()
        try:
            return await self._read_alone(question)
        finally:
            self._lone = False
            self._start()  # guard: test_what_comes_while_a_lone_call_is_under_way_is_sent_at_its_end

    async def _read_alone(self, question: Question) -> Answer:
        self._sizes[1] += 1
        (answer,) = await self._read(lambda: [question])
        return answer

    async def close(self) -> None:
        """Wait for the queries that are under way; nobody may ask any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        if not self._waiting or self._connecting is not None:
            return
        if self._may_send():
            # In no caller's context, because it works for several. It runs after all that is ready in this turn of the
            # loop, so that requests which arrive together go together.
            self._connecting = asyncio.create_task(self._query(), context=Context())
            self._tasks.add(self._connecting)
            self._connecting.add_done_callback(self._tasks.discard)
        elif self._timer is None and len(self._sent) + self._lone < AT_ONCE:
            # One for all that wait; whoever comes later, or the end of a query, may be first.
            self._timer = asyncio.get_running_loop().call_later(
                PATIENCE, self._start_late, context=Context()
            )  # guard: test_a_query_that_hangs_holds_up_the_only_later_call_for_a_moment

    def _start_late(self) -> None:
        self._timer = None
        self._start()

    def _may_send(self) -> bool:
        if not self._sent and not self._lone:
            return True
        # Otherwise one at a time, as larger groups cost less.
        is_late = time.monotonic() - self._sent_at >= PATIENCE
        return (
            is_late and len(self._sent) + self._lone < AT_ONCE
        )  # guard: test_a_query_that_hangs_holds_up_no_later_call

    async def _query(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "nothing else awaits this"
        known, callers = len(self._waiting), list[_Caller[Question, Answer]]()

        def take() -> list[Question]:
            nonlocal callers
            callers = self._sent[task] = self._waiting
            # Who arrives from here on waits for the next query: this one may not see what they have seen.
            self._waiting = []  # guard: test_an_answer_comes_from_a_query_that_began_after_its_call
            self._connecting, self._sent_at = None, time.monotonic()
            self._last_size = len(callers)
            self._sizes[self._last_size] += 1  # guard: test_calls_of_one_moment_share_a_query
            return [caller.question for caller in callers]

        try:
            answers = await self._read(take)
        except BaseException as error:
            if self._connecting is task:  # those who came while it waited for a connection try again
                callers, self._waiting = self._waiting[:known], self._waiting[known:]
            _fail(callers, error)
            if not isinstance(error, Exception):
                raise
        else:
            for caller, answer in zip(callers, answers, strict=True):
                if caller.answer.done():
                    continue  # guard: test_the_cancellation_of_one_call_harms_no_other
                caller.answer.set_result(answer)
        finally:
            self._sent.pop(task, None)
            if self._connecting is task:
                self._connecting = None
            self._start()  # guard: test_what_arrives_while_queries_are_under_way_goes_with_the_next

    def _end_abandoned(self) -> None:
        if self._connecting is not None and _all_gone(self._waiting):
            self._connecting.cancel()
            self._waiting, self._connecting = [], None
        for task in [task for task, callers in self._sent.items() if _all_gone(callers)]:
            task.cancel()
            del self._sent[task]
        self._start()


def _all_gone[Question, Answer](callers: Sequence[_Caller[Question, Answer]]) -> bool:
    return all(caller.answer.done() for caller in callers)


def _fail[Question, Answer](callers: Sequence[_Caller[Question, Answer]], error: BaseException) -> None:
    # Without a server, or a place in the pool, asking again would fail again, only later.
    if len(callers) > 1 and isinstance(error, Exception) and not isinstance(error, NoAnswer | PoolTimeoutError):
        error = _AskAlone()
    for caller in callers:
        if caller.answer.done():
            continue
        if not isinstance(error, Exception):
            caller.answer.cancel()
        else:
            caller.answer.set_exception(error)
            caller.answer.exception()  # asyncio would log it as lost, if the caller is cancelled before it takes it
