"""Traces of SQL and jobs: a request, its SQL, the jobs that it enqueues and their SQL are one trace (ADR-0050).

No span holds input of users: SQL is recorded without its parameters.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from app_db.engine import Database
from app_db.jobs.ledger import Delivery, StartedJob
from app_db.jobs.outbox import TRACE
from app_runtime.telemetry.traces import Traces, fail

_TRACE_CONTEXT = TraceContextTextMapPropagator()


class DatabaseTraces(Traces):
    """Traces of one process, with its SQL and its jobs."""

    @asynccontextmanager
    async def tracing(self, database: Database) -> AsyncIterator[None]:
        """Trace the SQL and the jobs of `database`, and send all spans during the block; for use once."""
        for engine in {*database.engines.values()}:
            _trace_sql(engine.sync_engine, self._begin_sql)
        database.sessions.kw["info"][TRACE] = self._enqueue
        database.trace_call = self._call
        async with self.sending():
            yield

    @contextmanager
    def job(self, delivery: Delivery, job: StartedJob) -> Iterator[Callable[[str, BaseException | None], None]]:
        """Trace one attempt, in the trace of its `enqueue`; yields a function that takes the outcome and the error."""
        # A context of its own, so that nothing around the runner becomes the parent.
        parent = _TRACE_CONTEXT.extract({"traceparent": job.traceparent or ""}, Context())
        about: Attributes = {"messaging.message.id": str(delivery.id), "job.attempt": job.attempt}
        with self.span(f"run {job.kind}", SpanKind.CONSUMER, about, parent) as span:

            def ended(outcome: str, error: BaseException | None) -> None:
                span.set_attribute("job.outcome", outcome)
                if error is not None:
                    fail(span, error)

            yield ended

    @contextmanager
    def _enqueue(self, kinds: Sequence[str]) -> Iterator[str]:
        name = kinds[0] if len({*kinds}) == 1 else "jobs"
        with self.span(f"enqueue {name}", SpanKind.PRODUCER, {"messaging.batch.message_count": len(kinds)}):
            carrier: dict[str, str] = {}
            _TRACE_CONTEXT.inject(carrier)
            yield carrier["traceparent"]

    @contextmanager
    def _call(self, statement: str) -> Iterator[None]:
        """Trace the share of a request in a query of several, which has no span of its own."""
        span = self._begin_sql(statement)
        try:
            yield
        except BaseException as error:
            if span is not None:
                fail(span, error)
            raise
        finally:
            if span is not None:
                span.end()  # guard: test_each_call_of_a_shared_query_is_a_span

    def _begin_sql(self, statement: str) -> Span | None:
        if not get_current_span().is_recording():  # SQL outside of requests and jobs, such as a heartbeat, has no span
            return None
        about = {"db.system.name": "postgresql", "db.query.text": statement}
        return self.tracer.start_span(statement.split(maxsplit=1)[0], kind=SpanKind.CLIENT, attributes=about)


def _trace_sql(engine: Engine, begin: Callable[[str], Span | None]) -> None:
    @event.listens_for(engine, "before_cursor_execute", named=True)
    def before(statement: str, context: Any, **_: Any) -> None:  # Any: SQLAlchemy's, made for one execution
        context.span = begin(statement)

    @event.listens_for(engine, "after_cursor_execute", named=True)
    def after(context: Any, **_: Any) -> None:
        if context.span is not None:
            context.span.end()

    # Inserted first, because the other listeners raise errors of their own.
    @event.listens_for(engine, "handle_error", insert=True)
    def failed(failure: ExceptionContext) -> None:
        span: Span | None = getattr(failure.execution_context, "span", None)
        if span is not None and span.is_recording():
            fail(span, failure.original_exception)
            span.end()
