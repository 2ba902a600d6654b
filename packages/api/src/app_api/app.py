"""Builds the FastAPI application."""

from collections.abc import Mapping
from importlib.metadata import version
from threading import Event

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import Scope

from app_api import health
from app_api.admission import PROBES, STREAMS, Admission
from app_api.cors import Preflights
from app_api.description import describe_passwords
from app_api.direct_routes import DirectRoutes
from app_api.docs import add_docs
from app_api.idempotency import add_repetitions, keep_answers
from app_api.input_guard import InputGuard
from app_api.lifespan import lifespan_of
from app_api.link_page import add_link_page
from app_api.metrics import Metrics
from app_api.middleware import AllowedHosts, HeadAsGet, RequestContext
from app_api.operation_ids import operation_id
from app_api.optional import add_console, has_console
from app_api.problems import add_problem_handlers, any_problem
from app_api.reading import BodyLimits
from app_api.resources import RESOURCES, require_resources
from app_api.routers import found_routers, in_order
from app_api.scopes import describe_keys, scopes_of
from app_api.settings import ApiSettings, HttpSettings
from app_api.streams import stream_paths
from app_db.telemetry.trace_setup import Tracing, traces_of
from app_runtime.resources import Resource

FOUND = [*found_routers("app_api.features"), (health.__name__, health.router)]
keep_answers(router for _, router in FOUND)
ROUTERS: tuple[APIRouter, ...] = in_order(FOUND)
ALL_STREAMS = STREAMS | stream_paths(ROUTERS)


def create_app(
    settings: ApiSettings,
    *,
    stopping: Event | None = None,
    resources: Mapping[type, Resource] = RESOURCES,
    origins: Mapping[str, str] | None = None,
) -> FastAPI:
    """Build the application; it opens nothing before its lifespan starts.

    Args:
        settings: of the API and its features.
        stopping: once it is set, `/probe/ready` fails, so that balancers send no more requests.
        resources: what routes may ask for, by type.
        origins: where the settings come from (`app_runtime.configuration.origins_of`), for the console.

    Raises:
        FeatureError: a route asks for a resource that no feature opens.
    """
    require_resources(ROUTERS, resources)
    stopping, metrics = stopping or Event(), Metrics()
    traces = traces_of(settings.tracing, service="app-api")
    app = FastAPI(
        title="Groundwork",
        version=version("app-api"),
        lifespan=lifespan_of(settings, stopping, metrics, traces, resources=resources),
        openapi_url="/openapi.json" if settings.docs_enabled else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=any_problem(),
        generate_unique_id_function=operation_id,
        telemetry=_telemetry(traces),
    )
    _add_routes(app, settings)
    add_middleware(app, settings.http, stopping=stopping, metrics=metrics, traces=traces)
    add_console(app, settings, origins or {}, stopping=stopping)  # last, because its middleware has to be the outermost
    return app


def _add_routes(app: FastAPI, settings: ApiSettings) -> None:
    for router in ROUTERS:
        app.include_router(router)
    if settings.docs_enabled:
        add_docs(app)
    min_length = settings.auth.password_min_length
    is_shown = settings.console_enabled and has_console()
    add_link_page(app, at_root=not settings.docs_enabled, min_length=min_length, has_console=is_shown)
    app.router.middleware_stack = DirectRoutes(app)
    add_problem_handlers(app)
    add_repetitions(app)
    describe_passwords(app, min_length=min_length)
    describe_keys(app)
    app.state.scopes = scopes_of(ROUTERS)


def _telemetry(traces: Tracing) -> TelemetryConfig:
    """Let FastAPI record the span of each request, if traces are on, and nothing else."""
    return {
        "tracing": traces is not None,
        "tracer_provider": traces.provider if traces else None,
        "exclude": _is_probe,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
    }


def _is_probe(scope: Scope) -> bool:
    return scope["path"] in PROBES


def add_middleware(
    app: FastAPI, http: HttpSettings, *, stopping: Event, metrics: Metrics, traces: Tracing = None
) -> None:
    """Add the middleware that every request passes; the last one added is the outermost."""
    app.add_middleware(HeadAsGet)  # guard: test_head_has_the_status_and_headers_of_get
    app.add_middleware(
        Admission,
        max_requests=http.max_requests,
        request_timeout=http.request_timeout,
        stopping=stopping,
        drain=http.drain,
        streams=ALL_STREAMS,
    )
    limits = BodyLimits(http.max_body, http.max_auth_body, http.body_timeout.total_seconds())
    app.add_middleware(InputGuard, limits=limits)  # guard: test_what_is_not_strict_json_is_refused
    if http.origins:
        app.add_middleware(Preflights, origins=http.origins)
    app.add_middleware(AllowedHosts, hosts=http.allowed_hosts)  # guard: test_another_host_is_refused
    app.add_middleware(
        RequestContext, http=http, stopping=stopping, metrics=metrics, streams=ALL_STREAMS, traces=traces
    )
