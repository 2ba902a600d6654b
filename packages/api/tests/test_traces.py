"""Traces in the API: one span for each request, named by its route, without any text that users typed."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from httpx2 import AsyncClient

from app_api.app import create_app
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.testing import new_key
from app_db.types import new_id
from app_runtime.telemetry.trace_settings import TracingSettings
from app_runtime.testing.collector import CollectedSpan, Collector

pytestmark = pytest.mark.integration

type Tracing = Callable[[], AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture
def spans() -> list[CollectedSpan]:
    """The spans that were sent, once `tracing` has ended."""
    return []


@pytest.fixture
def tracing(api_settings: ApiSettings, spans: list[CollectedSpan]) -> Tracing:
    """Run an API that traces all; one of its routes has a fault."""

    @asynccontextmanager
    async def trace() -> AsyncIterator[AsyncClient]:
        with Collector() as collector:
            settings = TracingSettings.model_validate({"endpoint": collector.endpoint, "sample": 1})
            app = create_app(api_settings.model_copy(update={"tracing": settings}))

            @app.get("/faults/{name}")
            async def fault(name: str) -> None:
                raise RuntimeError("ada@example.test")

            async with open_client(app) as client:
                yield client
            spans.extend(collector.spans)

    return trace


async def test_a_request_is_a_span_of_its_route_with_its_sql(
    tracing: Tracing, spans: list[CollectedSpan], signed_in: SignedIn
) -> None:
    async with tracing() as client:
        await client.get(f"/jobs/{new_id()}", headers=signed_in.headers)

    request = spans[-1]
    assert (request.name, request.kind, request.parent_id) == ("GET /jobs/{job_id}", "SERVER", "")
    assert request.attributes["http.response.status_code"] == 404
    assert {(span.kind, span.parent_id) for span in spans[:-1]} == {("CLIENT", request.id)}


async def test_a_span_has_the_path_as_it_came(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    """OpenTelemetry's HTTP conventions take `url.path` from the URI: decoded it is another one (RFC 9457, 3.1.5)."""
    async with tracing() as client:
        problem = assert_problem(await client.get("/x%3Fy%23z?secret=1"), 404, "not_found")

    assert problem["instance"] == "/x%3Fy%23z"
    assert spans[-1].attributes["url.path"] == "/x%3Fy%23z"


async def test_no_span_holds_the_query_of_a_url(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    async with tracing() as client:
        await client.get("/jobs?name=wellington")

    (request,) = spans
    assert "wellington" not in request.text


async def test_what_no_route_takes_is_named_by_its_method_alone(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    async with tracing() as client:
        assert_problem(await client.get("/nowhere"), 404, "not_found")

    assert [span.name for span in spans] == ["GET"]


async def test_a_fault_fails_its_span_and_shows_nothing_of_itself(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    async with tracing() as client:
        problem = assert_problem(await client.get("/faults/1"), 500, "internal_error")

    (request,) = spans
    assert (request.name, request.failed) == ("GET /faults/{name}", True)
    assert request.attributes["error.type"] == "500"
    assert "ada@example.test" not in request.text
    assert request.trace_id not in str(problem)


async def test_probes_are_not_traced(tracing: Tracing, spans: list[CollectedSpan]) -> None:
    async with tracing() as client:
        await client.get("/probe/ready")

    assert spans == []


@pytest.mark.parametrize("given", ["", "00-0-0-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "x" * 8000])
async def test_a_traceparent_that_is_none_begins_a_trace(
    tracing: Tracing, spans: list[CollectedSpan], given: str
) -> None:
    async with tracing() as client:
        await client.get("/auth/me", headers={"traceparent": given})

    assert [span.parent_id for span in spans] == [""]


GLOBAL = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from httpx2 import ASGITransport, AsyncClient
from app_api.app import create_app
from app_api.settings import ApiSettings

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


async def ask() -> None:
    app = create_app(ApiSettings.model_validate_json(sys.argv[1]))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
        await client.get("/nowhere?secret=1")


asyncio.run(ask())
print([span.name for span in exporter.get_finished_spans()])
"""


@pytest.mark.parametrize("traces", [False, True])
def test_a_global_provider_of_the_environment_gets_no_spans_of_ours(api_settings: ApiSettings, *, traces: bool) -> None:
    """FastAPI 0.165 sends four spans a request, with the query, to a global TracerProvider that an agent has set."""
    document = json.loads(api_settings.model_dump_json())
    document["database"]["url"] = "postgresql://app@127.0.0.1:1/none_test"
    document["redis"]["url"] = "redis://127.0.0.1:1/0"
    for ring in ("keys", "refresh_keys", "token_keys", "peppers"):
        document["auth"][ring] = [{"kid": "1", "secret": new_key().secret.get_secret_value()}]
    document["tracing"]["endpoint"] = "http://127.0.0.1:1/v1/traces" if traces else None

    run = subprocess.run(
        [sys.executable, "-c", GLOBAL, json.dumps(document)], capture_output=True, text=True, check=True
    )

    assert run.stdout.splitlines()[-1] == "[]"


def test_an_api_that_does_not_trace_loads_nothing_that_would() -> None:
    # FastAPI itself imports the bare interface, opentelemetry-api.
    program = """
import sys, app_api.main
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "google"))])
"""

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
