"""The context that a handler gets beside its payload, and the exceptions that it may raise."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.bounds import LONGEST_DELAY
from app_db.jobs.jsonb import require_depth
from app_db.jobs.ledger import Delivery, StartedJob
from app_db.models import JobState
from app_worker.history import truncated
from app_worker.mail import Mails
from app_worker.progress import Progress
from app_worker.results import require_storable
from app_worker.steps import Step, Steps

IN_TX_MODE = "a handler in tx mode has locked the row of its job: it writes with job.session, and has no progress"
IDLE = timedelta(seconds=10)
"""Postgres ends a transaction of lease mode after this wait for a statement, because the worker may be frozen."""
SHORTEST_SNOOZE = timedelta(seconds=1)


class Snooze(Exception):
    """Raised by a handler to run the job again after `delay`. It costs no attempt, and the number is not limited.

    A shorter delay than a second becomes a second, so that the job does not run without a pause.

    Raises:
        ValueError: for a delay of more than a hundred years, because Python cannot read such a date.

    Example:
        @handles(EndSessions)
        async def end_sessions(job: JobContext, payload: EndSessions) -> None:
            if not await UserSessionRepository(job.session).of_user(payload.user_id):
                raise Snooze(timedelta(hours=1))
    """

    def __init__(self, delay: timedelta) -> None:
        if delay > LONGEST_DELAY:
            raise ValueError(
                f"a job cannot be put off by {delay}: {LONGEST_DELAY} is the longest"
            )  # guard: test_a_job_cannot_be_put_off_to_a_date_that_nothing_can_show
        super().__init__(delay)
        self.delay = max(delay, SHORTEST_SNOOZE)  # guard: test_a_snooze_is_a_second_long_at_least


class Discard(Exception):
    """Raised by a handler whose job can never succeed: the job is discarded, and the message is kept in its errors.

    Example:
        @handles(EndSessions)
        async def end_sessions(job: JobContext, payload: EndSessions) -> None:
            user = await UserRepository(job.session).get(payload.user_id)
            if user is None or user.disabled_at is None:
                raise Discard("the account is not disabled any more")
    """


class Fenced(Exception):
    """This delivery no longer holds its job: the lease expired, and the job was claimed again."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """The job of a handler, and the calls that the handler may make in this attempt."""

    delivery: Delivery
    job: StartedJob
    mails: Mails
    database: Database
    lease: timedelta
    timeout: timedelta
    """The time limit of the attempt, and of each of its transactions."""
    retention: Mapping[str, timedelta]
    """How long completed jobs are kept, by kind, for handlers that declare `keep`."""
    tx_session: Session | None
    """The session of a handler in tx mode; None in lease mode."""
    progress: Progress
    completed: asyncio.Event
    """Set when the job's completion is committed before its handler ends."""
    steps: Steps
    stop_if_asked: Callable[[], Awaitable[None]]
    """Gives the job back, and does not return, if the worker stops."""

    @property
    def id(self) -> UUID:
        """The id that `enqueue` returned.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def write_report(job: JobContext, payload: EndSessions) -> None:
                report = folder / f"{job.id}.txt"  # a second attempt overwrites that of the first
                await asyncio.to_thread(report.write_text, "…")
        """
        return self.delivery.id

    @property
    def attempt(self) -> int:
        """The number of the attempt; the first is 1.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vet(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                async with asyncio.timeout(5 * job.attempt):  # more patience each time
                    await vet.call(payload.user_id)
        """
        return self.job.attempt

    @property
    def owner_id(self) -> UUID | None:
        """The user who started the job.

        Example:
            @handles(EndSessions)
            async def end_sessions(job: JobContext, payload: EndSessions) -> None:
                await enqueue(job.session, CloseAccount(user_id=payload.user_id), owner_id=job.owner_id)
        """
        return self.job.owner_id

    @property
    def run_at(self) -> datetime:
        """The `run_at` of `enqueue`; for the job of a cron, its tick.

        Example:
            @handles(EndSessions)
            async def count_signups(job: JobContext, payload: EndSessions) -> str:
                return f"those before {job.run_at:%Y-%m-%d}"  # the day of the tick, however late the worker is
        """
        return self.job.run_at

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt: pass it to services that recognise repeated requests.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vet(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                await vet.call(payload.user_id, headers={"Idempotency-Key": job.idempotency_key})
        """
        return f"job:{self.id}"

    @property
    def session(self) -> Session:
        """The session of a handler in tx mode; the runner commits it together with the completion of the job.

        Example:
            @handles(EndSessions)
            async def end_sessions(job: JobContext, payload: EndSessions) -> None:
                await UserSessionRepository(job.session).end_all(payload.user_id)  # do not commit
        """
        assert self.tx_session is not None, "a handler in lease mode opens transactions with job.transaction()"
        return self.tx_session

    @property
    def cursor(self) -> Any:  # Any: JSON
        """The last `cursor` that a `transaction` of this attempt or an earlier one has committed; None before.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vets(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                for number in range(job.cursor or 0, 5):  # a later attempt goes on here
                    await vet.call(payload.user_id)
                    async with job.transaction(cursor=number + 1):
                        pass  # what is written here is committed with the cursor
        """
        return self.steps.cursor

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[Step]:
        """Run one step of a job in lease mode: it is committed with its result and its writes, and never run again.

        A later attempt gets the step with its result, and `is_due` false. While the worker stops, a step does not
        begin: the job is given back at once. Steps run one after the other, in the same order in each attempt.

        Raises:
            Fenced: if this delivery no longer holds the job. Nothing is written.
            StepsChanged: if an earlier attempt has committed another step at this place.
            RuntimeError: if the step before was not committed.
            ResultTooLarge, TypeError, ValueError: for a result that cannot be stored, and a name that was used before.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vet(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                async with job.step("call") as step:
                    if step.is_due:
                        step.result = await vet.call(payload.user_id)  # at least once
                async with job.step("close") as step:
                    if step.is_due:
                        await enqueue(await step.session(), CloseAccount(user_id=payload.user_id))  # once
        """
        assert self.tx_session is None, IN_TX_MODE
        step = self.steps.begin(name)
        if not step.is_due:
            yield step
            return
        await self.stop_if_asked()  # guard: test_a_worker_that_stops_gives_a_job_back_between_its_steps
        async with AsyncExitStack() as stack:
            step.open = partial(stack.enter_async_context, self._locked_transaction())
            yield step
            record = self.steps.require_next(step)
            await ledger.advance(await step.session(), self.delivery, lease=self.lease, step=record)
        self.steps.commit(step)

    @asynccontextmanager
    async def transaction(self, *, cursor: Any = None) -> AsyncIterator[Session]:  # Any: JSON
        """Open a transaction in lease mode; it commits at the end of the block.

        The row of the job stays locked until then, so that no other delivery can start meanwhile; `set_progress` would
        wait for that lock. Postgres ends a transaction that waits 10 s for its next statement. A later attempt may find
        what this block has written: a `cursor` becomes its `job.cursor`. While the worker stops, a block with a cursor
        does not begin, as a step does not.

        Raises:
            Fenced: if this delivery no longer holds the job. Nothing is written.
            ResultTooLarge, TypeError, ValueError: for a cursor that cannot be stored.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vet(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                async with job.transaction() as session:
                    user = await UserRepository(session).get(payload.user_id)
                if user is not None:
                    await vet.call(user.id)  # outside: it would keep the row locked
        """
        if cursor is not None:
            require_storable(cursor)
            await self.stop_if_asked()  # guard: test_a_worker_that_stops_gives_a_job_back_between_its_steps
        async with self._locked_transaction() as session:
            yield session
            # Heartbeats skipped the row while it was locked.
            if cursor is None:
                await ledger.extend(
                    session, self.delivery, lease=self.lease
                )  # guard: test_a_transaction_renews_the_lease_at_its_end
            else:
                await ledger.advance(session, self.delivery, lease=self.lease, cursor=self.steps.stored(cursor))
        if cursor is not None:
            self.steps.cursor = json.loads(json.dumps(cursor))

    @asynccontextmanager
    async def last_transaction(self) -> AsyncIterator[Session]:
        """Open a transaction as `transaction` does; its commit also completes the job, so its writes happen once.

        An exception after the commit does not change that; the handler's return value still becomes the result.

        Raises:
            Fenced: if this delivery no longer holds the job. Nothing is written.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vet(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                await vet.call(payload.user_id)  # at least once
                async with job.last_transaction() as session:
                    await enqueue(session, CloseAccount(user_id=payload.user_id))  # once
        """
        self.steps.require_all_asked()  # guard: test_a_committed_step_that_is_unknown_keeps_the_last_transaction_shut
        async with self._locked_transaction() as session:
            yield session
            await ledger.finish(
                session, self.delivery, state=JobState.COMPLETED, progress=truncated(self.progress.latest)
            )  # guard: test_the_last_transaction_of_a_job_completes_it
        self.completed.set()

    async def set_progress(self, progress: Any) -> None:  # Any: JSON
        """Show the owner of a job in lease mode how far it is: written at most once a second, and at the end.

        Raises:
            Fenced: if this delivery no longer holds the job.
            ValueError: for lists and objects nested in more than a hundred levels.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def call_vets(job: JobContext, payload: EndSessions, vet: Vet) -> None:
                for done in range(3):
                    await job.set_progress({"done": done, "of": 3})
                    await vet.call(payload.user_id)
        """
        assert self.tx_session is None, IN_TX_MODE
        require_depth(progress)  # guard: test_a_progress_that_could_not_be_shown_is_refused
        await self.progress.show(progress)

    @asynccontextmanager
    async def _locked_transaction(self) -> AsyncIterator[Session]:
        assert self.tx_session is None, IN_TX_MODE
        async with self.database.sessions() as session:
            session.info["request_id"] = self.job.request_id
            with session.naming_failed_flush():
                if not await ledger.lock(session, self.delivery, idle=IDLE, total=self.timeout):
                    raise Fenced  # guard: test_a_zombie_cannot_write
                with session.undivided():
                    yield session
                await session.commit()
