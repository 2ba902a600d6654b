"""Traces by OpenTelemetry: a request, its SQL, the jobs that it enqueues and their SQL are one trace (ADR-0050).

No span holds what users typed: SQL is without its parameters, an error is only its class, a URL is without its query.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from threading import Thread
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from structlog.typing import EventDict, WrappedLogger

from app_db.engine import Database
from app_db.jobs.ledger import Delivery, StartedJob
from app_db.jobs.outbox import TRACE

ASKED_PER_SECOND = 10
"""So many requests in a second are traced because their caller asks for it: strangers must not choose our cost."""
LAST_WORDS = 2.0
"""Seconds that a process that stops gives the collector to take what is left."""
LONGEST = 2048
"""Characters of an attribute, such as the text of a statement or a path."""

_TRACE_CONTEXT = TraceContextTextMapPropagator()


class Traces:
    """What traces one process, into no global of OpenTelemetry's."""

    def __init__(self, endpoint: str, sample: float, service: str) -> None:
        self.endpoint = endpoint
        self.provider = TracerProvider(
            sampler=_Edge(sample),
            resource=Resource.create({"service.name": service, "service.version": version(service)}),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=LONGEST),
        )
        self._tracer = self.provider.get_tracer(__name__)

    @asynccontextmanager
    async def sending(self, database: Database) -> AsyncIterator[None]:
        """Trace the SQL and the jobs of `database`, and send all spans during the block; for use once.

        A thread sends them. A collector that is slow, frozen or away costs spans, of which 2,048 wait at most, and at
        the end up to two seconds.
        """
        for engine in {*database.engines.values()}:
            _trace_sql(engine.sync_engine, self._begin_sql)
        database.sessions.kw["info"][TRACE] = self._enqueue
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(self.endpoint)))
        try:
            yield
        finally:
            # A daemon: the library itself would wait for half a minute.
            closing = Thread(target=self.provider.shutdown, name="last spans", daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, LAST_WORDS)

    def name_path(self, path: str) -> None:
        """Give the span of the current request its path as it came; FastAPI writes the decoded one."""
        get_current_span().set_attribute("url.path", path)

    @contextmanager
    def job(self, delivery: Delivery, job: StartedJob) -> Iterator[Callable[[str, BaseException | None], None]]:
        """Trace one attempt as part of what enqueued it; gives what to tell the outcome to, and the error if any."""
        # A context of its own, so that nothing around the runner becomes the parent.
        parent = _TRACE_CONTEXT.extract({"traceparent": job.traceparent or ""}, Context())
        about: Attributes = {"messaging.message.id": str(delivery.id), "job.attempt": job.attempt}
        with self._span(f"run {job.kind}", SpanKind.CONSUMER, about, parent) as span:

            def ended(outcome: str, error: BaseException | None) -> None:
                span.set_attribute("job.outcome", outcome)
                if error is not None:
                    _fail(span, error)

            yield ended

    @contextmanager
    def _enqueue(self, kinds: Sequence[str]) -> Iterator[str]:
        name = kinds[0] if len({*kinds}) == 1 else "jobs"
        with self._span(f"enqueue {name}", SpanKind.PRODUCER, {"messaging.batch.message_count": len(kinds)}):
            carrier: dict[str, str] = {}
            _TRACE_CONTEXT.inject(carrier)
            yield carrier["traceparent"]

    @contextmanager
    def _span(self, name: str, kind: SpanKind, about: Attributes, parent: Context | None = None) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, parent, kind, about, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                _fail(span, error)
                raise

    def _begin_sql(self, statement: str) -> Span | None:
        if not get_current_span().is_recording():  # what nobody asked for, such as a heartbeat, is no trace of its own
            return None
        about = {"db.system.name": "postgresql", "db.query.text": statement}
        return self._tracer.start_span(statement.split(maxsplit=1)[0], kind=SpanKind.CLIENT, attributes=about)


class _Edge(ParentBased):
    """Samples what its parent is, and of the rest a part; of requests whose callers ask for it, so many in a second."""

    def __init__(self, sample: float) -> None:
        super().__init__(TraceIdRatioBased(sample))
        self._left = float(ASKED_PER_SECOND)
        self._since = time.monotonic()

    def should_sample(  # noqa: PLR0917  # as OpenTelemetry has it
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if kind is SpanKind.SERVER:
            asked = get_current_span(parent_context).get_span_context().trace_flags.sampled
            if asked and not self._take():
                return SamplingResult(Decision.DROP)  # guard: test_callers_get_only_so_many_traces_in_a_second
        about = dict(attributes or {})
        about.pop("url.query", None)  # guard: test_no_span_holds_the_query_of_a_url
        return super().should_sample(parent_context, trace_id, name, kind, about, links, trace_state)

    def _take(self) -> bool:
        now = time.monotonic()
        self._left = min(ASKED_PER_SECOND, self._left + (now - self._since) * ASKED_PER_SECOND)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def add_trace_id(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Add `trace_id` to a line of the log that belongs to a trace; a processor of structlog."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event_dict["trace_id"] = format_trace_id(context.trace_id)
    return event_dict


def _fail(span: Span, error: BaseException) -> None:
    """Say that it failed, and not why: messages hold what users typed. The log has them under the same trace id."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)


def _trace_sql(engine: Engine, begin: Callable[[str], Span | None]) -> None:
    @event.listens_for(engine, "before_cursor_execute", named=True)
    def before(statement: str, context: Any, **_: Any) -> None:  # Any: SQLAlchemy's, made for one execution
        context.span = begin(statement)

    @event.listens_for(engine, "after_cursor_execute", named=True)
    def after(context: Any, **_: Any) -> None:
        if context.span is not None:
            context.span.end()

    # First, for the others raise what they make of the error.
    @event.listens_for(engine, "handle_error", insert=True)
    def failed(failure: ExceptionContext) -> None:
        span: Span | None = getattr(failure.execution_context, "span", None)
        if span is not None and span.is_recording():
            _fail(span, failure.original_exception)
            span.end()
