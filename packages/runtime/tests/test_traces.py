"""Traces: sampling, trace ids on log lines, and spans that no collector takes."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from textwrap import dedent

import pytest
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from app_runtime.telemetry.trace_settings import TracingSettings, log_processors
from app_runtime.telemetry.traces import ASKED_PER_SECOND, Traces, add_trace_id
from app_runtime.testing.collector import Collector

type Tracing = Callable[..., AbstractAsyncContextManager[Traces]]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def tracing(collector: Collector) -> Tracing:
    """Trace during a block; at its end all spans have been sent."""

    @asynccontextmanager
    async def trace(*, sample: float = 1.0) -> AsyncIterator[Traces]:
        traces = Traces(collector.endpoint, sample, "app-runtime")
        async with traces.sending():
            yield traces

    return trace


async def test_callers_get_only_so_many_traces_in_a_second(tracing: Tracing) -> None:
    asks = SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    parent = set_span_in_context(NonRecordingSpan(asks))
    async with tracing() as traced:
        traced_requests = sum(
            traced.tracer.start_span("GET", parent, SpanKind.SERVER).is_recording()
            for _ in range(100 * ASKED_PER_SECOND)
        )

    assert ASKED_PER_SECOND <= traced_requests < 50 * ASKED_PER_SECOND


async def test_a_request_that_nobody_asks_to_trace_is_sampled_as_set(tracing: Tracing) -> None:
    async with tracing(sample=0) as none, tracing(sample=1) as every:
        sampled = [
            [process.tracer.start_span("GET", kind=SpanKind.SERVER).is_recording() for _ in range(100)]
            for process in (none, every)
        ]

    assert sampled == [[False] * 100, [True] * 100]


async def test_a_line_of_a_trace_names_it(tracing: Tracing) -> None:
    async with tracing() as traced:
        with traced.tracer.start_as_current_span("work") as span:
            line = add_trace_id(None, "info", {"event": "seen"})

    assert line == {"event": "seen", "trace_id": format_trace_id(span.get_span_context().trace_id)}


def test_a_line_of_no_trace_names_none() -> None:
    assert not get_current_span().is_recording()
    assert add_trace_id(None, "info", {"event": "seen"}) == {"event": "seen"}


async def test_a_frozen_collector_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # it accepts, and says nothing
        traces = Traces(f"http://127.0.0.1:{frozen.getsockname()[1]}/v1/traces", 1.0, "app-runtime")
        async with asyncio.timeout(8):  # it promises two seconds more; OpenTelemetry's own patience is ten and thirty
            async with traces.sending():
                traces.provider.get_tracer("test").start_span("work").end()


async def test_a_block_that_fails_shows_the_class_of_its_error_alone(collector: Collector, tracing: Tracing) -> None:
    async with tracing() as traces:
        with pytest.raises(ValueError, match="secret"), traces.span("work", SpanKind.INTERNAL, {}):
            raise ValueError("secret")

    (span,) = collector.named("work")
    assert (span.attributes["error.type"], span.failed) == ("ValueError", True)


def test_the_log_names_no_trace_unless_a_collector_is_named() -> None:
    assert log_processors(TracingSettings(), service="app-runtime") == []


def test_the_log_names_traces_where_a_collector_is_named(collector: Collector) -> None:
    settings = TracingSettings.model_validate({"endpoint": collector.endpoint})

    assert log_processors(settings, service="app-runtime") == [add_trace_id]


@pytest.mark.measured
def test_a_log_that_wants_traces_without_the_extra_says_what_to_install() -> None:
    error = output_of("""
        import sys
        from app_runtime.configuration import Misconfigured
        from app_runtime.telemetry.trace_settings import TracingSettings, log_processors
        sys.modules["opentelemetry"] = None  # as Python marks what is not there
        try:
            log_processors(TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces"), service="app-runtime")
        except Misconfigured as error:
            print(error)
    """)

    assert error == "APP_TRACING__ENDPOINT: needs app-runtime[tracing]; opentelemetry.context is missing"


def output_of(program: str) -> str:
    command = [sys.executable, "-c", dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
