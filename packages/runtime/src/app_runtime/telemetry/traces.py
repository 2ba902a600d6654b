"""Traces by OpenTelemetry: work, and the work that it causes in other processes, are one trace (ADR-0050).

No span holds input of users: an error is only its class, a URL has no query.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, format_trace_id, get_current_span
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes
from structlog.typing import EventDict, WrappedLogger

ASKED_PER_SECOND = 10
"""How many requests in a second are traced because their callers ask: strangers must not decide our cost."""
LAST_WORDS = 2.0
"""Seconds that a stopping process gives the collector to accept the remaining spans."""
LONGEST = 2048
"""Characters of an attribute, such as the text of a statement or a path."""


class Traces:
    """The traces of one process, without OpenTelemetry's globals."""

    def __init__(self, endpoint: str, sample: float, service: str) -> None:
        self.endpoint = endpoint
        self.provider = TracerProvider(
            sampler=_Edge(sample),
            resource=Resource.create({"service.name": service, "service.version": version(service)}),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=LONGEST),
        )
        self.tracer = self.provider.get_tracer(__name__)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send all spans during the block; for use once.

        A thread sends them. At most 2,048 spans wait: a slow, frozen or missing collector loses the others, and delays
        the end by up to two seconds.
        """
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(self.endpoint)))
        try:
            yield
        finally:
            # A daemon thread, because the library itself would wait for half a minute.
            closing = Thread(target=self.provider.shutdown, name="last spans", daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, LAST_WORDS)

    def name_path(self, path: str) -> None:
        """Give the span of the current request its path as sent; FastAPI writes the decoded one."""
        get_current_span().set_attribute("url.path", path)

    @contextmanager
    def span(self, name: str, kind: SpanKind, about: Attributes, parent: Context | None = None) -> Iterator[Span]:
        """Trace a block as one span, which fails if the block does."""
        with self.tracer.start_as_current_span(
            name, parent, kind, about, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                fail(span, error)
                raise


class _Edge(ParentBased):
    """Samples children of sampled spans, for callers only so many in a second, and a share of all other spans."""

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


def fail(span: Span, error: BaseException) -> None:
    """Record that the span failed, without the message, which may hold input; the log has it, with the trace id."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)
