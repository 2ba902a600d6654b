"""Traces: the content of spans, values that no span holds, and spans that no collector takes."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from textwrap import dedent
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import ledger
from app_db.jobs.ledger import Starter
from app_db.jobs.outbox import enqueue, enqueue_many
from app_db.jobs.unique import Unique
from app_db.models import Job
from app_db.outage import NoAnswer
from app_db.telemetry.trace_setup import traces_of
from app_db.telemetry.traces import DatabaseTraces
from app_db.testing.jobs import dispatch
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from app_runtime.telemetry.trace_settings import TracingSettings, log_processors
from app_runtime.telemetry.traces import add_trace_id
from app_runtime.testing.collector import Collector

from .conftest import OpenWith

SAMPLED, NOT_SAMPLED = "03", "02"
"""The last part of a traceparent; the other bit says that its trace id is random."""

type Tracing = Callable[..., AbstractAsyncContextManager[Traced]]


class Traced:
    """A process that traces, and the spans that it sends."""

    def __init__(self, traces: DatabaseTraces, database: Database) -> None:
        self.database = database
        self.traces = traces
        self.tracer = traces.provider.get_tracer("test")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def tracing(collector: Collector, open_with: OpenWith) -> Tracing:
    """Trace the test's database during a block; at its end all spans have been sent."""

    @asynccontextmanager
    async def trace(*, sample: float = 1.0) -> AsyncIterator[Traced]:
        traces = DatabaseTraces(collector.endpoint, sample, "app-db")
        async with open_with() as database, traces.tracing(database):
            yield Traced(traces, database)

    return trace


