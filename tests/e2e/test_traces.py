"""Traces across processes: the spans that a real API and real workers send to a collector."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.settings import DatabaseSettings
from app_runtime.testing.collector import CollectedSpan, Collector

from .conftest import Environment, StartWorker, api_environment
from .http_site import NO_LIMITS
from .processes import KINDS_OF_CRONS, Api, MailSink, until

pytestmark = pytest.mark.timeout(300)  # each starts several processes

type StartApi = Callable[[str], Api]

ADDRESS = "ada@example.test"
FEW = {"OTEL_BSP_MAX_QUEUE_SIZE": "50", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"}
"""A queue of spans so small that a test soon overfills it."""
STRANGERS_TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def start_api(
    database: Database, database_settings: DatabaseSettings, valkey_url: str, tmp_path: Path
) -> Iterator[StartApi]:
    """Start an API that sends all traces to an endpoint."""
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url)
    environment |= {**NO_LIMITS, "APP_AUTH__VERIFICATION": "off"}
    apis: list[Api] = []

    def start(endpoint: str) -> Api:
        apis.append(Api(env=environment | tracing(endpoint), log=tmp_path / f"api-{len(apis)}.log"))
        return apis[-1]

    yield start
    for api in apis:
        api.kill()


def tracing(endpoint: str) -> Environment:
    return {"APP_TRACING__ENDPOINT": endpoint, "APP_TRACING__SAMPLE": "1", **FEW}


async def register(api: Api, **headers: str) -> None:
    async with AsyncClient(base_url=api.url, timeout=90) as client:
        body = {"email": ADDRESS, "password": PASSWORD}
        response = await client.post("/auth/register", json=body, headers=headers)
        assert response.status_code in {201, 202}, response.text


def ancestors(span: CollectedSpan, spans: list[CollectedSpan]) -> list[str]:
    """Return the names of the span's ancestors, the nearest first."""
    by_id = {each.id: each for each in spans}
    names = []
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names


def traces_of_crons(collector: Collector) -> set[str]:
    """Return the traces that a worker begins by itself: those of crons, one of which ticks each minute."""
    enqueued = {f"enqueue {kind}" for kind in KINDS_OF_CRONS}
    return {span.trace_id for span in collector.spans if span.name in enqueued and span.parent_id == ""}


async def test_a_request_its_sql_its_job_and_the_sql_of_that_are_one_trace(
    start_api: StartApi, start_worker: StartWorker, mail_sink: MailSink, collector: Collector
) -> None:
    api, worker = start_api(collector.endpoint), start_worker(**tracing(collector.endpoint))

    await register(api)
    await until(lambda: mail_sink.to(ADDRESS), "the mail has come")
    assert (api.stop(), worker.stop()) == (0, 0)

    (request,) = collector.named("POST /auth/register")
    spans = [span for span in collector.spans if span.trace_id == request.trace_id]
    (enqueue,), (run,) = (
        [each for each in spans if each.name == f"{what} email.welcome"] for what in ("enqueue", "run")
    )
    statements = [(span.service, *ancestors(span, spans)) for span in spans if span.kind == "CLIENT"]
    assert request.parent_id == ""
    assert (request.service, enqueue.service, run.service) == ("app-api", "app-api", "app-worker")
    assert (enqueue.parent_id, run.parent_id) == (request.id, enqueue.id)
    assert ("app-api", "POST /auth/register") in statements
    assert ("app-api", "enqueue email.welcome", "POST /auth/register") in statements
    assert ("app-worker", "run email.welcome", "enqueue email.welcome", "POST /auth/register") in statements
    assert run.attributes["job.outcome"] == "completed"
    others = [span for span in collector.spans if span.trace_id not in {request.trace_id, *traces_of_crons(collector)}]
    assert others == []
    assert not [span for span in spans if ADDRESS in span.text or PASSWORD in span.text]


async def test_the_lines_of_a_request_and_of_its_job_name_the_trace(
    start_api: StartApi, start_worker: StartWorker, mail_sink: MailSink, collector: Collector
) -> None:
    api = start_api(collector.endpoint)
    worker = start_worker(**tracing(collector.endpoint), APP_LOG__LEVEL="DEBUG")

    await register(api)
    await until(worker.ends_of_jobs, "the job has ended")
    assert (api.stop(), worker.stop()) == (0, 0)

    (request,) = collector.named("POST /auth/register")
    (answered,) = [line for line in api.lines if line["event"] == "request_finished"]
    (ended,) = worker.ends_of_jobs()
    of_the_job = [line for line in worker.lines if line.get("job_id") == ended["job_id"]]
    assert answered["trace_id"] == request.trace_id
    assert "job_ended" in {line["event"] for line in of_the_job}
    assert {line["trace_id"] for line in of_the_job} == {request.trace_id}


async def test_a_caller_may_bring_the_trace(start_api: StartApi, collector: Collector) -> None:
    api = start_api(collector.endpoint)

    await register(api, traceparent=f"00-{STRANGERS_TRACE}-b7ad6b7169203331-01")
    assert api.stop() == 0

    (request,) = collector.named("POST /auth/register")
    assert (request.trace_id, request.parent_id) == (STRANGERS_TRACE, "b7ad6b7169203331")


async def test_a_job_keeps_its_trace_when_its_worker_is_killed(
    start_api: StartApi, start_worker: StartWorker, mail_sink: MailSink, collector: Collector
) -> None:
    mail_sink.stalling = True
    api, first = start_api(collector.endpoint), start_worker(**tracing(collector.endpoint))
    await register(api)
    await until(lambda: mail_sink.stalled, "the mail is being sent")

    first.kill()
    mail_sink.stalling = False
    second = start_worker(**tracing(collector.endpoint))
    await until(lambda: mail_sink.to(ADDRESS), "the mail has come")
    assert (api.stop(), second.stop()) == (0, 0)

    (request,), (enqueue,) = collector.named("POST /auth/register"), collector.named("enqueue email.welcome")
    (run,) = collector.named("run email.welcome")  # the first worker's span died with it
    assert (run.trace_id, run.parent_id) == (request.trace_id, enqueue.id)


async def test_a_frozen_collector_slows_no_request_and_no_end(
    start_api: StartApi, start_worker: StartWorker, mail_sink: MailSink
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # it accepts, and says nothing
        endpoint = f"http://127.0.0.1:{frozen.getsockname()[1]}/v1/traces"
        api, worker = start_api(endpoint), start_worker(**tracing(endpoint))
        async with AsyncClient(base_url=api.url, timeout=5) as client:
            answers = [(await client.get("/auth/me")).status_code for _ in range(100)]
        await register(api)
        await until(lambda: mail_sink.to(ADDRESS), "the mail has come")

        # An idle process is promised to end within two seconds; OpenTelemetry alone would wait for thirty.
        for process in (api, worker):
            process.signal(signal.SIGTERM)
        async with asyncio.timeout(12):
            await until(lambda: not api.is_running() and not worker.is_running(), "both have ended")

    assert set(answers) == {401}
    assert (api.stop(), worker.stop()) == (0, 0)
