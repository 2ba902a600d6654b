"""Traces in a worker: each attempt is a span, and a part of what enqueued the job."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from app_db import Database, open_database
from app_db.jobs.ledger import Delivery
from app_db.settings import DatabaseSettings
from app_db.telemetry.traces import DatabaseTraces
from app_runtime.testing.collector import CollectedSpan, Collector
from app_worker.context import JobContext
from app_worker.registry import Handler, Mode, handles
from app_worker.schedule import Cron, fire_due

from .conftest import Jobs, MakeRunner, Note


@dataclass(frozen=True, slots=True)
class TracedWorker:
    """A worker whose traces are read after it has stopped."""

    database: Database
    traces: DatabaseTraces
    make_runner: MakeRunner

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.database)

    async def run(self, delivery: Delivery, handler: Handler) -> None:
        await replace(self.make_runner(handler, database=self.database), trace=self.traces.job).run(delivery)


type Tracing = Callable[[], AbstractAsyncContextManager[TracedWorker]]


@pytest.fixture
def spans() -> list[CollectedSpan]:
    """The spans that were sent, once `tracing` has ended."""
    return []


@pytest.fixture
def tracing(
    database: Database, database_settings: DatabaseSettings, make_runner: MakeRunner, spans: list[CollectedSpan]
) -> Tracing:
    @asynccontextmanager
    async def trace() -> AsyncIterator[TracedWorker]:
        with Collector() as collector:
            traces = DatabaseTraces(collector.endpoint, 1.0, "app-worker")
            async with open_database(database_settings, name="traced") as second, traces.tracing(second):
                yield TracedWorker(second, traces, make_runner)
            spans.extend(collector.spans)

    return trace


def named(spans: list[CollectedSpan], name: str) -> list[CollectedSpan]:
    return [span for span in spans if span.name == name]


@handles(Note)
async def ask_the_database(job: JobContext, payload: Note) -> None:
    await job.session.execute(text("SELECT 42"))


@handles(Note, backoff=lambda attempt: timedelta(hours=1), max_attempts=2)
async def fail(job: JobContext, payload: Note) -> None:
    raise RuntimeError("no luck")


@handles(Note, mode=Mode.LEASE)
async def write_in_between(job: JobContext, payload: Note) -> None:
    async with job.transaction() as session:
        await session.execute(text("SELECT 42"))


@pytest.mark.parametrize("handler", [ask_the_database, write_in_between], ids=["tx", "lease"])
async def test_the_sql_of_a_handler_is_part_of_its_attempt(
    tracing: Tracing, spans: list[CollectedSpan], handler: Handler
) -> None:
    async with tracing() as worker:
        await worker.run(await worker.jobs.deliver(), handler)

    (enqueue,), (run,) = named(spans, "enqueue test.note"), named(spans, "run test.note")
    (statement,) = [span for span in spans if span.attributes.get("db.query.text") == "SELECT 42"]
    assert (statement.trace_id, statement.parent_id) == (enqueue.trace_id, run.id)
    assert (run.parent_id, run.attributes["job.outcome"]) == (enqueue.id, "completed")


async def test_each_job_that_ends_with_others_has_a_span_of_it(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    async with tracing() as worker:
        runner = replace(worker.make_runner(write_in_between, database=worker.database), trace=worker.traces.job)
        runner.expected_mode = Mode.LEASE
        deliveries = [await worker.jobs.deliver() for _ in range(2)]
        await asyncio.gather(*map(runner.run, deliveries))

    runs = {run.id for run in named(spans, "run test.note")}
    ends = [span for span in spans if "SET state = 'completed'" in str(span.attributes.get("db.query.text"))]
    assert len(ends) == 2
    assert {span.parent_id for span in ends} == runs


async def test_what_puts_a_failure_on_record_is_part_of_the_attempt_too(
    tracing: Tracing, spans: list[CollectedSpan]
) -> None:
    async with tracing() as worker:
        await worker.run(await worker.jobs.deliver(), fail)

    (run,) = named(spans, "run test.note")
    statements = [str(span.attributes["db.query.text"]) for span in spans if span.parent_id == run.id]
    assert any("INSERT INTO job_errors" in statement for statement in statements)
    assert (run.failed, run.attributes["error.type"]) == (True, "RuntimeError")


async def test_every_attempt_at_a_job_is_in_the_trace_of_its_enqueue(
    tracing: Tracing, spans: list[CollectedSpan]
) -> None:
    async with tracing() as worker:
        delivery = await worker.jobs.deliver()
        await worker.run(delivery, fail)
        await worker.run(await worker.jobs.dispatch(delivery.id), fail)

    (enqueue,) = named(spans, "enqueue test.note")
    attempts = [(run.parent_id, run.attributes["job.attempt"]) for run in named(spans, "run test.note")]
    assert attempts == [(enqueue.id, 1), (enqueue.id, 2)]


async def test_a_cron_begins_a_trace_at_each_tick(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    async with tracing() as worker:
        for _ in range(2):
            async with worker.database.sessions.begin() as session:
                await session.execute(
                    text("""
                        INSERT INTO job_crons (name, last_tick_at) VALUES ('test', now() - interval '2 minutes')
                        ON CONFLICT (name) DO UPDATE SET last_tick_at = excluded.last_tick_at
                    """)
                )
            await fire_due(worker.database, (Cron("test", "* * * * *", Note),))

    first, second = named(spans, "enqueue test.note")
    assert (first.parent_id, second.parent_id) == ("", "")
    assert first.trace_id != second.trace_id