async def test_a_statement_is_a_span_without_its_parameters(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced:
        with traced.tracer.start_as_current_span("work"):
            async with traced.database.read_sessions() as session:
                await session.scalar(text("SELECT CAST(:secret AS text)"), {"secret": "ada@example.test"})

    (statement,), (work,) = collector.named("SELECT"), collector.named("work")
    assert (statement.trace_id, statement.parent_id, statement.kind) == (work.trace_id, work.id, "CLIENT")
    assert statement.attributes == {"db.system.name": "postgresql", "db.query.text": "SELECT CAST($1 AS text)"}
    assert "ada@example.test" not in statement.text


async def test_a_statement_that_belongs_to_nothing_is_no_trace(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced, traced.database.sessions.begin() as session:
        await session.execute(text("SELECT 1"))

    assert collector.spans == []


async def test_a_statement_that_fails_shows_the_class_of_the_error_alone(
    collector: Collector, tracing: Tracing
) -> None:
    twice = text("INSERT INTO job_queues (name) VALUES (:name), (:name)")
    async with tracing() as traced:
        with traced.tracer.start_as_current_span("work"), pytest.raises(IntegrityError):
            async with traced.database.sessions.begin() as session:
                await session.execute(twice, {"name": "hers"})

    (statement,) = collector.named("INSERT")
    assert statement.failed
    assert statement.attributes["error.type"] == "UniqueViolationError"
    assert "hers" not in statement.text


async def test_a_statement_that_fails_for_nobody_leaves_no_span(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced, traced.database.sessions() as session:
        with pytest.raises(ProgrammingError):
            await session.execute(text("SELECT nothing"))

    assert collector.spans == []


async def test_a_connection_that_cannot_be_made_leaves_no_span(
    collector: Collector, open_with: OpenWith, refusing_url: str
) -> None:
    traces = DatabaseTraces(collector.endpoint, 1.0, "app-db")

    async with open_with(url=refusing_url) as database, traces.tracing(database):
        with traces.provider.get_tracer("test").start_as_current_span("work"), pytest.raises(NoAnswer):
            async with database.sessions() as session:
                await session.execute(text("SELECT 1"))

    assert [span.name for span in collector.spans] == ["work"]


async def test_a_job_carries_the_trace_of_who_enqueued_it(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced:
        with traced.tracer.start_as_current_span("work"):
            async with traced.database.sessions.begin() as session:
                await enqueue(session, WelcomeEmail(user_id=new_id()))
        stored = await traceparents(traced.database)

    (work,), (enqueued,), (insert,) = (collector.named(name) for name in ("work", "enqueue email.welcome", "INSERT"))
    assert stored == [f"00-{work.trace_id}-{enqueued.id}-{SAMPLED}"]
    assert (enqueued.parent_id, enqueued.kind, insert.parent_id) == (work.id, "PRODUCER", enqueued.id)


async def test_many_jobs_carry_the_trace_in_one_statement(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced:
        async with traced.database.sessions.begin() as session:
            with assert_queries(traced.database, max=1):
                await enqueue_many(session, [PruneSessions(), WelcomeEmail(user_id=new_id())])
        stored = await traceparents(traced.database)

    (enqueued,) = collector.named("enqueue jobs")
    assert stored == [f"00-{enqueued.trace_id}-{enqueued.id}-{SAMPLED}"] * 2
    assert enqueued.attributes == {"messaging.batch.message_count": 2}


async def test_a_unique_job_carries_the_trace_of_its_first_enqueue(tracing: Tracing) -> None:
    async with tracing() as traced:
        for _ in range(2):
            async with traced.database.sessions.begin() as session:
                await enqueue(session, PruneSessions(), unique=Unique())
        stored = await traceparents(traced.database)

    assert len(stored) == 1
    assert stored[0] is not None


async def test_what_is_not_sampled_is_not_sampled_in_its_jobs(collector: Collector, tracing: Tracing) -> None:
    async with tracing(sample=0) as traced:
        async with traced.database.sessions.begin() as session:
            await enqueue(session, PruneSessions())
        (stored,) = await traceparents(traced.database)

    assert stored is not None
    assert stored.endswith(f"-{NOT_SAMPLED}")
    assert collector.spans == []


async def test_a_job_carries_no_trace_where_nothing_traces(database: Database) -> None:
    async with database.sessions.begin() as session:
        await enqueue(session, PruneSessions())

    assert await traceparents(database) == [None]


async def test_an_attempt_is_part_of_what_enqueued_its_job(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced:
        async with traced.database.sessions.begin() as session:
            job_id = await enqueue(session, PruneSessions())
        with traced.tracer.start_as_current_span("something else"):
            async with attempt(traced, job_id) as told:
                told("completed", None)

    (enqueued,), (run,) = collector.named("enqueue sessions.prune"), collector.named("run sessions.prune")
    assert (run.trace_id, run.parent_id, run.kind) == (enqueued.trace_id, enqueued.id, "CONSUMER")
    assert run.attributes == {"messaging.message.id": str(job_id), "job.attempt": 1, "job.outcome": "completed"}
    assert not run.failed


async def test_an_attempt_that_fails_shows_the_class_of_the_error_alone(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced:
        async with traced.database.sessions.begin() as session:
            job_id = await enqueue(session, PruneSessions())
        async with attempt(traced, job_id) as told:
            told("failed", ValueError("ada@example.test"))

    (run,) = collector.named("run sessions.prune")
    assert run.failed
    assert (run.attributes["job.outcome"], run.attributes["error.type"]) == ("failed", "ValueError")
    assert "ada@example.test" not in run.text


async def test_an_attempt_that_is_ended_from_outside_has_failed(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traced:
        async with traced.database.sessions.begin() as session:
            job_id = await enqueue(session, PruneSessions())
        with pytest.raises(asyncio.CancelledError):
            async with attempt(traced, job_id):
                raise asyncio.CancelledError

    (run,) = collector.named("run sessions.prune")
    assert (run.failed, run.attributes["error.type"]) == (True, "CancelledError")


async def test_a_job_that_carries_no_trace_begins_one(
    collector: Collector, tracing: Tracing, database: Database
) -> None:
    async with database.sessions.begin() as session:
        job_id = await enqueue(session, PruneSessions())

    async with tracing() as traced, attempt(traced, job_id):
        pass

    (run,) = collector.named("run sessions.prune")
    assert run.parent_id == ""


def test_nothing_traces_unless_a_collector_is_named() -> None:
    settings = TracingSettings()

    assert traces_of(settings, service="app-db") is None
    assert log_processors(settings, service="app-db") == []


def test_a_named_collector_is_where_spans_go(collector: Collector) -> None:
    settings = TracingSettings.model_validate({"endpoint": collector.endpoint})

    traces = traces_of(settings, service="app-db")

    assert traces is not None
    assert traces.endpoint == collector.endpoint
    assert log_processors(settings, service="app-db") == [add_trace_id]


def test_whoever_wants_traces_without_the_extra_is_told_what_to_install() -> None:
    error = output_of("""
        import sys
        from app_runtime.configuration import Misconfigured
        from app_runtime.telemetry.trace_settings import TracingSettings
        from app_db.telemetry.trace_setup import traces_of
        sys.modules["opentelemetry"] = None  # as Python marks what is not there
        try:
            traces_of(TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces"), service="app-db")
        except Misconfigured as error:
            print(error)
    """)

    assert error == "APP_TRACING__ENDPOINT: needs app-db[tracing]; opentelemetry.context is missing"


def test_opentelemetry_is_not_imported_where_nothing_traces() -> None:
    imported = output_of("""
        import sys
        import app_db.jobs.outbox, app_runtime.telemetry.logs
        from app_runtime.telemetry.trace_settings import TracingSettings, log_processors
        from app_db.telemetry.trace_setup import traces_of
        traces_of(TracingSettings(), service="app-db"), log_processors(TracingSettings(), service="app-db")
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """)

    assert imported == "[]"


def output_of(program: str) -> str:
    command = [sys.executable, "-c", dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@asynccontextmanager
async def attempt(traced: Traced, job_id: UUID) -> AsyncIterator[Callable[[str, BaseException | None], None]]:
    async with traced.database.sessions.begin() as session:
        delivery = await dispatch(session, job_id)
        assert delivery is not None
        job = await ledger.start(session, delivery, Starter(new_id(), [], timedelta(seconds=9)))
        assert job is not None
        with traced.traces.job(delivery, job) as told:
            yield told


async def traceparents(database: Database) -> list[str | None]:
    async with database.read_sessions() as session:
        return list(await session.scalars(select(Job.traceparent)))
